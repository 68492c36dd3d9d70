import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.causal import (
    SCM,
    Finite,
    Normal,
    Variable,
    decompose,
    natural_direct_effect,
    natural_indirect_effect,
    total_effect,
)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_theorem_3_holds_at_every_unit(seed):
    """Random functions on a continuous background, shared by all three variables."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.randn(4, generator=generator, dtype=torch.float64)
    model = SCM(
        {
            "X": Variable(lambda u: u[:, 0], noise="U"),
            "Z": Variable(lambda x, u: torch.sin(a * x) + x * u[:, 1] + u[:, 0] ** 2, parents=("X",), noise="U"),
            "Y": Variable(lambda x, z, u: b * x * z + torch.tanh(c * z + u[:, 1]) + d, parents=("X", "Z"), noise="U"),
        },
        noise={"U": Normal(covariance=[[1.0, 0.3], [0.3, 1.0]])},
    )
    parts = decompose(model, "X", "Y", x=1.5, reference=-0.5, units=model.sample(200, generator=generator))
    assert float(parts.residual) <= 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_separate_effects(binary_model, seed):
    model = binary_model(seed).model
    units = model.enumerate()
    there = {"x": 1, "reference": 0, "units": units, "mediators": ("Z",)}
    back = {"x": 0, "reference": 1, "units": units, "mediators": ("Z",)}
    parts = decompose(model, "X", "Y", **there)
    assert torch.equal(parts.total.per_unit, total_effect(model, "X", "Y", x=1, reference=0, units=units).per_unit)
    assert torch.equal(parts.natural_direct.per_unit, natural_direct_effect(model, "X", "Y", **there).per_unit)
    assert torch.equal(parts.natural_indirect.per_unit, natural_indirect_effect(model, "X", "Y", **there).per_unit)
    assert torch.equal(parts.reverse_natural_direct.per_unit, natural_direct_effect(model, "X", "Y", **back).per_unit)
    assert torch.equal(
        parts.reverse_natural_indirect.per_unit, natural_indirect_effect(model, "X", "Y", **back).per_unit
    )


@pytest.mark.parametrize(("a", "b", "c", "gamma"), [(2.0, 3.0, 5.0, 0.0), (2.0, 3.0, 5.0, 7.0), (-1.0, 0.5, 0.0, 1.0)])
def test_closed_forms(a, b, c, gamma):
    """Y = aX + cZ + gXZ + e, Z = bX + e: NDE, NIE and the gap g b (x - x*)^2, for centred noise, exactly."""
    x, reference = 2.0, -1.0
    step = x - reference
    centred = Finite([-1.0, 1.0], [0.5, 0.5])
    model = SCM(
        {
            "X": Variable(lambda: 0.0),
            "Z": Variable(lambda x, u: b * x + u, parents=("X",), noise=centred),
            "Y": Variable(lambda x, z, u: a * x + c * z + gamma * x * z + u, parents=("X", "Z"), noise=centred),
        }
    )
    parts = decompose(model, "X", "Y", x=x, reference=reference, units=model.enumerate())
    assert float(parts.natural_direct) == pytest.approx((a + gamma * b * reference) * step, abs=1e-12)
    assert float(parts.natural_indirect) == pytest.approx((c + gamma * reference) * b * step, abs=1e-12)
    assert float(parts.gap) == pytest.approx(gamma * b * step**2, abs=1e-12)
    if gamma == 0:
        assert float(parts.total) == pytest.approx((a + b * c) * step, abs=1e-12)


def test_the_paper_s_gate(and_gate):
    parts = decompose(and_gate, "X", "Y", x=1, reference=0, units=and_gate.enumerate())
    effects = (parts.total, parts.natural_direct, parts.natural_indirect, parts.reverse_natural_indirect)
    assert [float(effect) for effect in effects] == [1, 0, 0, -1]
    assert float(parts.gap) == 1
    assert float(parts.residual) == 0


def test_the_residual_sees_a_violation(and_gate):
    import dataclasses

    parts = decompose(and_gate, "X", "Y", x=1, reference=0, units=and_gate.enumerate())
    wrong = dataclasses.replace(parts, reverse_natural_indirect=parts.natural_indirect)  # forward instead of reverse
    assert float(wrong.residual) == 1

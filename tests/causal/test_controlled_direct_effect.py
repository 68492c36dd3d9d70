import pytest
import torch

from claimwise.causal import SCM, Normal, Variable, controlled_direct_effect


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_loop_over_units(binary_model, seed):
    twin = binary_model(seed)
    for z in (0, 1):
        effect = controlled_direct_effect(
            twin.model, "X", "Y", x=1, reference=0, mediators={"Z": z}, units=twin.model.enumerate()
        )
        expected = twin.expectation(
            lambda u, z=z: twin.value("Y", u, {"X": 1, "Z": z}) - twin.value("Y", u, {"X": 0, "Z": z})
        )
        assert float(effect) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("z", [-1.0, 0.0, 2.5])
def test_closed_form_with_interaction(z):
    """Y = aX + cZ + gXZ: CDE_z = (a + g z)(x - x*)."""
    model = SCM(
        {
            "X": Variable(lambda: 0.0),
            "Z": Variable(lambda x, u: 3 * x + u, parents=("X",), noise=Normal()),
            "Y": Variable(lambda x, z: 2 * x + 5 * z + 7 * x * z, parents=("X", "Z")),
        }
    )
    units = model.sample(10, generator=torch.Generator().manual_seed(0))
    effect = controlled_direct_effect(model, "X", "Y", x=4.0, reference=1.0, mediators={"Z": z}, units=units)
    assert effect.per_unit.tolist() == pytest.approx([(2 + 7 * z) * 3.0] * 10)


def test_needs_something_to_hold(and_gate):
    with pytest.raises(ValueError, match=r"must name what is held at which value, got \{\}"):
        controlled_direct_effect(and_gate, "X", "Y", x=1, reference=0, mediators={}, units=and_gate.enumerate())
    with pytest.raises(ValueError, match="neither treatment nor outcome, got 'X'"):
        controlled_direct_effect(and_gate, "X", "Y", x=1, reference=0, mediators={"X": 1}, units=and_gate.enumerate())

import itertools

import pytest
import torch

from claimwise.causal import (
    SCM,
    Variable,
    along,
    natural_direct_effect,
    natural_indirect_effect,
    path_specific_effect,
    total_effect,
)

ARROWS = [("X", "W"), ("X", "Z"), ("W", "Z"), ("X", "Y"), ("W", "Y"), ("Z", "Y")]


def effect(model, active):
    return path_specific_effect(model, "X", "Y", x=1, reference=0, active=active, units=model.enumerate())


@pytest.mark.parametrize("seed", range(3))
def test_every_set_of_arrows_equals_the_recursive_twin(binary_model, seed):
    """All 64 choices of active arrows: a child sees its parent in the changed world along active arrows only."""
    twin = binary_model(seed)
    parents = {"X": (), "W": ("X",), "Z": ("X", "W"), "Y": ("X", "W", "Z")}

    def changed(name, u, active):
        if name == "X":
            return 1
        inputs = [
            changed(parent, u, active) if (parent, name) in active else twin.value(parent, u, {"X": 0})
            for parent in parents[name]
        ]
        return int(twin.tables[name][(*inputs, u[f"U_{name}"], u["C"])])

    for size in range(len(ARROWS) + 1):
        for active in itertools.combinations(ARROWS, size):
            expected = twin.expectation(lambda u, g=active: changed("Y", u, g) - twin.value("Y", u, {"X": 0}))
            assert float(effect(twin.model, active)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_generalises_total_natural_direct_and_natural_indirect(binary_model, seed):
    model = binary_model(seed).model
    question = {"x": 1, "reference": 0, "units": model.enumerate()}
    total = total_effect(model, "X", "Y", **question)
    direct = natural_direct_effect(model, "X", "Y", **question)
    indirect = natural_indirect_effect(model, "X", "Y", **question)
    assert torch.equal(effect(model, ARROWS).per_unit, total.per_unit)
    assert torch.equal(effect(model, [("X", "Y")]).per_unit, direct.per_unit)
    assert torch.equal(effect(model, set(ARROWS) - {("X", "Y")}).per_unit, indirect.per_unit)
    assert float(effect(model, [])) == 0


def test_linear_paths_add_up():
    """In a linear model each path transmits the product of its coefficients."""
    model = SCM(
        {
            "X": Variable(lambda: 0),
            "W": Variable(lambda x: 2 * x, parents=("X",)),
            "Z": Variable(lambda x, w: 3 * x + 5 * w, parents=("X", "W")),
            "Y": Variable(lambda x, w, z: 7 * x + 11 * w + 13 * z, parents=("X", "W", "Z")),
        }
    )
    paths = {("X", "Y"): 7, ("X", "W", "Y"): 22, ("X", "Z", "Y"): 39, ("X", "W", "Z", "Y"): 130}
    for path, product in paths.items():
        assert float(effect(model, along(path))) == product
    assert float(effect(model, along(*paths))) == sum(paths.values())


def test_bad_arrows_are_refused(and_gate):
    with pytest.raises(ValueError, match="got Z -> X; the parents of X are none"):
        effect(and_gate, [("Z", "X")])
    with pytest.raises(ValueError, match="unknown variable 'Q'"):
        effect(and_gate, [("X", "Q")])
    with pytest.raises(ValueError, match=r"two variables or more, got \('X',\)"):
        along(("X",))

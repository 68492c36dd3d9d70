import pytest

from claimwise.causal import natural_indirect_effect


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mediators", ["Z", ("W",), ("W", "Z"), None])
def test_equals_the_loop_over_units(binary_model, seed, mediators):
    twin = binary_model(seed)
    effect = natural_indirect_effect(
        twin.model, "X", "Y", x=1, reference=0, units=twin.model.enumerate(), mediators=mediators
    )

    def per_unit(u):
        held = {name: twin.value(name, u, {"X": 1}) for name in mediators or ("W", "Z")}
        return twin.value("Y", u, {"X": 0, **held}) - twin.value("Y", u, {"X": 0})

    assert float(effect) == pytest.approx(twin.expectation(per_unit), abs=1e-12)

import pytest

from claimwise.causal import natural_direct_effect


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mediators", [("Z",), ("W",), ("W", "Z"), None])
def test_equals_the_loop_over_units(binary_model, seed, mediators):
    twin = binary_model(seed)
    effect = natural_direct_effect(
        twin.model, "X", "Y", x=1, reference=0, units=twin.model.enumerate(), mediators=mediators
    )

    def per_unit(u):
        held = {name: twin.value(name, u, {"X": 0}) for name in mediators or ("W", "Z")}
        return twin.value("Y", u, {"X": 1, **held}) - twin.value("Y", u, {"X": 0})

    assert float(effect) == pytest.approx(twin.expectation(per_unit), abs=1e-12)


def test_exists_where_a_unit_s_own_effect_is_not_zero(and_gate):
    effect = natural_direct_effect(and_gate, "X", "Y", x=0, reference=1, units=and_gate.enumerate())
    assert effect.per_unit.tolist() == [-1.0, -1.0]  # from 1 to 0 the gate closes at every unit

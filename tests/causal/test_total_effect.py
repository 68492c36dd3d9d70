import pytest

from claimwise.causal import total_effect


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_loop_over_units(binary_model, seed):
    twin = binary_model(seed)
    effect = total_effect(twin.model, "X", "Y", x=1, reference=0, units=twin.model.enumerate())
    expected = twin.expectation(lambda u: twin.value("Y", u, {"X": 1}) - twin.value("Y", u, {"X": 0}))
    assert float(effect) == pytest.approx(expected, abs=1e-12)


def test_reverses_its_sign(binary_model):
    twin = binary_model(3)
    units = twin.model.enumerate()
    there = total_effect(twin.model, "X", "Z", x=1, reference=0, units=units)
    back = total_effect(twin.model, "X", "Z", x=0, reference=1, units=units)
    assert float(there) == -float(back) != 0


def test_the_paper_s_gate(and_gate):
    assert float(total_effect(and_gate, "X", "Y", x=1, reference=0, units=and_gate.enumerate())) == 1

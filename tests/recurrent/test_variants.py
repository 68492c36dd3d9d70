import pytest

from claimwise.recurrent import LSTM_VARIANTS, LSTMVariant


def test_each_variant_differs_from_vanilla_in_its_own_switch():
    vanilla = LSTM_VARIANTS["vanilla"]
    changed = {
        name: [
            field for field in vars(vanilla) if field != "name" and getattr(variant, field) != getattr(vanilla, field)
        ]
        for name, variant in LSTM_VARIANTS.items()
    }
    assert changed == {
        "vanilla": [],
        "NIG": ["input_gate"],
        "NFG": ["forget_gate"],
        "NOG": ["output_gate"],
        "NIAF": ["input_activation"],
        "NOAF": ["output_activation"],
        "NP": ["peepholes"],
        "CIFG": ["coupled"],
        "FGR": ["gate_recurrence"],
    }
    assert all(variant.name == name for name, variant in LSTM_VARIANTS.items())


def test_rows_follow_torchs_order():
    assert LSTM_VARIANTS["vanilla"].blocks == ("input", "forget", "candidate", "output")
    assert LSTM_VARIANTS["CIFG"].blocks == ("input", "candidate", "output")
    assert LSTM_VARIANTS["NIG"].blocks == ("forget", "candidate", "output")


def test_impossible_cells_are_refused(unchecked):
    with pytest.raises(ValueError, match="needs both gates"):
        LSTMVariant("x", coupled=True, forget_gate=False)
    with pytest.raises(ValueError, match="needs a gate, got none"):
        LSTMVariant("x", input_gate=False, forget_gate=False, output_gate=False, gate_recurrence=True)
    with pytest.raises(TypeError, match="peepholes must be True or False, got 'no'"):
        LSTMVariant("x", peepholes="no")

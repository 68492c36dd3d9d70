import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from claimwise.recurrent import LSTM, LSTM_VARIANTS, gate_activity


@pytest.mark.parametrize("variant", list(LSTM_VARIANTS))
def test_gates_make_the_cells_and_the_outputs(variant):
    """c = i z + f c_before and y = o h(c), from what is read, in both directions and for each length."""
    torch.manual_seed(0)
    lstm = LSTM(3, 4, bidirectional=True, variant=variant, cells_per_block=2, dtype=torch.float64)
    x, lengths = torch.randn(5, 3, 3, dtype=torch.float64), [2, 5, 3]
    output, (_, c_n) = lstm(x, lengths=lengths)
    forward, reverse = gate_activity(lstm, x, lengths=lengths)
    for direction, read in enumerate((forward, reverse)):
        assert set(read) == {"input", "forget", "output", "candidate", "cell"}
        for k, length in enumerate(lengths):
            c = torch.zeros(4, dtype=torch.float64)
            for t in reversed(range(length)) if direction else range(length):
                at = {name: values[t, k] for name, values in read.items()}
                c = at["input"] * at["candidate"] + at["forget"] * c
                assert torch.allclose(at["cell"], c)
                h = torch.tanh(c) if lstm.variant.output_activation else c
                assert torch.allclose(output[t, k, 4 * direction : 4 * direction + 4], at["output"] * h)
            assert torch.allclose(c_n[direction, k], c)
            assert all((values[length:, k] == 0).all() for values in read.values())
    missing = {"NIG": "input", "NFG": "forget", "NOG": "output"}.get(variant)
    for gate in ("input", "forget", "output"):
        assert (forward[gate][:2] == 1).all() == (gate == missing)
    if variant == "CIFG":
        assert torch.allclose(forward["forget"][:2], 1 - forward["input"][:2])


def test_whatever_the_layout_of_the_input():
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, batch_first=True)
    x = torch.randn(2, 5, 3)
    reads = gate_activity(lstm, x)
    assert len(reads) == 2
    assert reads[1]["input"].shape == (5, 2, 4)
    alone = gate_activity(lstm, x[1])
    assert torch.allclose(alone[1]["cell"], reads[1]["cell"][:, 1])
    packed = gate_activity(lstm, pack_padded_sequence(x, [3, 5], batch_first=True, enforce_sorted=False))
    padded = gate_activity(lstm, x, lengths=[3, 5])
    assert torch.allclose(packed[1]["cell"], padded[1]["cell"])


def test_other_modules_are_refused(unchecked):
    with pytest.raises(TypeError, match=r"must be a claimwise\.recurrent\.LSTM, got LSTM"):
        gate_activity(nn.LSTM(3, 4), torch.zeros(5, 2, 3))

"""All steps of a layer in machine code against torch's operations, where tiles, panels, pieces and threads end."""

import pytest
import torch

from claimwise.recurrent import LSTM, LSTM_VARIANTS, compiled_lstm, lstm_cell
from claimwise.recurrent.compiled_step import compiled_step

DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def _machine_code_and_threads():
    if compiled_step(torch.float64, torch.device("cpu")) is None:
        pytest.skip("no C compiler")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared_out(monkeypatch):
    """However little there is to do, threads share it."""
    monkeypatch.setattr(compiled_lstm, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(compiled_lstm, "SEQUENCES_OF_A_THREAD", 1)


def outcomes(lstm, x, lengths=None):
    x = x.detach().requires_grad_()
    state = torch.linspace(-1, 1, x.shape[1] * lstm.hidden_size, dtype=x.dtype).reshape(1, x.shape[1], -1)
    hx = (state.requires_grad_(), (state.detach() / 2).requires_grad_())
    output, finals = lstm(x, hx, lengths=lengths)
    made = [output, *finals]
    upward = [torch.linspace(-1, 2, part.numel(), dtype=x.dtype).reshape(part.shape) for part in made]
    return made, torch.autograd.grad(made, [x, *hx, *lstm.parameters()], upward)


def by_torch(monkeypatch, *given):
    with monkeypatch.context() as patch:
        patch.setattr(lstm_cell, "compiled_step", lambda dtype, device: None)
        return outcomes(*given)


def assert_same(found, expected, **tolerance):
    for ours, theirs in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        assert torch.allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("variant", ["vanilla", "CIFG", "FGR"])
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "hidden"),
    [
        (1, 1, 1, 1),
        (3, 2, 5, 8),
        (4, 3, 17, 7),  # three rows: two panels at once; columns that fill no panel
        (5, 7, 3, 13),  # seven rows: tiles of four and three
        (40, 9, 6, 16),  # 360 rows: two pieces on the way back
        (2, 75, 4, 5),  # rows beyond a block
        (2, 300, 2, 3),  # a step of more rows than a piece
        (3, 2, 261, 10),  # a product deeper than a panel's part
        (3, 2, 4, 70),  # the way back through 280 rows of weights
    ],
)
def test_all_sizes_give_what_torch_gives(variant, steps, batch, inputs, hidden, monkeypatch):
    torch.manual_seed(0)
    lstm = LSTM(inputs, hidden, variant=variant, **DOUBLE)
    x = torch.randn(steps, batch, inputs, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x)
    assert_same(outcomes(lstm, x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", ["torch's", "new"])
@pytest.mark.parametrize("variant", LSTM_VARIANTS)
@pytest.mark.parametrize("lengths", [None, [1, 9, 4, 9, 2, 1, 7]])
def test_threads_share_sequences(variant, lengths, pool, shared_out, monkeypatch):
    if pool == "new":
        monkeypatch.setattr(compiled_lstm, "_parallel", lambda: None)
    elif compiled_lstm._parallel() is None:
        pytest.skip("torch has no OpenMP here")
    torch.manual_seed(0)
    lstm, x = LSTM(3, 5, variant=variant, **DOUBLE), torch.randn(9, 7, 3, **DOUBLE)
    expected = by_torch(monkeypatch, lstm, x, lengths)
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        assert_same(outcomes(lstm, x, lengths), expected, rtol=1e-10, atol=1e-12)


def test_a_sequence_gets_the_same_to_the_bit_in_any_batch_and_by_any_thread(shared_out):
    torch.manual_seed(0)
    lstm, x = LSTM(20, 33), torch.randn(30, 13, 20)
    torch.set_num_threads(1)
    whole, _ = lstm(x)
    for k in range(13):
        assert torch.equal(lstm(x[:, : k + 1])[0], whole[:, : k + 1])
        assert torch.equal(lstm(x[:, k])[0], whole[:, k])
    torch.set_num_threads(3)
    assert torch.equal(lstm(x)[0], whole)


def test_only_what_is_wanted_is_computed():
    """Frozen weights and inputs without a gradient, in every combination of one missing."""
    torch.manual_seed(0)
    lstm, x = LSTM(3, 4, variant="FGR", **DOUBLE), torch.randn(5, 2, 3, **DOUBLE)
    wanted = [x.requires_grad_(), *lstm.parameters()]
    full = torch.autograd.grad(lstm(x)[0].sum(), wanted)
    for k, tensor in enumerate(wanted):
        tensor.requires_grad_(False)
        rest = [other for other in wanted if other is not tensor]
        expected = [grad for j, grad in enumerate(full) if j != k]
        for found, grad in zip(torch.autograd.grad(lstm(x)[0].sum(), rest), expected, strict=True):
            assert torch.equal(found, grad)
        tensor.requires_grad_()


def test_too_little_memory_is_said(monkeypatch):
    functions = compiled_step(torch.float32, torch.device("cpu"))
    monkeypatch.setattr(functions, "lstm_sweep_forward", lambda sweep: 1)
    with pytest.raises(MemoryError, match=r"LSTM: too little memory for 6 rows of 16 pre-activations"):
        LSTM(2, 4)(torch.zeros(3, 2, 2))

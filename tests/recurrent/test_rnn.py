import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from claimwise.recurrent import RNN, recurrence

DOUBLE = {"dtype": torch.float64}
NONLINEARITIES = ["tanh", "relu", "linear"]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_equals_the_formula_in_explicit_loops(nonlinearity):
    torch.manual_seed(0)
    rnn = RNN(3, 4, 1, nonlinearity, **DOUBLE)
    x, h0, lengths = torch.randn(5, 3, 3, **DOUBLE), torch.randn(1, 3, 4, **DOUBLE), [3, 5, 1]
    output, h_n = rnn(x, h0, lengths=lengths)
    w, u, b, d = (parameter.detach().numpy() for parameter in rnn.parameters())
    f = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "linear": lambda a: a}[nonlinearity]
    expected = np.zeros((5, 3, 4))
    for k, length in enumerate(lengths):
        h = h0[0, k].numpy()
        for t in range(length):
            h = f(w @ x[t, k].numpy() + b + u @ h + d)
            expected[t, k] = h
        assert np.allclose(h_n[0, k].detach(), h, rtol=1e-11)
    assert np.allclose(output.detach(), expected, rtol=1e-11, atol=1e-12)


def outcomes(rnn, x, h0, lengths):
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    output, h_n = rnn(x, h0, lengths=lengths)
    torch.manual_seed(9)
    loss = sum((torch.randn_like(made) * made).sum() for made in (output, h_n))
    return [output, h_n, *torch.autograd.grad(loss, [x, h0, *rnn.parameters()])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_the_way_back_by_hand_is_autograds(nonlinearity, lengths, bias, monkeypatch):
    torch.manual_seed(0)
    rnn = RNN(3, 4, 2, nonlinearity, bias, bidirectional=True, **DOUBLE)
    x, h0 = torch.randn(5, 3, 3, **DOUBLE), torch.randn(4, 3, 4, **DOUBLE)
    made = outcomes(rnn, x, h0, lengths)
    monkeypatch.setattr(recurrence, "by_ordinary_operations", lambda x: True)
    for ours, expected in zip(made, outcomes(rnn, x, h0, lengths), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nonlinearity", ["tanh", "linear"])
def test_gradients(nonlinearity):
    torch.manual_seed(0)
    rnn = RNN(2, 2, 1, nonlinearity, **DOUBLE)
    x, h0 = (torch.randn(*shape, **DOUBLE, requires_grad=True) for shape in ((3, 2, 2), (1, 2, 2)))
    assert torch.autograd.gradcheck(lambda x, h: rnn(x, h, lengths=[3, 2]), [x, h0])
    assert torch.autograd.gradgradcheck(lambda x, h: rnn(x, h, lengths=[3, 2]), [x, h0], fast_mode=True)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_is_torchs(nonlinearity, monkeypatch):
    torch.manual_seed(0)
    how = {"batch_first": True, "bidirectional": True, **DOUBLE}
    ours = RNN(3, 4, 2, nonlinearity, **how)
    theirs = nn.RNN(3, 4, 2, nonlinearity, **how)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(4, 6, 3, **DOUBLE), [3, 6, 1, 4]
    expected, h_n = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    for platform in (False, True):
        monkeypatch.setattr(recurrence, "has_fused_kernels", lambda x, answer=platform: answer)
        output, ours_n = ours(x, lengths=lengths)
        assert torch.allclose(output, pad_packed_sequence(expected, batch_first=True)[0])
        assert torch.allclose(ours_n, h_n)
        assert torch.allclose(ours(x)[0], theirs(x)[0])


def test_unknown_nonlinearities_are_refused(unchecked):
    with pytest.raises(ValueError, match="nonlinearity must be one of tanh, relu, linear, got 'gelu'"):
        RNN(3, 4, nonlinearity="gelu")

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from claimwise.recurrent import GRU, recurrence

DOUBLE = {"dtype": torch.float64}
FORMS = ["reset-after", "reset-before"]


def spread(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.7)
    return module


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_formulas_in_explicit_loops(form):
    torch.manual_seed(0)
    gru = spread(GRU(3, 4, form=form, **DOUBLE))
    x, h0, lengths = torch.randn(5, 3, 3, **DOUBLE), torch.randn(1, 3, 4, **DOUBLE), [3, 5, 1]
    output, h_n = gru(x, h0, lengths=lengths)
    w, u, b, d = (parameter.detach().numpy() for parameter in gru.parameters())
    expected = np.zeros((5, 3, 4))
    for k, length in enumerate(lengths):
        h = h0[0, k].numpy()
        for t in range(length):
            a = w @ x[t, k].numpy() + b
            r = sigmoid(a[:4] + u[:4] @ h + d[:4])
            z = sigmoid(a[4:8] + u[4:8] @ h + d[4:8])
            if form == "reset-after":
                n = np.tanh(a[8:] + r * (u[8:] @ h + d[8:]))
            else:
                n = np.tanh(a[8:] + u[8:] @ (r * h) + d[8:])
            h = np.array([z[j] * h[j] + (1 - z[j]) * n[j] for j in range(4)])
            expected[t, k] = h
        assert np.allclose(h_n[0, k].detach(), h, rtol=1e-11)
    assert np.allclose(output.detach(), expected, rtol=1e-11, atol=1e-12)


def outcomes(gru, x, h0, lengths):
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    output, h_n = gru(x, h0, lengths=lengths)
    torch.manual_seed(9)
    loss = sum((torch.randn_like(made) * made).sum() for made in (output, h_n))
    return [output, h_n, *torch.autograd.grad(loss, [x, h0, *gru.parameters()])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
@pytest.mark.parametrize("step", ["compiled", "torch"])
@pytest.mark.parametrize("form", FORMS)
def test_every_way_of_computing_gives_the_same(form, step, lengths, bias, monkeypatch):
    from claimwise.recurrent import gru_cell

    torch.manual_seed(0)
    gru = spread(GRU(3, 9, 2, bidirectional=True, form=form, bias=bias, **DOUBLE))
    x, h0 = torch.randn(5, 3, 3, **DOUBLE), torch.randn(4, 3, 9, **DOUBLE)
    if step == "torch":
        monkeypatch.setattr(gru_cell, "compiled_step", lambda dtype, device: None)
    monkeypatch.setattr(gru_cell, "ROWS_AT_ONCE", 4)
    made = outcomes(gru, x, h0, lengths)
    monkeypatch.setattr(recurrence, "by_ordinary_operations", lambda x: True)
    for ours, expected in zip(made, outcomes(gru, x, h0, lengths), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    torch.manual_seed(0)
    gru = spread(GRU(2, 2, form=form, **DOUBLE))
    x, h0 = (torch.randn(*shape, **DOUBLE, requires_grad=True) for shape in ((3, 2, 2), (1, 2, 2)))
    assert torch.autograd.gradcheck(lambda x, h: gru(x, h, lengths=[3, 2]), [x, h0], fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, h: gru(x, h, lengths=[3, 2]), [x, h0], fast_mode=True)


def test_reset_after_is_torchs():
    torch.manual_seed(0)
    how = {"num_layers": 2, "batch_first": True, "bidirectional": True, **DOUBLE}
    ours = GRU(3, 4, **how)
    theirs = nn.GRU(3, 4, **how)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(4, 6, 3, **DOUBLE), [3, 6, 1, 4]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, h_n = theirs(packed)
    output, ours_n = ours(x, lengths=lengths)
    assert torch.allclose(output, pad_packed_sequence(expected, batch_first=True)[0])
    assert torch.allclose(ours_n, h_n)
    assert torch.allclose(ours(packed)[0].data, expected.data)
    assert torch.allclose(ours(x)[0], theirs(x)[0])
    assert torch.allclose(ours(x[0])[1], theirs(x[0])[1])


def test_the_platforms_kernel_gives_the_same(monkeypatch):
    torch.manual_seed(0)
    gru, x = GRU(3, 4, 2), torch.randn(5, 2, 3)
    ours = gru(x, lengths=[5, 2])
    monkeypatch.setattr(recurrence, "has_fused_kernels", lambda x: True)
    assert torch.allclose(gru(x, lengths=[5, 2])[0], ours[0], atol=1e-6)
    assert GRU(3, 4, form="reset-before")._platform_kernel() is None


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast(form):
    torch.manual_seed(0)
    gru, x = GRU(3, 4, form=form), torch.randn(5, 2, 3)
    expected, _ = gru(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, _ = gru(x)
    assert half.dtype == torch.float32
    assert torch.allclose(half, expected, atol=0.05)


def test_unknown_forms_are_refused(unchecked):
    with pytest.raises(ValueError, match="form must be one of reset-after, reset-before, got 'cho'"):
        GRU(3, 4, form="cho")


def test_a_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"h_0 must have shape \(1, 2, 4\) .*got \(2, 4\)"):
        GRU(3, 4)(torch.zeros(5, 2, 3), torch.zeros(2, 4))

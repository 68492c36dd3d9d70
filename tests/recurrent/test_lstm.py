import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from claimwise.recurrent import LSTM, LSTM_VARIANTS, LSTMVariant, recurrence

DOUBLE = {"dtype": torch.float64}
VARIANTS = list(LSTM_VARIANTS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_direction(lstm, xs, y, c, suffix):
    """One sequence through one layer and direction by the paper's formulas, gate by gate and cell by cell."""
    v, n, cells = lstm.variant, lstm.hidden_size, lstm.cells_per_block
    parameters = {name: p.detach().numpy() for name, p in lstm.named_parameters() if name.endswith(suffix)}
    get = lambda name: parameters.get(name + suffix)  # noqa: E731
    w, r, b = get("weight_ih"), get("weight_hh"), get("bias_ih") + get("bias_hh")
    p, around = get("weight_ph"), get("weight_gh")
    blocks = n // cells
    start, where = 0, {}
    for block in ("input", "forget", "candidate", "output"):
        missing = {"input": not v.input_gate, "forget": not v.forget_gate or v.coupled, "output": not v.output_gate}
        if not missing.get(block, False):
            rows = n if block == "candidate" else blocks
            where[block] = range(start, start + rows)
            start += rows
    own = [gate for gate in ("input", "forget", "output") if gate in where]
    earlier = np.zeros(len(own) * blocks)
    ys, cs = [], []
    for x in xs:
        pre = w @ x + r @ y + b

        def gate(name, cell, pre=pre, earlier=earlier):
            k = own.index(name)
            values = np.empty(blocks)
            for m, row in enumerate(where[name]):
                value = pre[row]
                if p is not None:
                    value += sum(p[k, m * cells + j] * cell[m * cells + j] for j in range(cells))
                if around is not None:
                    value += around[k * blocks + m] @ earlier
                values[m] = sigmoid(value)
            return values

        z = pre[list(where["candidate"])]
        z = np.tanh(z) if v.input_activation else z
        i = gate("input", c) if v.input_gate else np.ones(blocks)
        f = (1 - i if v.coupled else gate("forget", c)) if v.forget_gate else np.ones(blocks)
        c = np.array([z[j] * i[j // cells] + c[j] * f[j // cells] for j in range(n)])
        o = gate("output", c) if v.output_gate else np.ones(blocks)
        h = np.tanh(c) if v.output_activation else c
        y = np.array([h[j] * o[j // cells] for j in range(n)])
        earlier = np.concatenate([{"input": i, "forget": f, "output": o}[name] for name in own] or [np.zeros(0)])
        ys.append(y)
        cs.append(c)
    return ys, y, c


def slow(lstm, x, h0, c0, lengths):
    steps, batch, _ = x.shape
    directions = 2 if lstm.bidirectional else 1
    output = np.zeros((steps, batch, directions * lstm.hidden_size))
    h_n, c_n = np.zeros(h0.shape), np.zeros(c0.shape)
    for k in range(batch):
        given_rows = [x[t, k].numpy() for t in range(lengths[k])]
        for layer in range(lstm.num_layers):
            made = []
            for direction in range(directions):
                index = layer * directions + direction
                order = given_rows[::-1] if direction else given_rows
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                ys, h_n[index, k], c_n[index, k] = slow_direction(
                    lstm, order, h0[index, k].numpy(), c0[index, k].numpy(), suffix
                )
                made.append(ys[::-1] if direction else ys)
            given_rows = [np.concatenate(parts) for parts in zip(*made, strict=True)]
        output[: lengths[k], k] = given_rows
    return output, h_n, c_n


def spread(module):
    """Parameters of any size, so that nothing is near its start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.7)
    return module


def states(lstm, batch):
    stacked = lstm.num_layers * (2 if lstm.bidirectional else 1)
    return tuple(torch.randn(stacked, batch, lstm.hidden_size, **DOUBLE) for _ in range(2))


@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_formulas_in_explicit_loops(variant, cells, lengths):
    torch.manual_seed(0)
    lstm = spread(LSTM(3, 4, 2, bidirectional=True, variant=variant, cells_per_block=cells, **DOUBLE))
    x, hx = torch.randn(5, 3, 3, **DOUBLE), states(lstm, 3)
    output, (h_n, c_n) = lstm(x, hx, lengths=lengths)
    for made, expected in zip((output, h_n, c_n), slow(lstm, x, *hx, lengths or [5] * 3), strict=True):
        assert np.allclose(made.detach(), expected, rtol=1e-11, atol=1e-11)


def outcomes(lstm, x, hx, lengths):
    x, hx = x.clone().requires_grad_(), tuple(state.clone().requires_grad_() for state in hx)
    output, finals = lstm(x, hx, lengths=lengths)
    torch.manual_seed(9)
    loss = sum((torch.randn_like(made) * made).sum() for made in (output, *finals))
    return [output, *finals, *torch.autograd.grad(loss, [x, *hx, *lstm.parameters()])]


@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
@pytest.mark.parametrize("step", ["compiled", "torch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_of_computing_gives_the_same(variant, step, lengths, monkeypatch):
    """Machine code for all steps, torch's operations by hand, and autograd over ordinary operations."""
    from claimwise.recurrent import lstm_cell

    torch.manual_seed(0)
    lstm = spread(LSTM(3, 9, 2, bidirectional=True, variant=variant, **DOUBLE))
    x, hx = torch.randn(5, 3, 3, **DOUBLE), states(lstm, 3)
    if step == "torch":
        monkeypatch.setattr(lstm_cell, "compiled_step", lambda dtype, device: None)
    monkeypatch.setattr(lstm_cell, "ROWS_AT_ONCE", 4)  # several pieces
    made = outcomes(lstm, x, hx, lengths)
    monkeypatch.setattr(recurrence, "by_ordinary_operations", lambda x: True)
    for ours, expected in zip(made, outcomes(lstm, x, hx, lengths), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("variant", "cells"), [*((name, 1) for name in VARIANTS), ("vanilla", 2), ("FGR", 2)])
def test_gradients(variant, cells):
    torch.manual_seed(0)
    lstm = spread(LSTM(2, 2, variant=variant, cells_per_block=cells, **DOUBLE))
    names, values = zip(*lstm.named_parameters(), strict=True)
    hx = states(lstm, 2)

    def outputs(x, h, c, *values):
        parameters = dict(zip(names, values, strict=True))
        output, finals = torch.func.functional_call(lstm, parameters, (x, (h, c)), {"lengths": [3, 2]})
        return output, *finals

    inputs = [torch.randn(3, 2, 2, **DOUBLE), *hx, *(value.detach().clone() for value in values)]
    assert torch.autograd.gradcheck(outputs, [value.requires_grad_() for value in inputs], fast_mode=True)
    if variant in ("CIFG", "FGR"):  # one way for all
        assert torch.autograd.gradgradcheck(outputs, inputs, fast_mode=True)


# torch.nn.LSTM


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_peepholes_is_torchs(bidirectional, bias):
    how = {"num_layers": 2, "batch_first": True, "bidirectional": bidirectional, "bias": bias, **DOUBLE}
    torch.manual_seed(0)
    ours = LSTM(3, 4, variant="NP", **how)
    torch.manual_seed(0)
    theirs = nn.LSTM(3, 4, **how)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(a.equal(b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))  # initialised alike
    ours.load_state_dict(spread(theirs).state_dict())
    theirs.load_state_dict(ours.state_dict())
    x, lengths = torch.randn(4, 6, 3, **DOUBLE), [3, 6, 1, 4]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, expected_states = theirs(packed)
    padded, _ = pad_packed_sequence(expected, batch_first=True)
    for (output, finals), outputs in (
        (ours(x), theirs(x)),
        (ours(x[0]), theirs(x[0])),
        (ours(x, lengths=lengths), (padded, expected_states)),
        (ours(x, lengths=torch.tensor(lengths)), (padded, expected_states)),
    ):
        assert torch.allclose(output, outputs[0])
        assert all(torch.allclose(a, b) for a, b in zip(finals, outputs[1], strict=True))
    again, finals = ours(packed)
    assert torch.allclose(again.data, expected.data)
    assert again.sorted_indices.equal(expected.sorted_indices)
    assert all(torch.allclose(a, b) for a, b in zip(finals, expected_states, strict=True))


@pytest.mark.parametrize("lengths", [None, [3, 6, 1, 4]])
def test_the_platforms_kernel_gives_the_same(lengths, monkeypatch):
    """On CUDA torch's own kernel does variant NP; here its path is taken on the CPU."""
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, variant="NP", bidirectional=True, **DOUBLE)
    x, hx = torch.randn(6, 4, 3, **DOUBLE), states(lstm, 4)
    ours = lstm(x, hx, lengths=lengths)
    called = []
    monkeypatch.setattr(recurrence, "has_fused_kernels", lambda x: called.append(x) or True)
    theirs = lstm(x, hx, lengths=lengths)
    assert called
    assert torch.allclose(ours[0], theirs[0])
    assert all(torch.allclose(a, b) for a, b in zip(ours[1], theirs[1], strict=True))
    vanilla = LSTM(3, 4)
    assert vanilla._platform_kernel() is None
    assert LSTM(3, 4, variant="NP", cells_per_block=2)._platform_kernel() is None


def test_dropout_between_layers_as_torchs():
    torch.manual_seed(0)
    ours, theirs = (kind(3, 4, 3, dropout=0.5) for kind in (lambda *a, **k: LSTM(*a, variant="NP", **k), nn.LSTM))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.allclose(ours.eval()(x)[0], theirs.eval()(x)[0], atol=1e-6)
    ours.train()
    assert not ours(x)[0].equal(ours(x)[0])
    everything = LSTM(3, 4, 2, dropout=1.0)
    alone = everything(x)[0]
    assert alone.equal(everything(torch.randn(5, 2, 3))[0])  # the second layer hears nothing of the input


# Sequences of unequal length


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(VARIANTS), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_padding_changes_nothing(variant, lengths, batch_first):
    torch.manual_seed(0)
    lstm = LSTM(2, 3, 2, bidirectional=True, batch_first=batch_first, variant=variant, **DOUBLE)
    x = torch.randn(6, len(lengths), 2, **DOUBLE)
    for k, length in enumerate(lengths):
        x[length:, k] = math.nan
    x.requires_grad_()
    output, (h_n, c_n) = lstm(x.transpose(0, 1) if batch_first else x, lengths=lengths)
    (gradient,) = torch.autograd.grad(output.square().sum() + h_n.sum() + c_n.sum(), x)
    output = output.transpose(0, 1) if batch_first else output
    for k, length in enumerate(lengths):
        alone, (h, c) = lstm(x[:length, k])
        assert torch.allclose(output[:length, k], alone, rtol=1e-12)
        assert (output[length:, k] == 0).all()
        assert torch.allclose(h_n[:, k], h, rtol=1e-12)
        assert torch.allclose(c_n[:, k], c, rtol=1e-12)
        assert (gradient[length:, k] == 0).all()
        assert (gradient[:length, k] != 0).any()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "FGR"])
def test_in_two_parts_with_the_state_handed_on(variant):
    torch.manual_seed(0)
    lstm = spread(LSTM(3, 4, 2, variant=variant, **DOUBLE))
    x = torch.randn(7, 2, 3, **DOUBLE)
    whole, finals = lstm(x)
    first, middle = lstm(x[:4])
    second, ends = lstm(x[4:], middle)
    assert torch.allclose(torch.cat([first, second]), whole, rtol=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(ends, finals, strict=True))


# Where it must work


@pytest.mark.parametrize("variant", ["vanilla", "FGR", "CIFG"])
def test_copied_and_under_autocast(variant):
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, variant=variant, cells_per_block=2)
    x = torch.randn(5, 2, 3)
    expected, (h_n, _) = lstm(x)
    assert copy.deepcopy(lstm)(x)[0].equal(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, (h_half, c_half) = lstm(x)
    assert half.dtype == c_half.dtype == torch.float32
    assert torch.allclose(half, expected, atol=0.05)
    assert torch.allclose(h_half, h_n, atol=0.05)
    half.sum().backward()
    assert lstm.weight_hh_l0.grad.isfinite().all()


def test_under_torch_func():
    torch.manual_seed(0)
    lstm = LSTM(3, 4, **DOUBLE)
    x = torch.randn(5, 2, 3, **DOUBLE)
    each = torch.func.vmap(torch.func.grad(lambda x: lstm(x)[0].square().sum()), in_dims=1, out_dims=1)(x)
    x.requires_grad_()
    (together,) = torch.autograd.grad(lstm(x)[0].square().sum(), x)
    assert torch.allclose(each, together)


def test_backward_twice_and_only_what_needs_a_gradient():
    torch.manual_seed(0)
    lstm = LSTM(3, 4, **DOUBLE)
    loss = lstm(torch.randn(5, 2, 3, **DOUBLE))[0].square().sum()
    first, second = (torch.autograd.grad(loss, list(lstm.parameters()), retain_graph=True) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    lstm.requires_grad_(False)
    lstm.bias_hh_l0.requires_grad_()
    lstm(torch.randn(5, 2, 3, **DOUBLE))[1][1].sum().backward()  # of the last cell alone
    assert lstm.bias_hh_l0.grad.ne(0).any()
    assert lstm.weight_hh_l0.grad is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_counted_as_the_paper_does(variant):
    m, n, switches = 5, 8, LSTM_VARIANTS[variant]
    gates = len(switches.own_gates)
    paper = (1 + gates) * (n * m + n * n + n) + switches.peepholes * gates * n + switches.gate_recurrence * 9 * n * n
    count = sum(parameter.numel() for parameter in LSTM(m, n, variant=variant).parameters())
    assert count - (1 + gates) * n == paper  # torch has a second bias
    shared = LSTM(m, n, variant=variant, cells_per_block=4)
    assert shared.weight_hh_l0.shape == (n + gates * n // 4, n)


def test_a_variant_of_ones_own():
    own = LSTMVariant("memory", input_gate=False, forget_gate=False, output_gate=False, peepholes=False)
    lstm = LSTM(1, 1, variant=own)
    with torch.no_grad():
        lstm.weight_ih_l0.fill_(1)
        lstm.weight_hh_l0.fill_(0)
        lstm.bias_ih_l0.fill_(0)
        lstm.bias_hh_l0.fill_(0)
    _, (_, c) = lstm(torch.ones(3, 1, 1))
    assert c.item() == pytest.approx(3 * math.tanh(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "vanila"}, "variant must be one of vanilla, NIG, .*got 'vanila'"),
        ({"cells_per_block": 3}, r"cells_per_block must divide hidden_size \(4\) into whole blocks, got 3"),
        ({"cells_per_block": 0}, "must divide hidden_size"),
        ({"dropout": 1.5}, r"dropout must be a probability in \[0, 1\], got 1.5"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4, **arguments)


@pytest.mark.parametrize(
    ("x", "how", "message"),
    [
        (torch.zeros(5, 2, 4), {}, "input must have 3 features.*got shape .5, 2, 4"),
        (torch.zeros(1, 5, 2, 3), {}, "input must be .time, batch, features."),
        (torch.zeros(0, 2, 3), {}, "must have a step and a sequence"),
        (torch.full((5, 2, 3), math.nan), {}, "input must be finite, got NaN"),
        (torch.full((5, 2, 3), math.inf), {}, "input must be finite, got infinite"),
        (torch.zeros(5, 2, 3), {"lengths": [5, 6]}, "lengths must be in 1..5 .*got 6 for sequence 1"),
        (torch.zeros(5, 2, 3), {"lengths": [0, 5]}, "got 0 for sequence 0; leave empty sequences out"),
        (torch.zeros(5, 2, 3), {"lengths": [5]}, "lengths must be one a sequence, 2, got 1"),
        (torch.zeros(5, 2, 3), {"hx": (torch.zeros(1, 3, 4), torch.zeros(1, 2, 4))}, "h_0 must have shape .1, 2, 4."),
        (torch.zeros(5, 2, 3), {"hx": (torch.zeros(1, 2, 4), torch.full((1, 2, 4), math.nan))}, "c_0 must be finite"),
    ],
)
def test_bad_input_is_refused(x, how, message):
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4)(x, **how)


def test_wrong_types_are_refused():
    lstm = LSTM(3, 4)
    with pytest.raises(TypeError, match=r"floating point, got torch\.int64"):
        lstm(torch.zeros(5, 2, 3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"input is torch\.float64, the parameters are torch\.float32"):
        lstm(torch.zeros(5, 2, 3, **DOUBLE))
    with pytest.raises(TypeError, match=r"lengths must be integers, got torch.float32"):
        lstm(torch.zeros(5, 2, 3), lengths=torch.tensor([1.0, 2.0]))
    packed = pack_padded_sequence(torch.zeros(5, 2, 3), [5, 2])
    with pytest.raises(ValueError, match="a PackedSequence has its own lengths"):
        lstm(packed, lengths=[5, 2])

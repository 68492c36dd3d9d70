import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.recurrent import bptt

BATCH, TIME, INPUTS, HIDDEN, OUTPUTS = 3, 6, 2, 5, 4
LOSSES = ["cross-entropy", "squared", "squared-softmax"]
NAMES = ("U", "W", "V", "b", "c")


def example(loss, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((HIDDEN, INPUTS), (HIDDEN, HIDDEN), (OUTPUTS, HIDDEN), (HIDDEN,), (OUTPUTS,))
    parameters = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    x = torch.randn(BATCH, TIME, INPUTS, generator=generator, dtype=dtype)
    initial = torch.rand(BATCH, HIDDEN, generator=generator, dtype=dtype)
    if loss == "cross-entropy":
        y = torch.randint(OUTPUTS, (BATCH, TIME), generator=generator)
    else:
        y = torch.rand(BATCH, TIME, OUTPUTS, generator=generator, dtype=dtype)
    return x, y, parameters, initial


def total(x, y, U, W, V, b, c, initial, loss):
    """The forward equations as they read, for autograd; U, W, V, b, c may be lists of copies, one a step."""
    h, result = initial, 0
    copies = [p if isinstance(p, list) else [p] * x.shape[1] for p in (U, W, V, b, c)]
    for t, (u, w, v, bt, ct) in enumerate(zip(*copies, strict=True)):
        h = torch.tanh(x[:, t] @ u.t() + h @ w.t() + bt)
        o = h @ v.t() + ct
        if loss == "cross-entropy":
            result = result - torch.log_softmax(o, 1).gather(1, y[:, t : t + 1]).sum()
        else:
            made = torch.sigmoid(o) if loss == "squared" else torch.softmax(o, 1)
            result = result + 0.5 * (made - y[:, t]).square().sum()
    return result


def worst(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("starts", [True, False])
def test_equals_autograd(loss, starts):
    x, y, parameters, initial = example(loss)
    found = bptt(x, y, *parameters, initial=initial if starts else None, loss=loss)
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    value = total(x, y, *leaves, initial if starts else torch.zeros_like(initial), loss)
    assert found.loss.item() == pytest.approx(value.item(), rel=1e-12)
    for name, expected in zip(NAMES, torch.autograd.grad(value, leaves), strict=True):
        assert worst(getattr(found, name), expected) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_finite_differences(loss):
    x, y, parameters, initial = example(loss)
    found = bptt(x, y, *parameters, initial=initial, loss=loss)
    step = 1e-5
    for place, name in enumerate(NAMES):
        expected = torch.zeros_like(parameters[place])
        for entry in range(expected.numel()):
            values = []
            for move in (step, -step):
                moved = [parameter.clone() for parameter in parameters]
                moved[place].view(-1)[entry] += move
                values.append(total(x, y, *moved, initial, loss).item())
            expected.view(-1)[entry] = (values[0] - values[1]) / (2 * step)
        assert worst(getattr(found, name), expected) < 1e-6


def test_equals_its_formulas_in_loops():
    x, y, (U, W, V, b, c), initial = example("cross-entropy")
    found = bptt(x, y, U, W, V, b, c, initial=initial)
    expected = {name: torch.zeros_like(value) for name, value in zip(NAMES, (U, W, V, b, c), strict=True)}
    for k in range(BATCH):
        h = [initial[k]]
        for t in range(TIME):
            h.append(torch.tanh(U @ x[k, t] + W @ h[-1] + b))
        delta = torch.zeros(HIDDEN, dtype=torch.float64)
        for t in reversed(range(TIME)):
            e = torch.softmax(V @ h[t + 1] + c, 0) - F.one_hot(y[k, t], OUTPUTS)
            if t < TIME - 1:
                delta = V.t() @ e + W.t() @ torch.diag(1 - h[t + 2] ** 2) @ delta
            else:
                delta = V.t() @ e
            inner = torch.diag(1 - h[t + 1] ** 2) @ delta
            expected["c"] += e
            expected["V"] += torch.outer(e, h[t + 1])
            expected["W"] += torch.outer(inner, h[t])
            expected["b"] += inner
            expected["U"] += torch.outer(inner, x[k, t])
    for name in NAMES:
        assert worst(getattr(found, name), expected[name]) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_shared_over_time_their_gradient_is_the_sum_over_copies(loss):
    x, y, parameters, initial = example(loss)
    found = bptt(x, y, *parameters, initial=initial, loss=loss)
    copies = [[parameter.clone().requires_grad_() for _ in range(TIME)] for parameter in parameters]
    value = total(x, y, *copies, initial, loss)
    gradients = torch.autograd.grad(value, [copy for group in copies for copy in group])
    for place, name in enumerate(NAMES):
        expected = torch.stack(gradients[place * TIME : (place + 1) * TIME]).sum(0)
        assert worst(getattr(found, name), expected) < 1e-12


def test_equals_torch_s_own_network():
    x, y, parameters, _ = example("cross-entropy", torch.float32)
    U, W, V, b, c = parameters
    core, readout = nn.RNN(INPUTS, HIDDEN, batch_first=True), nn.Linear(HIDDEN, OUTPUTS)
    with torch.no_grad():
        for target, value in (
            (core.weight_ih_l0, U),
            (core.weight_hh_l0, W),
            (core.bias_ih_l0, b),
            (core.bias_hh_l0, torch.zeros_like(b)),
            (readout.weight, V),
            (readout.bias, c),
        ):
            target.copy_(value)
    F.cross_entropy(readout(core(x)[0]).flatten(0, 1), y.flatten(), reduction="sum").backward()
    found = bptt(x, y, *parameters)
    assert torch.allclose(found.W, core.weight_hh_l0.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(found.V, readout.weight.grad, rtol=1e-4, atol=1e-4)


def test_leaves_what_it_is_given_alone():
    x, y, parameters, initial = example("squared")
    given = [x, y, *parameters, initial]
    before = [tensor.clone() for tensor in given]
    first = bptt(x, y, *parameters, initial=initial, loss="squared")
    second = bptt(x, y, *parameters, initial=initial, loss="squared")
    assert all(a.equal(b) for a, b in zip(given, before, strict=True))
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_a_step_alone():
    """By hand: h = tanh(0.5), o = (h, 0), label 0."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    U, W = torch.full((1, 1), 0.5, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    V = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    found = bptt(one, torch.zeros(1, 1, dtype=torch.int64), U, W, V, zero[:1], zero)
    h = math.tanh(0.5)
    p = 1 / (1 + math.exp(-h))
    assert found.loss.item() == pytest.approx(-math.log(p))
    assert found.c.tolist() == pytest.approx([p - 1, 1 - p])
    assert found.b.item() == pytest.approx((p - 1) * (1 - h * h))
    assert found.W.item() == 0


def changed(place, value, loss="cross-entropy"):
    x, y, parameters, initial = example(loss)
    given = {"x": x, "y": y, **dict(zip(NAMES, parameters, strict=True)), "initial": initial, "loss": loss}
    given[place] = value(given[place]) if callable(value) else value
    return given


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            changed("loss", "hinge"),
            ValueError,
            "loss must be one of cross-entropy, squared, squared-softmax, got 'hinge'",
        ),
        (changed("x", lambda x: x[0]), ValueError, r"x must be \(batch, time, 2\)"),
        (changed("x", lambda x: x[:, :0]), ValueError, "at least one step"),
        (changed("x", lambda x: x / 0), ValueError, "x must be finite"),
        (changed("x", lambda x: x.float()), TypeError, "W must be torch.float32 as x is, got torch.float64"),
        (changed("W", lambda w: w[:3]), ValueError, r"W must be \(5, 5\), got shape \(3, 5\)"),
        (changed("W", lambda w: w * float("nan")), ValueError, "W must be finite"),
        (changed("U", lambda u: u[0]), ValueError, r"U must be \(hidden, inputs\)"),
        (changed("V", lambda v: v[:, :2]), ValueError, r"V must be \(4, 5\), got shape \(4, 2\)"),
        (changed("b", lambda b: b[:2]), ValueError, r"b must be \(5,\), got shape \(2,\)"),
        (changed("c", lambda c: c[:2]), ValueError, r"c must be \(4,\), got shape \(2,\)"),
        (changed("initial", lambda h: h[:2]), ValueError, r"initial must be \(3, 5\), got shape \(2, 5\)"),
        (changed("y", lambda y: y + 1), ValueError, "labels must be in 0..3, got labels from 1 to 4"),
        (changed("y", lambda y: y.double()), TypeError, "y must hold integer class numbers"),
        (changed("y", lambda y: y[:, :2]), ValueError, r"one class number a step, \(3, 6\), got shape \(3, 2\)"),
        (changed("y", lambda y: y.long(), "squared"), TypeError, "y must be torch.float64 as x is for loss='squared'"),
        (changed("y", lambda y: y[..., :2], "squared"), ValueError, r"y must be \(3, 6, 4\), got shape \(3, 6, 2\)"),
        (changed("y", lambda y: y / 0, "squared-softmax"), ValueError, "y must be finite"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(given, error, words):
    with pytest.raises(error, match=f"bptt: .*{words}"):
        bptt(**given)

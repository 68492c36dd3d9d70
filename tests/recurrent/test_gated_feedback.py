import copy
import math

import pytest
import torch
from torch import nn

from claimwise.recurrent import GatedFeedback

CELLS = ["tanh", "gru", "lstm"]
TORCH = {"tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
INPUT, HIDDEN, LAYERS, TIME, BATCH = 3, 4, 3, 5, 2


def model(cell, **options):
    torch.manual_seed(0)
    return GatedFeedback(INPUT, HIDDEN, LAYERS, cell, dtype=torch.float64, **options)


def example(cell, time=TIME, batch=BATCH):
    generator = torch.Generator().manual_seed(1)
    x, *parts = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((time, batch, INPUT), (LAYERS, batch, HIDDEN), (LAYERS, batch, HIDDEN))
    )
    return x, (tuple(parts) if cell == "lstm" else parts[0])


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def twin(net, x, state):
    """The equations, one sequence, layer, unit and source at a time; returns top states and the last state."""
    names = dict(net.named_parameters())
    lists = {name: value.tolist() for name, value in names.items()}
    size, layers, cell = net.hidden_size, net.num_layers, net.cell
    gates = {"tanh": [], "gru": ["r", "z"], "lstm": ["i", "f", "o"]}[cell]
    block = {"tanh": {"c": 0}, "gru": {"r": 0, "z": 1, "c": 2}, "lstm": {"i": 0, "f": 1, "c": 2, "o": 3}}[cell]
    hidden, cells = (state[0], state[1]) if cell == "lstm" else (state, state)
    outputs = torch.zeros(len(x), x.shape[1], size, dtype=torch.float64)
    last_h, last_c = torch.zeros_like(hidden), torch.zeros_like(hidden)
    for b in range(x.shape[1]):
        h = [hidden[j, b].tolist() for j in range(layers)]
        c = [cells[j, b].tolist() for j in range(layers)]
        for t in range(len(x)):
            star = [value for layer in h for value in layer]
            new_h, new_c = [], []
            for j in range(layers):
                below = x[t, b].tolist() if j == 0 else new_h[j - 1]
                g = [
                    sigmoid(dot(lists[f"weight_gate_ih_l{j}"][i], below) + dot(lists["weight_gate_hh"][j][i], star))
                    if net.gated
                    else 1.0
                    for i in range(layers)
                ]
                made_h, made_c = [], []
                for unit in range(size):

                    def vertical(name, unit=unit, j=j, below=below):
                        row = block[name] * size + unit
                        offset = lists[f"bias_l{j}"][row] if net.bias else 0.0
                        return dot(lists[f"weight_ih_l{j}"][row], below) + offset

                    feedback = sum(g[i] * dot(lists["weight_hh"][i][j * size + unit], h[i]) for i in range(layers))
                    gate = {
                        name: sigmoid(vertical(name) + dot(lists["weight_hh"][j][(layers + place) * size + unit], h[j]))
                        for place, name in enumerate(gates)
                    }
                    if cell == "tanh":
                        made_h.append(math.tanh(vertical("c") + feedback))
                    elif cell == "gru":
                        candidate = math.tanh(vertical("c") + gate["r"] * feedback)
                        made_h.append((1 - gate["z"]) * candidate + gate["z"] * h[j][unit])
                    else:
                        candidate = math.tanh(vertical("c") + feedback)
                        made_c.append(gate["f"] * c[j][unit] + gate["i"] * candidate)
                        made_h.append(gate["o"] * math.tanh(made_c[-1]))
                new_h.append(made_h)
                new_c.append(made_c or c[j])
            h, c = new_h, new_c
            outputs[t, b] = torch.tensor(h[-1], dtype=torch.float64)
        last_h[:, b], last_c[:, b] = torch.tensor(h, dtype=torch.float64), torch.tensor(c, dtype=torch.float64)
    return outputs, ((last_h, last_c) if cell == "lstm" else last_h)


def parts(state):
    return (state,) if isinstance(state, torch.Tensor) else state


def close(a, b, rtol=1e-10):
    return all(torch.allclose(p, q, rtol=rtol, atol=1e-12) for p, q in zip(parts(a), parts(b), strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_its_equations(cell, gated, bias):
    net = model(cell, gated=gated, bias=bias)
    x, state = example(cell)
    output, last = net(x, state)
    expected, expected_last = twin(net, x, state)
    assert close(output, expected)
    assert close(last, expected_last)
    with torch.no_grad():
        again, last_again = net(x, state)
    assert close(again, expected)
    assert close(last_again, expected_last)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("gated", [True, False])
def test_gradients_pass_gradcheck(cell, gated):
    net = model(cell, gated=gated)
    x, state = example(cell, time=3)
    inputs = [x.requires_grad_(), *(part.requires_grad_() for part in parts(state))]

    def run(x, *rest):
        state, weights = rest[: len(parts(state_form))], rest[len(parts(state_form)) :]
        names = [name for name, _ in net.named_parameters()]
        output, last = torch.func.functional_call(
            net, dict(zip(names, weights, strict=True)), (x, state if cell == "lstm" else state[0])
        )
        return output, *parts(last)

    state_form = state
    assert torch.autograd.gradcheck(run, (*inputs, *net.parameters()), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (*inputs, *net.parameters()), fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_gradients_equal_those_of_the_steps_one_by_one(cell, with_lengths):
    net = model(cell)
    x, state = example(cell, time=6, batch=4)
    lengths = [3, 6, 1, 6] if with_lengths else None
    found, expected = [], []
    for gradients in (found, expected):
        leaves = [x.clone().requires_grad_(), *(part.clone().requires_grad_() for part in parts(state))]
        given = tuple(leaves[1:]) if cell == "lstm" else leaves[1]
        if gradients is found:
            output, last = net(leaves[0], given, lengths=lengths)
        else:
            with torch.autograd.forward_ad.dual_level():  # where only ordinary operations will do
                output, last = net(leaves[0], given, lengths=lengths)
        weigh = torch.Generator().manual_seed(5)
        loss = sum(
            (part * torch.randn(part.shape, generator=weigh, dtype=part.dtype)).sum() for part in (output, *parts(last))
        )
        gradients.extend(torch.autograd.grad(loss, [*leaves, *net.parameters()]))
    assert len(found) == len(expected) > 8
    assert close(tuple(found), tuple(expected))


@pytest.mark.parametrize("cell", CELLS)
def test_without_feedback_between_layers_and_gates_it_is_the_plain_stack(cell):
    net = model(cell, gated=False)
    plain = TORCH[cell](INPUT, HIDDEN, LAYERS, dtype=torch.float64)
    blocks = {"tanh": [], "gru": [0, 1], "lstm": [0, 1, 3]}[cell]
    candidate = {"tanh": 0, "gru": 2, "lstm": 2}[cell]
    with torch.no_grad():
        net.weight_hh.zero_()
        for k in range(LAYERS):
            getattr(net, f"weight_ih_l{k}").copy_(getattr(plain, f"weight_ih_l{k}"))
            getattr(net, f"bias_l{k}").copy_(getattr(plain, f"bias_ih_l{k}"))
            getattr(plain, f"bias_hh_l{k}").zero_()
            recurrent = getattr(plain, f"weight_hh_l{k}").view(-1, HIDDEN, HIDDEN)
            net.feedback(k, k).copy_(recurrent[candidate])
            net.weight_hh[k, LAYERS * HIDDEN :].copy_(recurrent[blocks].flatten(0, 1))
    x, state = example(cell)
    output, last = net(x, state)
    expected, expected_last = plain(x, state)
    assert close(output, expected)
    assert close(last, expected_last)


@pytest.mark.parametrize("cell", CELLS)
def test_open_gates_are_no_gates(cell):
    gated, free = model(cell), model(cell, gated=False)
    free.load_state_dict({name: value for name, value in gated.state_dict().items() if "gate" not in name})
    x, state = example(cell)
    with torch.no_grad():  # logits of 40 and more: 1 to the last bit
        gated.weight_gate_hh.zero_()
        for k in range(LAYERS):
            getattr(gated, f"weight_gate_ih_l{k}").zero_()
        gated.weight_gate_ih_l0[:, 0] = 1e3
    x[..., 0] = 1.0
    assert (gated.global_gates(x, state)[:, :, 0] == 1).all()
    assert (gated.global_gates(x, state)[:, :, 1:] == 0.5).all()
    assert (free.global_gates(x, state) == 1).all()
    with torch.no_grad():
        for target in range(1, LAYERS):
            for source in range(LAYERS):
                gated.feedback(source, target).mul_(2)  # half open
    assert close(gated(x, state)[0], free(x, state)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_padding_counts_for_nothing(cell):
    net = model(cell, batch_first=True)
    x, state = example(cell, batch=4)
    x, lengths = x.transpose(0, 1).clone(), torch.tensor([2, 5, 1, 4])
    for sequence, length in zip(x, lengths, strict=True):
        sequence[length:] = float("nan")
    x.requires_grad_()
    output, last = net(x, state, lengths=lengths)
    for b, length in enumerate(lengths):
        own = tuple(part[:, b : b + 1] for part in parts(state))
        expected, expected_last = net(x[b : b + 1, :length], own if cell == "lstm" else own[0])
        assert close(output[b, :length], expected[0])
        assert (output[b, length:] == 0).all()
        assert close(tuple(part[:, b : b + 1] for part in parts(last)), expected_last)
    (output.sum() + parts(last)[0].sum()).backward()
    assert all((x.grad[b, length:] == 0).all() for b, length in enumerate(lengths))
    assert (x.grad[1] != 0).all()
    assert net.weight_hh.grad.isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_in_two_pieces_is_the_whole(cell):
    net = model(cell)
    x, state = example(cell)
    output, last = net(x, state)
    first, between = net(x[:2], state)
    second, end = net(x[2:], between)
    assert close(torch.cat([first, second]), output)
    assert close(end, last)


def test_layouts_and_default_state():
    x, _ = example("gru")
    net = model("gru")
    output, last = net(x)
    other = model("gru", batch_first=True)
    found, found_last = other(x.transpose(0, 1), torch.zeros_like(last))
    assert close(found.transpose(0, 1), output)
    assert close(found_last, last)
    assert net.global_gates(x).shape == (TIME, BATCH, LAYERS, LAYERS)
    assert close(other.global_gates(x.transpose(0, 1)).transpose(0, 1), net.global_gates(x))


def test_gates_are_their_equation():
    net = model("tanh")
    x, h = example("tanh", time=1)
    gates = net.global_gates(x, h)
    star = h.transpose(0, 1).flatten(1)  # (batch, all states)
    below = x[0]
    for target in range(LAYERS):
        logits = below @ getattr(net, f"weight_gate_ih_l{target}").t() + star @ net.weight_gate_hh[target].t()
        assert close(gates[0, :, target], logits.sigmoid())
        below = net(x, h)[1][target]


@pytest.mark.parametrize("cell", CELLS)
def test_survives_copy_state_dict_and_other_precision(cell):
    net = model(cell)
    x, state = example(cell)
    expected = net(x, state)
    other = GatedFeedback(INPUT, HIDDEN, LAYERS, cell).double()
    other.load_state_dict(net.state_dict())
    for twin_net in (copy.deepcopy(net), other):
        output, last = twin_net(x, state)
        assert close(output, expected[0])
        assert close(last, expected[1])
    single = net.float()
    assert single(x.float())[0].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = single(x.float())
    assert torch.allclose(output.double(), model(cell)(x)[0], atol=0.05)


@pytest.mark.usefixtures("unchecked")
def test_compiles_as_one_graph():
    torch.manual_seed(0)
    net, x = GatedFeedback(INPUT, HIDDEN, 2, "gru"), torch.randn(2, 1, INPUT)
    output, last = torch.compile(net, backend="aot_eager", fullgraph=True)(x)
    expected, expected_last = net(x)
    assert torch.allclose(output, expected, atol=1e-6)
    assert torch.allclose(last, expected_last, atol=1e-6)


def test_learns_what_came_first():
    torch.manual_seed(0)
    bits = torch.randint(2, (64, 6))
    x = nn.functional.one_hot(bits, 2).float()
    net, readout = GatedFeedback(2, 16, 2, "gru", batch_first=True), nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(readout(net(x)[0][:, -1]), bits[:, 0])
        loss.backward()
        optimizer.step()
    assert (readout(net(x)[0][:, -1]).argmax(1) == bits[:, 0]).float().mean() > 0.95


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "elman"}, "cell must be one of tanh, gru, lstm, got 'elman'"),
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"input_size": -1}, "input_size must be at least 1, got -1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses_bad_settings(options, words):
    with pytest.raises(ValueError, match=f"GatedFeedback: {words}"):
        GatedFeedback(**{"input_size": 2, "hidden_size": 3, **options})


ZEROS = torch.zeros(TIME, BATCH, INPUT, dtype=torch.float64)
STATE = torch.zeros(LAYERS, BATCH, HIDDEN, dtype=torch.float64)


@pytest.mark.parametrize(
    ("cell", "given", "options", "error", "words"),
    [
        ("gru", (ZEROS[0],), {}, ValueError, r"input must be \(time, batch, 3\) in this order, got shape \(2, 3\)"),
        ("gru", (ZEROS[..., :2],), {}, ValueError, r"input must be .* got shape \(5, 2, 2\)"),
        ("gru", (ZEROS.long(),), {}, TypeError, "input must be floating point, got torch.int64"),
        ("gru", (ZEROS.float(),), {}, TypeError, "input is torch.float32, the parameters are torch.float64"),
        ("gru", (ZEROS / 0,), {}, ValueError, "input must be finite"),
        ("gru", (ZEROS,), {"lengths": [5, 0]}, ValueError, "lengths must be in 1..5 .*got 0 for sequence 1"),
        ("gru", (ZEROS,), {"lengths": [6, 5]}, ValueError, "lengths must be in 1..5 .*got 6 for sequence 0"),
        ("gru", (ZEROS, STATE[:2]), {}, ValueError, r"hx must be one tensor \(3, 2, 4\), got \[\(2, 2, 4\)\]"),
        ("gru", (ZEROS, (STATE, STATE)), {}, ValueError, "hx must be one tensor"),
        ("gru", (ZEROS, STATE / 0), {}, ValueError, "hx must be finite"),
        ("lstm", (ZEROS, STATE), {}, ValueError, r"hx must be a tuple \(h, c\), each \(3, 2, 4\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses_bad_calls(cell, given, options, error, words):
    with pytest.raises(error, match=f"GatedFeedback: {words}"):
        model(cell)(*given, **options)


def test_refuses_layers_that_are_not_there():
    with pytest.raises(ValueError, match="source must be a layer from 0 to 2, got 3"):
        model("gru").feedback(3, 0)

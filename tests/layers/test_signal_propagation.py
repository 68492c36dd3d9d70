import copy
import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from claimwise.layers import PReLU, SignalScales, initialise_weights, signal_propagation, will_it_train

DOUBLE = torch.float64


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def convolutions(count, channels, activation, **scheme):
    layers = [layer for _ in range(count) for layer in (nn.Conv2d(channels, channels, 3, padding=1), activation())]
    model = nn.Sequential(*layers)
    initialise_weights(model, generator=draws(), **scheme)
    return model


# theory alone


def test_the_papers_numbers():
    he, xavier, small = (
        will_it_train(30, initialisation=scheme, width=64, kernel=3) for scheme in ("he", "xavier", "constant")
    )
    # The sheet's 1.78, 3.5e-5 and 1e-23 are single draws; the expectation is within a factor of 2.
    for scales, wanted in ((he, 1.78), (xavier, 3.5e-5), (small, 1e-23)):
        assert scales.activation_std[-1] == pytest.approx(wanted, rel=0.5)
    assert he.activation_std[-1] == pytest.approx(math.sqrt(2))
    assert xavier.activation_std[-1] == pytest.approx(2**-14.5)
    assert (he.activation_slope, xavier.activation_slope) == pytest.approx((0, -1), abs=1e-9)
    assert (he.gradient_slope, xavier.gradient_slope) == pytest.approx((0, -1), abs=1e-9)
    assert (he.verdict, xavier.verdict, small.verdict) == ("trains", "vanishes", "vanishes")
    parametric = will_it_train(30, activation="prelu", kernel=3)
    assert parametric.activation_std == pytest.approx([math.sqrt(2 / 1.0625)] * 30)
    assert will_it_train(22, initialisation="xavier").verdict == "trains"


def test_gradient_of_vgg_b_under_a_constant_deviation():
    channels = (3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
    found = will_it_train(width=channels, kernel=3, initialisation="constant")
    rounded = 5.9 * 4.2**2 * 2.9**2 * 2.1**4
    assert rounded == pytest.approx(1.7e4, rel=0.01)
    assert 1 / found.gradient_std[0] == pytest.approx(rounded, rel=0.02)  # the paper rounds its deviations
    assert found.verdict == "vanishes"


def test_fan_out_keeps_gradients_and_costs_the_ratio_of_the_ends():
    widths = (32, 64, 16, 128, 256)
    inwards, outwards = (will_it_train(width=widths, mode=mode) for mode in ("fan-in", "fan-out"))
    assert outwards.gradient_std == pytest.approx([1] * 4)
    assert inwards.activation_std == pytest.approx([math.sqrt(2)] * 4)
    # Section 2.2: with the forward form the gradient changes by c_2 / d_L alone.
    assert inwards.gradient_std[0] ** 2 == pytest.approx(256 / 64)
    assert outwards.activation_std[-1] ** 2 == pytest.approx(2 * 32 / 256)


def test_averages_of_tanh_against_quadrature():
    z = torch.linspace(-10, 10, 20001, dtype=DOUBLE)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    found = will_it_train(3, activation="tanh", initialisation="xavier")
    q = 1.0
    for std in found.activation_std:
        assert std**2 == pytest.approx(q, rel=1e-9)
        slope = float((1 - torch.tanh(math.sqrt(q) * z).square()).square() @ density)
        q = float(torch.tanh(math.sqrt(q) * z).square() @ density)
    assert found.gradient_std[-1] == 1
    before = found.activation_std[1]
    slope = float((1 - torch.tanh(before * z).square()).square() @ density)
    assert found.gradient_std[1] ** 2 == pytest.approx(slope, rel=1e-9)


def test_words_for_what_happens():
    assert will_it_train(20, activation="linear", initialisation="constant", std=1.0).verdict == "explodes"
    assert will_it_train(20, activation="sigmoid", initialisation="xavier").verdict == "vanishes"  # its gradient
    assert will_it_train(60, activation="leaky", slope=0.01).verdict == "trains"
    assert SignalScales(("a", "b"), (1.0, 0.0), (1.0, 1.0)).verdict == "vanishes"
    assert SignalScales(("a", "b"), (1.0, 0.0), (1.0, 1.0)).activation_slope == -math.inf
    assert SignalScales(("a", "b"), (1.0, math.inf), (1.0, 1.0)).verdict == "explodes"
    assert SignalScales(("a", "b"), (1.0, 1.0), (9000.0, 1.0)).verdict == "explodes"
    assert math.isnan(SignalScales(("a", "b"), (1.0, math.nan), (1.0, 1.0)).activation_slope)
    assert will_it_train(1).verdict == "trains"


# measured


def test_measured_scales_against_loops():
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3, dtype=DOUBLE), nn.Linear(3, 2, dtype=DOUBLE)
    x = torch.randn(5, 4, dtype=DOUBLE)
    found = signal_propagation(
        nn.Sequential(first, nn.ReLU(), second), x, objective=lambda z: z.square().sum()
    ).measured
    y1 = [[sum(first.weight[i, j] * row[j] for j in range(4)) + first.bias[i] for i in range(3)] for row in x]
    hidden = [[max(0.0, float(v)) for v in row] for row in y1]
    y2 = [[sum(second.weight[i, j] * row[j] for j in range(3)) + second.bias[i] for i in range(2)] for row in hidden]
    g2 = [[2 * float(v) for v in row] for row in y2]
    g1 = [
        [sum(g2[n][i] * float(second.weight[i, j]) for i in range(2)) * (hidden[n][j] > 0) for j in range(3)]
        for n in range(5)
    ]

    def scale(rows):
        values = [float(v) ** 2 for row in rows for v in row]
        return math.sqrt(sum(values) / len(values))

    assert found.activation_std == pytest.approx((scale(y1), scale(y2)))
    assert found.gradient_std == pytest.approx((scale(g1), scale(g2)))


ACTIVATIONS = {
    "relu": nn.ReLU,
    "in place": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.3),
    "prelu": lambda: PReLU(400, 0.25),
    "torch's": nn.PReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "identity": nn.Identity,
}


def over_draws(model, x, count, scheme="he"):
    """Measured and predicted scales, in mean square over draws of the weights: the prediction is an expectation."""
    found = []
    for seed in range(count):
        initialise_weights(model, scheme, generator=draws(seed))
        found.append(signal_propagation(model, x, generator=draws(100 + seed)))
    return [
        torch.tensor([getattr(getattr(one, side), what) for one in found], dtype=DOUBLE).square().mean(0).sqrt()
        for side in ("measured", "predicted")
        for what in ("activation_std", "gradient_std")
    ]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_prediction_is_what_wide_layers_do(name):
    layers = [layer for _ in range(5) for layer in (nn.Linear(400, 400), ACTIVATIONS[name](), nn.Dropout(0.5))]
    signal, gradient, wanted_signal, wanted_gradient = over_draws(
        nn.Sequential(*layers), torch.randn(50, 400, generator=draws(1000)), 12, "xavier"
    )
    # A draw of 400 rectifiers is off by a tenth a layer in variance, and layers add up: 3 % in the mean of twelve.
    torch.testing.assert_close(signal, wanted_signal, rtol=0.08, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0.08, atol=0)


def test_prediction_accounts_for_zeros_strides_groups_and_flattening():
    model = nn.Sequential(
        nn.Conv2d(40, 80, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(80, 80, 3, padding=2, dilation=2, groups=2),
        nn.ReLU(),
        nn.ConvTranspose2d(80, 60, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(60, 100, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(100 * 64, 50),
    )
    signal, gradient, wanted_signal, wanted_gradient = over_draws(
        model, torch.randn(10, 40, 8, 8, generator=draws(1000)), 12
    )
    assert len(signal) == 5
    torch.testing.assert_close(signal, wanted_signal, rtol=0.08, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0.08, atol=0)


def test_biases_add_to_the_signal():
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300))
    initialise_weights(model, generator=draws())
    with torch.no_grad():
        model[0].bias.fill_(3.0)
    found = signal_propagation(model, torch.randn(200, 300, generator=draws(1000)))
    assert found.predicted.activation_std[0] == pytest.approx(math.sqrt(2 + 9), rel=0.02)
    assert found.measured.activation_std[0] == pytest.approx(math.sqrt(2 + 9), rel=0.02)


def test_convolutions_of_thirty_layers():
    x = torch.randn(4, 32, 8, 8, generator=draws(1000))
    he, xavier = (convolutions(30, 32, nn.ReLU, scheme=s) for s in ("he", "xavier"))
    kept, lost = (signal_propagation(model, x, generator=draws(2)) for model in (he, xavier))
    assert lost.measured.activation_slope - kept.measured.activation_slope == pytest.approx(-1, abs=1e-3)  # one draw
    assert lost.measured.gradient_slope - kept.measured.gradient_slope == pytest.approx(-1, abs=1e-3)
    # In 8 x 8 pixels the zeros around the image cost a part of every layer's signal, and the prediction knows;
    # among 32 channels a draw's slope strays by another tenth or two.
    assert kept.predicted.activation_slope < -0.05
    assert kept.measured.activation_slope == pytest.approx(kept.predicted.activation_slope, abs=0.3)
    assert lost.verdict == "vanishes"


class Branches(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Linear(channels, channels)
        self.act = nn.ReLU()
        self.second = nn.Linear(channels, channels)
        self.third = nn.Linear(channels, 300)

    def forward(self, x):
        h = self.act(self.first(x))
        return self.third(F.relu(h + self.second(h)))


def test_where_the_chain_breaks_it_goes_on_from_what_is_measured():
    torch.manual_seed(0)
    found = signal_propagation(Branches(300), torch.randn(50, 300), generator=draws())
    assert found.measured.activation_std == pytest.approx(found.predicted.activation_std, rel=0.15)
    first, second, third = found.predicted.gradient_std
    assert not math.isnan(first)  # through the rectifier, from what is measured behind it
    assert first == pytest.approx(found.measured.gradient_std[0], rel=0.15)
    assert math.isnan(second)
    assert third == found.measured.gradient_std[2]


def test_pooling_and_normalisation_are_measured_through():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 60, 3), nn.BatchNorm2d(60), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(60, 60, 3), nn.ReLU()
    )
    initialise_weights(model, generator=draws())
    state = copy.deepcopy(model.state_dict())
    model.train()
    found = signal_propagation(model, torch.randn(20, 3, 12, 12), generator=draws())
    assert found.measured.activation_std[1] == pytest.approx(found.predicted.activation_std[1], rel=0.15)
    assert model.training
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_layer_used_twice_and_inputs_that_are_words():
    torch.manual_seed(0)
    shared = nn.Linear(30, 30)
    found = signal_propagation(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(4, 30))
    assert found.names == ("0", "0 (2)")
    words = nn.Sequential(nn.Embedding(10, 20), nn.Flatten(), nn.Linear(60, 5))
    found = signal_propagation(words, torch.randint(10, (4, 3)))
    assert found.names == ("0", "2")
    assert all(g > 0 for g in found.measured.gradient_std)


def test_draws_from_its_generator_alone_and_repeats():
    model = nn.Sequential(nn.Linear(3, 3))
    before = torch.get_rng_state()
    with torch.no_grad():
        a, b = (signal_propagation(model, torch.ones(2, 3), generator=draws()) for _ in range(2))
    assert a == b
    assert torch.equal(before, torch.get_rng_state())


def test_refuses(unchecked):
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.ones(2, 3)
    for call, error, message in (
        (lambda: signal_propagation(3, x), TypeError, "got int"),
        (lambda: signal_propagation(model, [1.0]), TypeError, "got list"),
        (lambda: signal_propagation(model, x * math.nan), ValueError, "finite"),
        (lambda: signal_propagation(model, x[:0]), ValueError, "not empty"),
        (lambda: signal_propagation(nn.ReLU(), x), ValueError, "no layer with weights"),
        (lambda: signal_propagation(model, x, objective=lambda y: y), ValueError, "scalar"),
        (lambda: signal_propagation(model, x, objective=lambda y: y.sum().detach()), ValueError, "scalar"),
        (lambda: signal_propagation(nn.LSTM(3, 2), x), TypeError, "objective="),
        (lambda: signal_propagation(model, x, tolerance=1.0), ValueError, "above 1, got 1.0"),
        (lambda: will_it_train(), ValueError, "give depth"),
        (lambda: will_it_train(0), ValueError, "depth must be at least 1, got 0"),
        (lambda: will_it_train(3, width=(1, 2)), ValueError, "got 2 for depth 3"),
        (lambda: will_it_train(3, width=0), ValueError, "at least 1"),
        (lambda: will_it_train(3, kernel=0), ValueError, "at least 1"),
        (lambda: will_it_train(3, activation="swish"), ValueError, "got 'swish'"),
        (lambda: will_it_train(3, initialisation="lecun"), ValueError, "got 'lecun'"),
        (lambda: will_it_train(3, input_std=0.0), ValueError, "input_std must be > 0"),
        (lambda: will_it_train(3, slope=math.inf), ValueError, "slope must be finite"),
        (lambda: will_it_train(3, tolerance=math.nan), ValueError, "tolerance"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert not model[0]._forward_hooks


def test_nothing_is_kept_alive_by_it():
    """Hooks on outputs that stay where they are would keep the graph, and with it the model, for ever."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    kept = [weakref.ref(module) for module in model.modules()]
    signal_propagation(model, torch.randn(5, 3))
    with pytest.raises(ValueError, match="scalar"):
        signal_propagation(model, torch.randn(5, 3), objective=lambda output: output)
    del model
    gc.collect()
    assert [ref() for ref in kept] == [None] * 4

import copy
import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from claimwise.vision import VGG, LocalResponseNormalisation, ReceptiveField, dense, receptive_field, receptive_fields

module = importlib.import_module("claimwise.vision.receptive_field")  # its name is also that of the function


def stack(*sizes, **settings):
    return nn.Sequential(*(layer for k in sizes for layer in (nn.Conv2d(2, 2, k, **settings), nn.ReLU())))


def brute_force(model, size, unit):
    """First and last row and column whose change changes a unit, found by changing every pixel in turn.

    On weights drawn uniformly from above 0, so that no rectifier is dead; nothing else is assumed.
    """
    probe = copy.deepcopy(model).double().eval()
    draw = torch.Generator().manual_seed(3)
    for parameter in probe.parameters():
        parameter.data = torch.rand(parameter.shape, dtype=torch.float64, generator=draw) + 0.5
        if parameter.dim() > 1:
            parameter.data /= parameter[0].numel()
    base = torch.rand(1, *size, dtype=torch.float64, generator=draw)
    pixels = []
    with torch.no_grad():
        reference = probe(base)[0, :, unit[0], unit[1]]
        for i in range(size[1]):
            for j in range(size[2]):
                changed = base.clone()
                changed[:, :, i, j] = 100.0  # large, so that it wins every max pooling
                if not torch.equal(probe(changed)[0, :, unit[0], unit[1]], reference):
                    pixels.append((i, j))
    rows, columns = zip(*pixels, strict=True)
    return (min(rows), max(rows)), (min(columns), max(columns))


@pytest.mark.parametrize("method", ["composed", "probed"])
@pytest.mark.parametrize(("layers", "side"), [(1, 3), (2, 5), (3, 7), (10, 21)])
def test_stacked_3x3_see_what_the_paper_says(layers, side, method):
    field = receptive_field(stack(*[3] * layers, padding=1), (2, 32, 32), method=method)
    assert field == ReceptiveField((side, side), (1.0, 1.0), (0.0, 0.0), (False, False))


# from the table of https://distill.pub/2019/computing-receptive-fields (vgg_16: 212 before the FC layers, stride 32)
def test_vgg_16():
    fields = receptive_fields(VGG("D", device="meta"))
    assert fields["features.30"] == ReceptiveField((212, 212), (32.0, 32.0), (15.5, 15.5), (False, False))
    assert fields["classifier.6"].size == (404, 404)  # 212 + 6 * 32
    assert fields["classifier.6"].stride == (0.0, 0.0)


CASES = {
    "strides": nn.Sequential(nn.Conv2d(2, 3, (3, 5), (2, 1), (1, 2)), nn.ReLU(), nn.Conv2d(3, 2, 3, 2)),
    "dilation": nn.Sequential(nn.Conv2d(2, 3, 3, dilation=2, padding=2), nn.Conv2d(3, 2, 2, dilation=3)),
    "pooling": nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 2, 3), nn.AvgPool2d(2)),
    "dilated pooling": nn.Sequential(nn.MaxPool2d(2, 1, dilation=3), nn.Conv2d(2, 2, 3, padding="same")),
    "ceil mode": nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 2, 2)),
    "nested": nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), nn.Sequential(nn.MaxPool2d(2))),
    "groups": nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.PReLU(), nn.Conv2d(4, 4, 1)),
    "even kernels": nn.Sequential(nn.Conv2d(2, 2, 4, padding="same"), nn.Conv2d(2, 2, 2, 3)),
    "normalisation": nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.LocalResponseNorm(3), LocalResponseNormalisation(), nn.Dropout(), nn.Conv2d(6, 2, 3)
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", CASES)
def test_composition_and_probing_and_brute_force_agree(name):
    model, size = CASES[name], (2, 23, 27)
    composed = receptive_field(model, size, method="composed")
    assert receptive_field(model, size, method="probed") == composed
    with torch.no_grad():
        shape = copy.deepcopy(model).eval()(torch.zeros(1, *size)).shape
    unit = ((shape[2] - 1) // 2, (shape[3] - 1) // 2)
    assert brute_force(model, size, unit) == composed.span(*unit)


KINDS = st.sampled_from(["conv", "max", "mean"])
WINDOWS = (st.integers(1, 4), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2))


@given(layers=st.lists(st.tuples(KINDS, *WINDOWS), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_composition_and_probing_agree_on_random_stacks(layers):
    stack = []
    for kind, kernel, stride, padding, dilation in layers:
        padding = min(padding, kernel // 2)
        if kind == "conv":
            stack.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        elif kind == "max":
            stack.append(nn.MaxPool2d(kernel, stride, padding, dilation))
        else:
            stack.append(nn.AvgPool2d(kernel, stride, padding))
    model = nn.Sequential(*stack)
    composed, probed = (receptive_fields(model, (1, 110, 110), method=method) for method in ("composed", "probed"))
    assert composed == probed


def test_span_counts_from_the_centre():
    field = ReceptiveField((5, 4), (2.0, 1.0), (-1.0, 0.5), (False, False))
    assert field.span(0, 0) == ((-3.0, 1.0), (-1.0, 2.0))
    assert field.span(3, 2) == ((3.0, 7.0), (1.0, 4.0))
    with pytest.raises(ValueError, match="give 2 indices"):
        field.span(1)


class Residual(nn.Module):
    """A wide branch and a narrow one, added in place as the usual residual networks do."""

    def __init__(self, wide, narrow, add):
        super().__init__()
        self.wide, self.narrow, self.add = wide, narrow, add

    def forward(self, x):
        return F.relu(self.add(self.wide(x), self.narrow(x)))


def in_place(a, b):
    a += b
    return a


@pytest.mark.parametrize(
    "add", [torch.add, torch.sub, in_place, lambda a, b: torch.cat([a, b], 1), torch.maximum],
    ids=["sum", "difference", "in place", "concatenation", "maximum"],
)  # fmt: skip
@pytest.mark.parametrize("first", ["wide", "narrow"])
def test_branches_see_their_widest(add, first):
    wide, narrow = nn.Conv2d(2, 2, 7, padding=3), nn.Conv2d(2, 2, 3, padding=1)
    model = Residual(wide, narrow, add) if first == "wide" else Residual(narrow, wide, add)
    expected = ReceptiveField((7, 7), (1.0, 1.0), (0.0, 0.0), (False, False))
    assert receptive_field(model, (2, 20, 20)) == expected
    with pytest.raises(ValueError, match="not a plain stack"):
        receptive_field(model, (2, 20, 20), method="composed")


def test_what_is_added_in_place_by_a_function_is_not_missed():
    class Sly(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()

        def forward(self, x):
            out = self.one(x)
            out += F.avg_pool2d(x, 9, 1, 4)  # the same tensor goes on, but it has seen more
            return self.two(out)

    assert receptive_field(Sly(), (1, 24, 24)).size == (9, 9)


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.function, self.last = nn.Conv2d(1, 2, 3), function, nn.Conv2d(2, 1, 3)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "size", "stride"),
    [
        (lambda x: F.max_pool2d(x, 2), 8, 2.0),
        (lambda x: torch.max_pool2d(x, 3, 1), 7, 1.0),
        (lambda x: F.max_pool2d(x, kernel_size=2, stride=1, dilation=2), 7, 1.0),
        (lambda x: F.max_pool2d(x, 2, return_indices=False), 8, 2.0),
        (lambda x: F.relu(x, inplace=True), 5, 1.0),
        (lambda x: x.relu(), 5, 1.0),
        (lambda x: x.clamp(min=0), 5, 1.0),
        (lambda x: -torch.relu(-x), 5, 1.0),  # dead wherever the weights are positive
        (lambda x: torch.where(x > 0, x, 0.0 * x), 5, 1.0),
        (lambda x: F.hardtanh(x, -1e-3, 1e-3), 5, 1.0),  # saturated
        (lambda x: x[:, :, ::2, ::2], 7, 2.0),
        (lambda x: x.unfold(2, 3, 1).amax(-1).unfold(3, 3, 1).amax(-1), 7, 1.0),  # a max pooling in disguise
        (lambda x: x.round(), 5, 1.0),  # no gradient anywhere
        (lambda x: x - x.roll(1, 2), (6, 5), 1.0),
    ],
)  # fmt: skip
def test_functions_between_layers(function, size, stride):
    field = receptive_field(Functional(function), (1, 33, 33))
    assert field.size == (size if isinstance(size, tuple) else (size, size))
    assert field.stride == (stride, stride)
    assert field.clipped == (False, False)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, 2, ceil_mode=True),
        lambda x: torch.max_pool2d(x, 2, dilation=2),
        lambda x: -torch.relu(-x),
    ],
)
def test_gradients_suffice_where_poolings_and_rectifiers_are_linear(function, monkeypatch):
    def widened(*_):
        raise AssertionError("searched by bisection, which costs dozens of forward passes")

    monkeypatch.setattr(module._Probe, "_widened", widened)
    receptive_field(Functional(function), (1, 33, 33))


def test_enlarging_layers_have_strides_below_one():
    up = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.Upsample(scale_factor=4), nn.Conv2d(1, 1, 1))
    assert receptive_field(up, (1, 65, 65)).stride == (0.5, 0.5)
    transposed = nn.ConvTranspose2d(1, 1, 2, 2)
    field = receptive_field(transposed, (1, 20, 20))
    assert field.size == (1, 1)
    assert field.stride == (0.5, 0.5)
    assert all(-0.5 <= centre <= 0 for centre in field.centre)  # units 0 and 1 both see pixel 0


def test_weights_do_not_matter():
    model = stack(3, 3, padding=1)
    for parameter in model.parameters():
        parameter.data.fill_(0.0)  # and so is every gradient
    assert receptive_field(model, (2, 16, 16), method="probed").size == (5, 5)
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
    model[0].bias.data.fill_(-1e6)  # a dead rectifier
    assert receptive_field(model, (1, 16, 16), method="probed").size == (5, 5)


def test_a_deep_network_neither_vanishes_nor_explodes():
    deep = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(60)))
    assert receptive_field(deep, (1, 160, 160), method="probed").size == (121, 121)


def test_layers_by_name():
    model = nn.Sequential(
        nn.Conv2d(1, 1, 3), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)), nn.Flatten(), nn.LazyLinear(2)
    )
    model(torch.zeros(1, 1, 16, 16))
    fields = receptive_fields(model, (1, 16, 16))
    assert list(fields) == ["0", "1.0", "1.1", "2", "3"]
    assert receptive_field(model, (1, 16, 16), layer="1.1") == fields["1.1"]
    assert receptive_field(model, (1, 16, 16), layer="1") == fields["1.1"]  # not a leaf, so it is probed
    probed = receptive_fields(model, (1, 16, 16), method="probed")
    assert list(probed) == list(fields)
    assert all(probed[name] == fields[name] for name in ("0", "1.0", "1.1"))
    assert probed["3"] == ReceptiveField((16, 16), (0.0, 0.0), (7.5, 7.5), (True, True))


def test_what_does_not_fit_is_called_clipped():
    field = receptive_field(stack(*[3] * 6, padding=1), (2, 9, 30), method="probed")
    assert field.clipped == (True, False)
    assert field.size == (9, 13)
    assert field.stride[1] == 1.0


def test_without_a_size_one_is_found():
    assert receptive_field(stack(3, 3)).size == (5, 5)
    assert receptive_field(stack(*[3] * 20, padding=1), method="probed").size == (41, 41)  # larger than the first try
    assert receptive_field(nn.Conv1d(4, 2, 5)) == ReceptiveField((5,), (1.0,), (2.0,), (False,))
    assert receptive_field(nn.Conv3d(1, 1, (1, 2, 3)), method="probed").size == (1, 2, 3)
    mnist = nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 144, 10))
    assert receptive_field(mnist).size == (28, 28)
    assert receptive_field(dense(VGG("A", width=1 / 64, image_size=32, pools=3, classes=2))).stride == (8.0, 8.0)


def test_composition_and_probing_agree_on_vgg():
    model = VGG("C", width=1 / 64, image_size=128, pools=3, classes=2)
    composed, probed = (receptive_fields(model.features, (3, 128, 128), method=m) for m in ("composed", "probed"))
    assert len(composed) == 29
    assert composed == probed


def test_the_model_is_left_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Dropout()).train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, rng = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    for method in ("composed", "probed"):
        receptive_fields(model, (1, 12, 12), method=method)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(layer.training for layer in model.modules())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    assert (model[0].weight.grad == 1).all()
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def test_an_independent_package_agrees():
    vgg = pytest.importorskip("pytorchcv.models.vgg")
    theirs = vgg.get_vgg(blocks=16).features
    assert receptive_field(theirs) == receptive_field(VGG("D", device="meta").features)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: receptive_field(stack(3), method="guess"), "method must be auto, composed or probed, got 'guess'"),
        (lambda: receptive_field(stack(3), layer="x"), "receptive_field: no layer 'x'"),
        (lambda: receptive_field(nn.ReLU()), "pass input_size=(channels, height, width)"),
        (
            lambda: receptive_field(stack(3), (2,)),
            "input_size must be (channels, height, width) of at least 1 each, got (2,)",
        ),
        (lambda: receptive_field(stack(3), (2, 0, 4)), "of at least 1 each, got (2, 0, 4)"),
        (
            lambda: receptive_field(nn.LSTM(3, 3), (3, 3)),
            "the output is not a tensor that depends on the pixels, got tuple",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_an_input_that_the_model_does_not_take_is_torchs_error():
    with pytest.raises(RuntimeError):
        receptive_field(stack(3), (5, 8, 8))

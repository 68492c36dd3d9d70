import copy
import math
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from claimwise.explain import occlusion, windowed_recomputation

OCCLUSION = sys.modules[occlusion.__module__]


class Residual(nn.Module):
    """Strides, a shortcut by 1x1 convolution, a module used twice, functional rectifiers in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.same = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=2, dilation=2, bias=False)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 5)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        x = F.relu_(self.same(x) + x)
        x = F.relu(self.same(x) + x)
        x = self.relu(self.down(x) + self.shortcut(x))
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Concatenated branches of other reach, grouped convolution with shuffled channels, response normalisation."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 5, padding=2)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.normalise = nn.LocalResponseNorm(3, alpha=0.1)
        self.prelu = nn.PReLU(8)
        self.head = nn.Conv2d(8, 5, 3)

    def forward(self, x):
        x = torch.cat([self.narrow(x), self.wide(x).tanh()], 1)
        x = x.view(x.size(0), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        x = self.prelu(self.normalise(self.grouped(x)))
        a, b = F.pad(x, (1, 0, 2, 1)).chunk(2, 1)
        x = torch.cat([a * b, a - 0.5 * b], 1)
        return F.adaptive_avg_pool2d(self.head(x), 1).flatten(1)


class Attentive(nn.Module):
    """Squeeze and excitation: the whole map answers to any change."""

    def __init__(self):
        super().__init__()
        self.first, self.squeeze = nn.Conv2d(2, 5, 3, padding=1), nn.Linear(5, 5)

    def forward(self, x):
        x = self.first(x).relu()
        return (x * self.squeeze(x.mean((2, 3))).sigmoid()[:, :, None, None]).amax((2, 3))


def plain(pool):
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.LeakyReLU(0.5, inplace=True), pool),  # also negative: padding is not 0
        *(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ELU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(24, 5)),
    )


MODELS = {
    "max pool": lambda: plain(nn.MaxPool2d(2)),
    "overlapping max pool": lambda: plain(nn.MaxPool2d(3, 2, padding=1)),
    "max pool that rounds up": lambda: plain(nn.MaxPool2d(2, ceil_mode=True)),
    "dilated max pool": lambda: plain(nn.MaxPool2d(2, 1, dilation=2)),
    "average pool": lambda: plain(nn.AvgPool2d(2, 2, padding=1)),
    "average pool without padding in its mean": lambda: plain(nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "average pool that rounds up": lambda: plain(nn.AvgPool2d(2, ceil_mode=True)),
    "stride over pixels": lambda: plain(nn.Conv2d(4, 4, 1, stride=3)),
    "reflected border": lambda: plain(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "residual": Residual,
    "branches": Branches,
    "attentive": Attentive,
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * 13 * 11, 5)),
}


def made(name):
    torch.manual_seed(1)
    model = MODELS[name]().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model


def slow_occlusion(model, target, x, patch, stride, fill, layer=None):
    """One place at a time, one image at a time; the fill as a picture."""
    model = copy.deepcopy(model).eval()
    kept = []
    if layer is not None:
        model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
    height, width = x.shape[2:]
    tops = [min(i * stride[0], height - patch[0]) for i in range(math.ceil((height - patch[0]) / stride[0]) + 1)]
    lefts = [min(j * stride[1], width - patch[1]) for j in range(math.ceil((width - patch[1]) / stride[1]) + 1)]
    probability, predicted, activity = [], [], []
    for n in range(len(x)):
        kept.clear()
        model(x[n : n + 1])
        strongest = int(kept[0][0].sum((1, 2)).argmax()) if layer is not None else None
        for t in tops:
            for s in lefts:
                image = x[n : n + 1].clone()
                for c in range(x.shape[1]):
                    for h in range(t, t + patch[0]):
                        for w in range(s, s + patch[1]):
                            image[0, c, h, w] = fill[n, c, h, w]
                kept.clear()
                logits = model(image)[0]
                probability.append((logits[target].exp() / logits.exp().sum()).item())
                predicted.append(int(logits.argmax()))
                if layer is not None:
                    activity.append(float(kept[0][0, strongest].sum()))
    shape = (len(x), len(tops), len(lefts))
    return [
        torch.tensor(v, dtype=torch.float64).reshape(shape) if v else None for v in (probability, predicted, activity)
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("patch", "stride"), [((3, 3), (2, 2)), ((1, 1), (3, 3)), ((4, 2), (3, 5)), ((13, 11), (1, 1))]
)
def test_equals_the_slow_twin(name, patch, stride):
    """Also strides that do not divide, odd sizes, windows that meet every border, a patch over everything."""
    model = made(name)
    x = torch.randn(2, 2, 13, 11, dtype=torch.float64)
    found = occlusion(model, 3, x, patch=patch, stride=stride, fill=0.3)
    with torch.no_grad():
        probability, predicted, _ = slow_occlusion(model, 3, x, patch, stride, torch.full_like(x, 0.3))
    assert found.recomputed == "windows"
    assert (found.probability - probability).abs().max() < 1e-10
    assert torch.equal(found.predicted.double(), predicted)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["max pool", "overlapping max pool", "residual", "branches"]),
    *(st.integers(1, 6) for _ in range(4)),
)
def test_any_patch_and_stride(name, height, width, down, right):
    model = made(name)
    x = torch.randn(1, 2, 13, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(height + width))
    found = occlusion(model, 0, x, patch=(height, width), stride=(down, right))
    with torch.no_grad():
        probability, _, _ = slow_occlusion(model, 0, x, (height, width), (down, right), torch.zeros_like(x))
    assert (found.probability - probability).abs().max() < 1e-10


LAYERS = [
    ("max pool", "0"),  # before a rectifier in place
    ("max pool", "2"),
    ("max pool", "5"),
    ("residual", "norm"),
    ("residual", "down"),
    ("branches", "wide"),
    ("branches", "head"),
]


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_activity_of_the_strongest_map_equals_the_slow_twin(name, layer):
    model = made(name)
    x = torch.randn(2, 2, 13, 11, dtype=torch.float64)
    found = occlusion(model, 3, x, patch=4, stride=2, layer=layer)
    alone = occlusion(model, layer, x, patch=4, stride=2)
    with torch.no_grad():
        probability, _, activity = slow_occlusion(model, 3, x, (4, 4), (2, 2), torch.zeros_like(x), layer)
    assert (found.activity - activity).abs().max() < 1e-10
    assert (found.probability - probability).abs().max() < 1e-10
    assert torch.equal(alone.activity, found.activity)
    assert alone.probability is None
    assert alone.recomputed == found.recomputed == "windows"


def test_fills_number_channels_pictures():
    model, x = made("max pool"), torch.randn(2, 2, 13, 11, dtype=torch.float64)
    picture = torch.randn(2, 13, 11, dtype=torch.float64)
    for fill, full in [
        (torch.tensor([0.5, -1.0]), torch.tensor([0.5, -1.0])[:, None, None].expand(2, 2, 13, 11)),
        (picture, picture.expand(2, 2, 13, 11)),
        (x.flip(0), x.flip(0)),
    ]:
        with torch.no_grad():
            expected, _, _ = slow_occlusion(model, 1, x, (3, 3), (4, 4), full.double())
        assert (occlusion(model, 1, x, patch=3, stride=4, fill=fill).probability - expected).abs().max() < 1e-10


def test_one_target_an_image_and_a_chosen_feature_map():
    model, x = made("max pool"), torch.randn(2, 2, 13, 11, dtype=torch.float64)
    both = occlusion(model, torch.tensor([4, 1]), x, patch=3, stride=4, layer="3", feature_map=torch.tensor([0, 5]))
    for i, (target, feature) in enumerate([(4, 0), (1, 5)]):
        one = occlusion(model, target, x[i : i + 1], patch=3, stride=4, layer="3", feature_map=feature)
        assert (both.probability[i] - one.probability[0]).abs().max() < 1e-12
        assert (both.activity[i] - one.activity[0]).abs().max() < 1e-12
    with torch.no_grad():
        clean = model.eval()(x).softmax(1)
        maps = model[:4](x).sum((2, 3))
    assert torch.allclose(both.clean_probability, torch.stack([clean[0, 4], clean[1, 1]]))
    assert torch.allclose(both.clean_activity, torch.stack([maps[0, 0], maps[1, 5]]))


class Counts(nn.Module):
    """Reads a number out in Python, so that no recording can stand for it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(9, 5)

    def forward(self, x):
        x = x[:, 0, :3, :3].flatten(1)
        return self.head(x) * x.new_tensor([[image.sum().item()] for image in x])


class AcrossTheBatch(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :5] - x.flatten(1)[:, :5].cumsum(0).diff(dim=0, prepend=x.new_zeros(1, 5))


class Forgets(nn.Module):
    """Writes into a view, which is not on the tape."""

    def forward(self, x):
        y = x.clone()
        y[:, 0].mul_(2)
        return y.flatten(1)[:, :5]


class Forks(nn.Module):
    """Another branch for another image, which no operator sees."""

    def forward(self, x):
        return x.flatten(1)[:, :5] * torch.as_tensor(x.detach().numpy()[:, 0, 0, :1] > 0.5)


class Counter(nn.Module):
    """Another answer each time."""

    def __init__(self):
        super().__init__()
        self.times = 0

    def forward(self, x):
        self.times += 1
        return x.flatten(1)[:, :5] * self.times


@pytest.mark.parametrize("kind", [Counts, AcrossTheBatch, Forgets, Forks])
def test_a_model_that_cannot_be_recorded_is_run_whole_and_says_so(kind):
    torch.manual_seed(0)
    model, x = kind().double(), torch.rand(1, 2, 13, 11, dtype=torch.float64)
    found = occlusion(model, 3, x, patch=3, stride=2)
    expected, _, _ = slow_occlusion(model, 3, x, (3, 3), (2, 2), torch.zeros_like(x))
    assert found.recomputed.startswith("whole images: ")
    assert (found.probability - expected).abs().max() < 1e-10


def test_a_recording_is_tried_before_it_is_used():
    x = torch.ones(1, 2, 13, 11, dtype=torch.float64)
    found = occlusion(Counter(), 3, x, patch=3, stride=2)
    assert "do not give what the model gives" in found.recomputed


def test_a_function_is_as_good_as_a_module():
    model, x = made("residual").eval(), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    found = occlusion(lambda x: model(x), 3, x, patch=3)
    assert torch.equal(found.probability, occlusion(model, 3, x, patch=3).probability)


def test_other_readings_of_the_logits():
    model, x = made("max pool"), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    found = occlusion(model, 3, x, patch=3, probabilities=torch.sigmoid)
    plain = occlusion(model, 3, x, patch=3, probabilities=lambda logits: logits)
    assert torch.allclose(found.probability, plain.probability.sigmoid())


def test_only_the_patch_is_computed_again(monkeypatch):
    """The point of it: the convolutions see far fewer pixels than whole images would."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 28 * 28, 3))
    sizes = []
    region = windowed_recomputation._region

    def counting(windows, clean, top, height, left, width, outside=0.0):
        sizes.append(height * width)
        return region(windows, clean, top, height, left, width, outside)

    monkeypatch.setattr(windowed_recomputation, "_region", counting)
    occlusion(model, 0, torch.rand(1, 1, 32, 32), patch=4, stride=2)
    # What the first convolution reads (all of the next window, with its border), the second, and the whole last map.
    assert set(sizes) == {8 * 8, 10 * 10, 28 * 28}


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_model_as_it_was(fails):
    model, x = made("max pool"), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    model.train()
    model[4].eval()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    kept, generator = x.clone(), torch.random.get_rng_state()
    if fails:
        with pytest.raises(ValueError):
            occlusion(model, 9, x, patch=3, layer="3")
    else:
        occlusion(model, 3, x, patch=3, layer="3")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(x, kept)
    assert torch.equal(torch.random.get_rng_state(), generator)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_under_any_gradient_mode(context):
    model, x = made("residual"), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    expected = occlusion(model, 3, x, patch=3)
    with context():
        found = occlusion(model, 3, x.clone(), patch=3)
    assert torch.equal(found.probability, expected.probability)
    assert not found.probability.requires_grad


def test_float32_and_large_batches_of_places(monkeypatch):
    """However few places are computed at once, the maps are the same."""
    model, x = made("residual"), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    expected = occlusion(model, 3, x, patch=3, stride=2)
    single = occlusion(copy.deepcopy(model).float(), 3, x.float(), patch=3, stride=2)
    assert (single.probability - expected.probability).abs().max() < 1e-5
    for at_once in (1, 1000, 5000):
        monkeypatch.setattr(OCCLUSION, "AT_ONCE", at_once)
        assert (occlusion(model, 3, x, patch=3, stride=2).probability - expected.probability).abs().max() < 1e-12


def test_on_pixels_is_the_mean_over_patches_that_hide_a_pixel():
    model, x = made("max pool"), torch.randn(1, 2, 13, 11, dtype=torch.float64)
    maps = occlusion(model, 3, x, patch=(3, 2), stride=(2, 3))
    found = maps.on_pixels(maps.probability)
    for h in range(13):
        for w in range(11):
            hiding = [
                maps.probability[0, i, j].item()
                for i, t in enumerate(maps.top.tolist())
                for j, s in enumerate(maps.left.tolist())
                if t <= h < t + 3 and s <= w < s + 2
            ]
            expected = sum(hiding) / len(hiding) if hiding else math.nan
            assert found[0, h, w].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    with pytest.raises(ValueError, match="map of the places"):
        maps.on_pixels(maps.probability[:, 1:])


def test_agrees_with_captum():
    """Captum cuts the last patch where the stride does not divide; here it does."""
    attr = pytest.importorskip("captum.attr")
    model, x = made("residual").eval(), torch.randn(2, 2, 13, 11, dtype=torch.float64)
    probability = lambda x: model(x).softmax(1)  # noqa: E731
    theirs = attr.Occlusion(probability).attribute(x, (2, 3, 3), (2, 2, 2), target=3, baselines=0.2)
    maps = occlusion(model, 3, x, patch=3, stride=2, fill=0.2)
    drop = maps.clean_probability[:, None, None] - maps.probability
    assert (maps.on_pixels(drop) - theirs[:, 0]).abs().max() < 1e-10


GOOD = {"model": None, "target": 3, "x": None, "patch": 3}
BAD = [
    ({"patch": 0}, ValueError, "patch must be at least 1 pixel, got 0"),
    ({"patch": (3, 12)}, ValueError, "must fit into the image of 13 x 11 pixels, got 3 x 12"),
    ({"patch": 2.5}, TypeError, "patch must be a number of pixels"),
    ({"stride": 0}, ValueError, "stride must be at least 1 pixel, got 0"),
    ({"stride": (1, -1)}, ValueError, "stride must be at least 1 pixel"),
    ({"target": 5}, ValueError, r"labels must be in 0..4"),
    ({"target": -1}, ValueError, r"labels must be in 0..4"),
    ({"target": torch.tensor([1, 2])}, ValueError, "one class number an example"),
    ({"target": torch.tensor([1.0])}, TypeError, "integer class numbers"),
    ({"target": 1.5}, TypeError, "target must be a class"),
    ({"target": "nowhere"}, ValueError, "no layer 'nowhere'"),
    ({"layer": "nowhere"}, ValueError, "no layer 'nowhere'"),
    ({"target": "0", "layer": "1"}, ValueError, "one layer alone"),
    ({"layer": "3", "feature_map": 6}, ValueError, r"feature_map must be in 0..5"),
    ({"layer": "3", "feature_map": "weakest"}, ValueError, "a number or 'strongest'"),
    ({"layer": "3", "call": 1}, ValueError, "ran 1 times"),
    ({"fill": math.nan}, ValueError, "fill must be finite"),
    ({"fill": torch.zeros(3)}, ValueError, r"one number a channel \(2\), got 3"),
    ({"fill": torch.zeros(13, 11)}, ValueError, "fill must be a number, one a channel, or a picture"),
    ({"x": torch.full((1, 2, 13, 11), math.nan, dtype=torch.float64)}, ValueError, "finite, got NaN"),
    ({"x": torch.zeros(1, 2, 13, 11, dtype=torch.long)}, TypeError, "floating point"),
    ({"x": torch.zeros(2, 13, 11)}, ValueError, "must be images"),
    ({"x": torch.zeros(0, 2, 13, 11)}, ValueError, "must be images"),
    ({"model": nn.Conv2d(2, 3, 3).double()}, ValueError, r"\(batch, classes\)"),
    ({"mode": "train"}, ValueError, "'eval' or 'as-is'"),
    ({"model": (lambda x: x.flatten(1)), "layer": "0"}, TypeError, "has no layers"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_refuses_bad_input_in_one_clear_error(wrong, error, message):
    given = GOOD | {"model": made("max pool"), "x": torch.zeros(1, 2, 13, 11, dtype=torch.float64)} | wrong
    with pytest.raises(error, match=message):
        occlusion(**given)

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from claimwise.explain import deconvnet, gradient_saliency, guided_backpropagation
from claimwise.vision import LocalResponseNormalisation

METHODS = [deconvnet, gradient_saliency, guided_backpropagation]


class Plain(nn.Module):
    """conv, relu, pool, conv (strided, grouped), relu, pool, dense, relu, dense; every module is used once."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(2)
        self.flat, self.fc1, self.relu3, self.fc2 = nn.Flatten(), nn.Linear(54, 7), nn.ReLU(), nn.Linear(7, 5)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Functional(Plain):
    """The same function, written as people write it: no rectifier or pooling is a module of its own."""

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(self.conv2(x).relu_(), 2)
        x = torch.relu(self.fc1(x.view(len(x), -1)))
        return self.fc2(x)


class Reused(Plain):
    """The same function with one rectifier and one pooling used again and again."""

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool1(self.relu1(self.conv2(x)))
        return self.fc2(self.relu1(self.fc1(torch.flatten(x, 1))))


class Clamped(Plain):
    """The same function with max(0, x) in other words."""

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).clamp(min=0), 2)
        x = F.max_pool2d(F.threshold(self.conv2(x), 0, 0), 2)
        return self.fc2(self.fc1(x.flatten(1)).clamp_min(0))


FORMS = [Plain, Functional, Reused, Clamped]


def models(form, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return form().to(dtype), torch.randn(3, 3, 12, 12, dtype=dtype)


def twin(model, x, until, keep):
    """Layer by layer, written out: forward with switches, then unpool, rectify, filter. ``keep`` zeroes the rest."""
    x1, s1 = F.max_pool2d(F.relu(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)), 2, return_indices=True)
    conv2 = F.conv2d(x1, model.conv2.weight, model.conv2.bias, padding=1, groups=2)
    x2, s2 = F.max_pool2d(F.relu(conv2), 2, return_indices=True)
    x3 = F.relu(x2.flatten(1) @ model.fc1.weight.T + model.fc1.bias)
    x4 = x3 @ model.fc2.weight.T + model.fc2.bias
    if until == "fc2":
        back = keep(x4) @ model.fc2.weight  # dense: transposed weights, no bias
        back = (F.relu(back) @ model.fc1.weight).reshape(x2.shape)
    elif until == "pool2":
        back = keep(x2)
    if until in ("fc2", "pool2"):
        back = F.relu(F.max_unpool2d(back, s2, 2))
    elif until == "conv2":
        back = keep(conv2)
    if until != "pool1":
        back = F.conv_transpose2d(back, model.conv2.weight, padding=1, groups=2)
    else:
        back = keep(x1)
    back = F.relu(F.max_unpool2d(back, s1, 2))
    return F.conv_transpose2d(back, model.conv1.weight, padding=1)


def only(unit, position="maximum"):
    def keep(a):
        kept = torch.zeros_like(a)
        for i in range(len(a)):
            if a.ndim == 2 or position == "all":
                kept[i, unit] = a[i, unit]
            else:
                place = divmod(int(a[i, unit].argmax()), a.shape[3]) if position == "maximum" else position
                kept[i, unit, place[0], place[1]] = a[i, unit, place[0], place[1]]
        return kept

    return keep


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", [0, 3])
def test_equals_the_twin_from_the_output(form, unit):
    model, x = models(form)
    expected = twin(model, x, "fc2", only(unit))
    torch.testing.assert_close(deconvnet(model, unit, x), expected)
    torch.testing.assert_close(deconvnet(model, "fc2", x, unit=unit), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("position", ["maximum", "all", (2, 5)])
def test_equals_the_twin_from_a_map_before_its_rectifier(form, position):
    model, x = models(form)
    expected = twin(model, x, "conv2", only(4, position))
    torch.testing.assert_close(deconvnet(model, "conv2", x, unit=4, position=position), expected)


@pytest.mark.parametrize("layer", ["pool1", "pool2"])
@pytest.mark.parametrize("position", ["maximum", "all", (1, 2)])
def test_equals_the_twin_from_a_pooled_map(layer, position):
    model, x = models(Plain)
    expected = twin(model, x, layer, only(2, position))
    torch.testing.assert_close(deconvnet(model, layer, x, unit=2, position=position), expected)


def test_the_rectifier_acts_on_the_reconstruction():
    """One conv, one unit: the input is negative where the gradient passes nothing, but the deconvnet does."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 2, bias=False)).double()
    model[0].weight.data.fill_(2.0)
    model[2].weight.data = torch.tensor([[[[1.0, 3.0], [-5.0, 1.0]]]], dtype=torch.float64)
    x = torch.tensor([[[[1.0, -1.0], [0.5, 0.0]]]], dtype=torch.float64)
    # forward: relu(2x) = [[2, 0], [1, 0]], a = 2*1 - 5*1 = -3; back from a = -3: w a = [[-3, -9], [15, -3]]
    assert deconvnet(model, "2", x).tolist() == [[[[0.0, 0.0], [30.0, 0.0]]]]
    assert gradient_saliency(model, "2", x).tolist() == [[[[2.0, 0.0], [-10.0, 0.0]]]]
    assert guided_backpropagation(model, "2", x).tolist() == [[[[2.0, 0.0], [0.0, 0.0]]]]
    model[2].bias = nn.Parameter(torch.tensor([5.0], dtype=torch.float64))  # a = 2: a bias changes a, not the way back
    assert deconvnet(model, "2", x).tolist() == [[[[4.0, 12.0], [0.0, 4.0]]]]


def test_overlapping_windows_with_one_maximum_add_up():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(3, 2))
    model[0].weight.data.fill_(1.0)
    x = torch.zeros(1, 1, 3, 5)
    x[0, 0, 1, 2] = 7.0  # in both windows
    assert deconvnet(model, "1", x, unit=0, position="all").sum() == 14.0


def test_many_units_and_places_at_once_equal_one_at_a_time():
    model, x = models(Functional)
    units = torch.tensor([[0, 5], [3, 3], [2, 1]])
    places = torch.tensor([[[0, 1], [2, 3]], [[5, 5], [4, 0]], [[1, 1], [3, 2]]])
    for method in METHODS:
        together = method(model, "conv2", x, unit=units, position=places)
        assert together.shape == (3, 2, 3, 12, 12)
        for i in range(3):
            for j in range(2):
                alone = method(
                    model, "conv2", x[i : i + 1], unit=int(units[i, j]), position=tuple(places[i, j].tolist())
                )
                torch.testing.assert_close(together[i, j], alone[0])
        column = method(model, "conv2", x, unit=units[:, 1], position=places[:, 1])
        torch.testing.assert_close(column, together[:, 1])
    classes = torch.tensor([4, 0, 2])
    torch.testing.assert_close(deconvnet(model, classes, x)[1:2], deconvnet(model, 0, x[1:2]))


def test_by_default_the_most_active_unit_is_kept():
    model, x = models(Plain)
    best = model.conv1(x).flatten(2).amax(2).argmax(1)
    assert torch.equal(deconvnet(model, model.conv1, x), deconvnet(model, "conv1", x, unit=best))
    assert torch.equal(deconvnet(model, "fc2", x), deconvnet(model, model(x).argmax(1), x))


class Shared(nn.Module):
    """One convolution and one rectifier, three times."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()

    def forward(self, x):
        for _ in range(3):
            x = self.relu(self.conv(x))
        return x


def test_a_shared_convolution_goes_back_as_often_as_it_went_forward():
    torch.manual_seed(1)
    model, x = Shared().double(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    back = only(1)(model(x))
    for _ in range(3):
        back = F.conv_transpose2d(F.relu(back), model.conv.weight, padding=1)
    torch.testing.assert_close(deconvnet(model, "", x, unit=1), back)
    torch.testing.assert_close(deconvnet(model, "relu", x, unit=1, call=2), back)
    first = F.conv_transpose2d(only(1)(F.relu(model.conv(x))), model.conv.weight, padding=1)
    torch.testing.assert_close(deconvnet(model, "relu", x, unit=1, call=0), first)
    with pytest.raises(ValueError, match="ran 3 times"):
        deconvnet(model, "relu", x, unit=1)


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x: F.local_response_norm(x, 3, alpha=0.5),
        LocalResponseNormalisation(3, alpha=0.5, beta=0.75),
        LocalResponseNormalisation(3, alpha=0.5, beta=0.6),
        lambda x: x / (1 + x.square().mean((2, 3), keepdim=True)).sqrt(),
        lambda x: x * torch.rsqrt(1 + x.square().sum(1, keepdim=True)),
    ],
)
def test_contrast_normalisation_is_passed_unchanged(normalise):
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            return self.conv2(normalise(F.relu(self.conv1(x))))

    torch.manual_seed(0)
    model, x = Normalised().double(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    back = F.relu(F.conv_transpose2d(only(2)(model(x)), model.conv2.weight, padding=1))
    expected = F.conv_transpose2d(back, model.conv1.weight, padding=1)
    torch.testing.assert_close(deconvnet(model, "conv2", x, unit=2), expected)


def test_batch_normalisation_is_part_of_its_filter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3)).double()
    model[1].weight.data.normal_()
    model[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    folded = copy.deepcopy(model).eval()
    scale = model[1].weight / (model[1].running_var + model[1].eps).sqrt()
    folded[0].weight.data *= scale.detach()[:, None, None, None]
    folded[0].bias.data = ((model[0].bias - model[1].running_mean) * scale + model[1].bias).detach()
    folded[1] = nn.Identity()
    torch.testing.assert_close(deconvnet(model, "3", x, unit=0), deconvnet(folded, "3", x, unit=0))
    with pytest.raises(ValueError, match="statistics is not linear; use mode='eval'"):
        deconvnet(model, "3", x, unit=0, mode="as-is")


def test_residual_sums_concatenations_and_mean_pooling():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(4, 3)

        def forward(self, x):
            x = F.relu(self.a(x))
            return self.c(torch.cat([x + self.b(x), x], 1).mean((2, 3))[:, [0, 1, 2, 3]])

    torch.manual_seed(0)
    model, x = Branches().double(), torch.randn(2, 2, 5, 5, dtype=torch.float64)
    back = (only(1)(model(x)) @ model.c.weight)[:, :, None, None].expand(2, 4, 5, 5) / 25
    back = back[:, :2] + F.conv_transpose2d(back[:, :2], model.b.weight, padding=1) + back[:, 2:]
    expected = F.conv_transpose2d(F.relu(back), model.a.weight, padding=1)
    torch.testing.assert_close(deconvnet(model, 1, x), expected)


def test_a_stack_in_one_dimension_and_one_in_three():
    for conv, pool, sides in ((nn.Conv1d, nn.MaxPool1d, 1), (nn.Conv3d, nn.MaxPool3d, 3)):
        model = nn.Sequential(conv(1, 2, 3), nn.ReLU(), pool(2), conv(2, 2, 2))
        found = deconvnet(model, "3", torch.randn(2, 1, *[9] * sides), unit=1, position=(1,) * sides)
        assert found.shape == (2, 1, *[9] * sides)
        assert found.any()


# --- an independent package -------------------------------------------------------------------------------------------


def captums(name, model, x, unit):
    attr = pytest.importorskip("captum.attr")
    kind = getattr(
        attr, {"deconvnet": "Deconvolution", "guided_backpropagation": "GuidedBackprop"}.get(name, "Saliency")
    )
    extra = {"abs": False} if kind is attr.Saliency else {}
    return kind(model.eval()).attribute(x.clone().requires_grad_(), target=unit, **extra).detach()


def ours(method, model, x, unit):
    """Started from 1, as captum starts, not from the activation (both deconvnets scale with it, if it is positive)."""
    found = method(model, unit, x)
    if method is not deconvnet:
        return found
    score = model(x)[:, unit].detach()
    assert (score > 0).all()
    return found / score[:, None, None, None]


def raised(form):
    model, x = models(form)
    model.fc2.bias.data += 10  # every score positive
    return model, x


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("form", [Plain, Reused])
@pytest.mark.parametrize("method", METHODS)
def test_equals_captum_where_every_rectifier_is_a_module(method, form):
    model, x = raised(form)
    torch.testing.assert_close(ours(method, model, x, 2), captums(method.__name__, model, x, 2))


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("method", [deconvnet, guided_backpropagation])
@pytest.mark.parametrize("form", [Functional, Clamped])
def test_captum_is_silently_wrong_where_rectifiers_are_functions(method, form):
    right = ours(method, *raised(Plain), 2)
    torch.testing.assert_close(ours(method, *raised(form), 2), right)
    theirs = captums(method.__name__, *raised(form), 2)
    torch.testing.assert_close(theirs, captums("gradient_saliency", *raised(form), 2))  # the plain gradient
    assert (theirs - right).abs().max() > right.abs().max() / 2


# --- the model and the caller -----------------------------------------------------------------------------------------


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_model_as_it_was(method, fails):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(), nn.Conv2d(2, 2, 3))
    model.append(Fails() if fails else nn.Identity())
    model[1].eval()
    x = torch.randn(2, 1, 7, 7, requires_grad=True)
    model[:5](x).sum().backward()
    gradient, gradients = x.grad.clone(), [p.grad.clone() for p in model.parameters()]
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    draws = torch.random.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            method(model, "4", x, unit=0)
    else:
        found = method(model, "4", x, unit=0)
        assert not found.requires_grad
        assert torch.equal(found, method(copy.deepcopy(model), "4", x, unit=0))
    assert torch.equal(draws, torch.random.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(x.grad, gradient)
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("method", METHODS)
def test_works_for_callers_without_gradients(method):
    model, x = models(Functional)
    expected = method(model, 1, x)
    with torch.no_grad():
        assert torch.equal(method(model, 1, x), expected)
    with torch.inference_mode():
        assert torch.equal(method(model, 1, x), expected)
        assert torch.equal(method(model, 1, x * 1), expected)  # an inference tensor
    assert torch.equal(method(model.requires_grad_(False), 1, x), expected)


@pytest.mark.parametrize("method", METHODS)
def test_float32_and_an_input_written_on(method):
    model, x = models(Plain)
    exact = method(model, 1, x)
    single = method(model.float(), 1, x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-6)

    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = model

        def forward(self, x):
            return self.inside(x.sub_(0.5))

    before = x.clone()
    torch.testing.assert_close(method(Writes().double(), 1, x), method(model.double(), 1, before - 0.5) * 1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_batch_and_no_units(method):
    model, x = models(Plain)
    assert method(model, 1, x[:0]).shape == (0, 3, 12, 12)
    assert method(model, "conv1", x, unit=torch.zeros(3, 0, dtype=torch.long)).shape == (3, 0, 3, 12, 12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), scale=st.floats(0.1, 10), row=st.integers(0, 5), column=st.integers(0, 5))
def test_scales_with_the_filters_and_stays_in_the_receptive_field(seed, scale, row, column):
    model, x = models(Functional, seed)
    found = deconvnet(model, "conv2", x, unit=1, position=(row, column))
    seen = torch.zeros(12, 12, dtype=torch.bool)  # 3x3 on a pooled map, 3x3 below it
    seen[max(0, 2 * (row - 1) - 1) : 2 * (row + 2) + 1, max(0, 2 * (column - 1) - 1) : 2 * (column + 2) + 1] = True
    assert not found[:, :, ~seen].any()
    model.conv2.weight.data *= scale
    model.conv2.bias.data *= scale
    scaled = deconvnet(model, "conv2", x, unit=1, position=(row, column))  # once for a, once for the filter
    torch.testing.assert_close(scaled, found * scale**2)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("layer", "how", "error", "message"),
    [
        ("conv3", {}, ValueError, "no layer 'conv3'; nearest: 'conv"),
        (9, {}, ValueError, r"the model's output has units 0\.\.4, got 9 to 9"),
        (-1, {}, ValueError, r"0\.\.4, got -1"),
        (torch.tensor([0, 5, 1]), {}, ValueError, r"0\.\.4, got 0 to 5"),
        (torch.tensor([0, 1]), {}, ValueError, r"a batch of 3, got shape \(2,\)"),
        (torch.tensor([0.0, 1.0, 2.0]), {}, TypeError, "units must be integers, got torch.float32"),
        (1, {"unit": 2}, ValueError, "a target class, or a layer with unit=, not both"),
        ("conv1", {"unit": 4}, ValueError, r"layer 'conv1' has units 0\.\.3, got 4"),
        ("conv1", {"unit": 0, "position": (12, 0)}, ValueError, r"within the maps of layer 'conv1', \(12, 12\)"),
        ("conv1", {"unit": 0, "position": (0, -1)}, ValueError, "within the maps"),
        ("conv1", {"unit": 0, "position": (0,)}, ValueError, "have 2 dimensions"),
        ("conv1", {"unit": 0, "position": torch.tensor([0.5, 1])}, TypeError, "a position must be integers"),
        ("conv1", {"unit": 0, "position": "middle"}, ValueError, "'maximum', 'all' or a place"),
        ("conv1", {"unit": 0, "call": 1}, ValueError, "ran 1 times"),
        ("conv1", {"unit": 0, "mode": "train"}, ValueError, "mode must be"),
    ],
)
def test_refuses_what_it_cannot_keep(method, layer, how, error, message, unchecked):
    model, x = models(Plain)
    with pytest.raises(error, match=message):
        method(model, layer, x, **how)


@pytest.mark.parametrize("method", METHODS)
def test_refuses_inputs_that_are_no_images(method, unchecked):
    model, x = models(Plain)
    with pytest.raises(TypeError, match=f"{method.__name__}: x must be floating point, got torch.int64"):
        method(model, 0, x.long())
    with pytest.raises(ValueError, match=f"{method.__name__}: x must be finite, got NaN"):
        method(model, 0, x * float("nan"))
    with pytest.raises(TypeError, match=f"{method.__name__}: model must be an nn.Module, got function"):
        method(lambda x: x, 0, x)


class Applies(nn.Module):
    def __init__(self, function, convolve=True):
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 2, 3) if convolve else nn.Identity(), function

    def forward(self, x):
        return self.function(self.conv(x)) * 2


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def half(x):
    x[:, :1].relu_()
    return x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.sigmoid, "no rule for SigmoidBackward0"),
        (F.leaky_relu, "no rule for LeakyReluBackward0"),
        (lambda x: torch.where(x > 0, x, 0), "no rule for WhereBackward0"),
        (lambda x: x * (x > 0), "a rectifier in disguise"),
        (lambda x: x * x, "multiplies two things"),
        (nn.InstanceNorm2d(2), "own statistics is not linear"),
        (lambda x: x.clamp(-1, 1), "no rule for ClampBackward1"),
    ],
)
def test_the_deconvnet_refuses_what_has_no_way_back(function, message):
    model = Applies(function)
    with pytest.raises(ValueError, match=message):
        deconvnet(model, "", torch.randn(1, 1, 5, 5), unit=0)
    deconvnet(model, "conv", torch.randn(1, 1, 5, 5), unit=0)  # behind the layer it is in nobody's way


@pytest.mark.parametrize("method", [deconvnet, guided_backpropagation])
@pytest.mark.parametrize("function", [Square.apply, half])
def test_parts_that_hide_their_rectifiers_are_refused(method, function):
    with pytest.raises(ValueError, match="cannot see the rectifiers within"):
        method(Applies(function), "", torch.randn(1, 1, 5, 5), unit=0)


def test_a_deconvnet_needs_a_convolution():
    x = torch.randn(1, 1, 5, 5)
    with pytest.raises(ValueError, match="there is no convolution in front of the model's output"):
        deconvnet(nn.Sequential(nn.Flatten(), nn.Linear(25, 3)), 0, x)
    with pytest.raises(ValueError, match="there is no convolution in front of layer 'conv'"):
        deconvnet(Applies(F.relu, convolve=False), "conv", x, unit=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.detach(), "does not depend on x"),
        (lambda x: torch.zeros(1, 2, requires_grad=True), "does not depend on x"),
        (lambda x: x.to(torch.complex64), "must put out real dense numbers, got torch.complex64"),
        (lambda x: x.flatten(1).to_sparse(), "layout torch.sparse_coo"),
        (lambda x: x.sum(), "must put out"),
    ],
)
def test_refuses_layers_that_put_out_something_else(method, function, message):
    with pytest.raises(ValueError, match=f"{method.__name__}: .*{message}"):
        method(Applies(function), "", torch.randn(1, 1, 5, 5), unit=0)


def test_a_target_needs_class_scores_and_a_layer_that_runs():
    model, x = Applies(F.relu), torch.randn(1, 1, 5, 5)
    with pytest.raises(ValueError, match=r"a target class needs a model that returns \(batch, classes\)"):
        deconvnet(model, 0, x)
    model.idle = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="did not run"):
        deconvnet(model, "idle", x, unit=0)

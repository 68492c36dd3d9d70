import copy

import numpy as np
import pytest
import torch
from torch import nn

from claimwise.data import DataError, load
from claimwise.vision import LeNet, load_nguyen_lenet


def slow_lenet(model, images):
    """The formula in explicit loops and float64, with the floor of exact fits (28 pixels pool without a rest)."""
    parameters = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    out = []
    for image in images.double().numpy():
        x = model.scale * (image if model.mean is None else image - model.mean.double().numpy())
        for layer in ("conv1", "conv2"):
            w, b = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
            k = w.shape[-1]
            side = x.shape[-1] - k + 1
            maps = np.zeros((len(w), side, side))
            for r in range(side):
                for c in range(side):
                    maps[:, r, c] = (w * x[None, :, r : r + k, c : c + k]).sum((1, 2, 3)) + b
            half = -(-side // 2)
            x = np.zeros((len(w), half, half))
            for r in range(half):
                for c in range(half):
                    x[:, r, c] = maps[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].max((1, 2))
        hidden = np.maximum(0, parameters["ip1.weight"] @ x.ravel() + parameters["ip1.bias"])
        out.append(parameters["ip2.weight"] @ hidden + parameters["ip2.bias"])
    return np.stack(out)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"image_size": 8, "kernel": 3, "filters": (3, 4), "hidden": 5},  # pooling 6 -> 3, 1 -> 1: a rest
        {"image_size": 13, "kernel": 4, "filters": (2, 3), "channels": 3, "classes": 4},
        {"image_size": 8, "kernel": 3, "mean": torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(3))},
    ],
)
def test_equals_explicit_loops(form):
    torch.manual_seed(0)
    model = LeNet(**form, dtype=torch.float64)
    for layer in (model.conv1, model.conv2, model.ip1, model.ip2):
        nn.init.normal_(layer.bias)
    images = torch.rand(2, *model.image_shape, dtype=torch.float64)
    assert np.allclose(model(images).detach(), slow_lenet(model, images), rtol=1e-10, atol=1e-10)


def test_layers_have_caffes_shapes():
    shapes = {name: tuple(p.shape) for name, p in LeNet().named_parameters()}
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv1.bias": (20,),
        "conv2.weight": (50, 20, 5, 5),
        "conv2.bias": (50,),
        "ip1.weight": (500, 800),
        "ip1.bias": (500,),
        "ip2.weight": (10, 500),
        "ip2.bias": (10,),
    }


def test_convolutions_are_linear():
    """Where pooling is over single pixels, the sign of the image turns the input of the first FC layer's rectifier."""
    torch.manual_seed(0)
    model = LeNet(image_size=1, kernel=1, dtype=torch.float64)
    seen = []
    model.ip1.register_forward_hook(lambda _m, _i, out: seen.append(out))
    x = torch.rand(3, 1, 1, 1, dtype=torch.float64)
    model(torch.cat([x, -x]))
    assert torch.allclose(seen[0][:3], -seen[0][3:])


def test_initial_weights_are_caffes_and_come_from_the_generator():
    model = LeNet(generator=torch.Generator().manual_seed(1))
    again = LeNet(generator=torch.Generator().manual_seed(1))
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
        if name.endswith("bias"):
            assert not p.any()
        else:
            bound = (3 / p[0].numel()) ** 0.5
            assert 0.97 * bound < p.abs().max() <= bound
            assert float(p.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_the_mean_is_subtracted_before_scaling_and_is_no_learned_state():
    torch.manual_seed(0)
    mean, x = torch.rand(1, 28, 28), torch.rand(3, 1, 28, 28)
    with_mean, without = LeNet(mean=mean), LeNet()
    without.load_state_dict(with_mean.state_dict())
    assert torch.allclose(with_mean(x), without(x - mean), atol=1e-6)
    assert not torch.allclose(with_mean(x), without(x), atol=1e-3)
    assert torch.equal(copy.deepcopy(with_mean)(x), with_mean(x))


def test_gradients_and_compilation(unchecked):
    torch.manual_seed(0)
    model = LeNet(image_size=8, kernel=3, filters=(2, 2), hidden=3, dtype=torch.float64)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,))
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(compiled(x), model(x))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"filters": (20, 0)}, "filters must be at least 1, got 0"),
        ({"kernel": 0}, "kernel must be at least 1"),
        ({"scale": float("nan")}, "scale must be positive, got nan"),
        ({"image_size": 8}, "8 pixels is too small.*5x5.*smaller kernel"),
        ({"mean": torch.zeros(1, 8, 8)}, r"shape of an image, \(1, 28, 28\), got \(1, 8, 8\)"),
        ({"mean": torch.full((1, 28, 28), float("nan"))}, "mean holds numbers that are not finite"),
    ],
)
def test_a_bad_form_is_refused(form, message):
    with pytest.raises(ValueError, match=f"LeNet: .*{message}"):
        LeNet(**form)


def test_another_image_is_refused():
    with pytest.raises(ValueError, match=r"LeNet: images must be \(batch, \*\(1, 28, 28\)\), got \(2, 1, 32, 32\)"):
        LeNet()(torch.zeros(2, 1, 32, 32))


# the published network


def arrays():
    torch.manual_seed(0)
    return {**LeNet().state_dict(), "mean": 255 * torch.rand(28, 28)}


def test_arrays_and_tensors_load_alike_and_the_mean_is_in_bytes():
    given = arrays()
    x = torch.rand(2, 1, 28, 28)
    model = load_nguyen_lenet({name: a.numpy() for name, a in given.items()}, subtract_mean=True)
    assert not model.training
    assert torch.equal(model(x), load_nguyen_lenet(given, subtract_mean=True)(x))
    # Caffe: (byte - mean) / 256
    plain = LeNet(scale=1.0)
    plain.load_state_dict({name: a for name, a in given.items() if name != "mean"})
    assert torch.allclose(model(x), plain((255 * x - given["mean"]) / 256), atol=1e-5)
    assert torch.allclose(load_nguyen_lenet(given)(x), plain(255 * x / 256), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean", None, "mean must be there"),
        ("mean", torch.zeros(1, 28, 28), r"got \(1, 28, 28\)"),
        ("ip2.bias", None, "no ip2.bias"),
        (
            "conv1.weight",
            torch.zeros(20, 5, 5, 1),
            r"conv1.weight must have shape \(20, 1, 5, 5\), got \(20, 5, 5, 1\)",
        ),
        ("ip1.bias", torch.full((500,), float("inf")), "ip1.bias holds numbers that are not finite"),
    ],
)
def test_arrays_that_are_not_the_networks_are_refused(name, value, message):
    given = arrays()
    if value is None:
        del given[name]
    else:
        given[name] = value
    with pytest.raises(ValueError, match=f"load_nguyen_lenet: .*{message}"):
        load_nguyen_lenet(given)


def test_the_published_weights_err_as_their_readme_says():
    """0.82 % of the test digits as trained, 2.61 % with the mean subtracted: MANIFEST of the data set."""
    try:
        weights, mnist = load("nguyen_lenet", download=False), load("mnist", download=False)
    except DataError as error:
        pytest.skip(str(error))
    x = torch.tensor(mnist["test"]["x"])[:, None].float() / 255
    y = torch.tensor(mnist["test"]["y"])
    for subtract_mean, wrong in ((False, 82), (True, 261)):
        model = load_nguyen_lenet(weights["all"], subtract_mean=subtract_mean)
        with torch.no_grad():
            found = sum(int((model(x[k : k + 500]).argmax(1) != y[k : k + 500]).sum()) for k in range(0, 10_000, 500))
        assert found == wrong

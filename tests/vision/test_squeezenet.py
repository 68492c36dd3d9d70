import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from claimwise.data import MissingDataError, load
from claimwise.vision import SQUEEZENET_PREPROCESSING, Fire, SqueezeNet


def arrays(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def weights():
    try:
        return load("imagenet_squeezenet1_1")["all"]
    except MissingDataError as missing:
        pytest.skip(str(missing))


def twin(state, x, final_padding=1):
    """The network by its names and functions alone."""

    def convolve(name, x, **how):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how).clamp_min(0)

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    x = pool(convolve("conv1", x, stride=2))
    for number in range(2, 10):
        s = convolve(f"fire{number}.squeeze1x1", x)
        x = torch.cat(
            [convolve(f"fire{number}.expand1x1", s), convolve(f"fire{number}.expand3x3", s, padding=1)], dim=1
        )
        if number in (3, 5):
            x = pool(x)
    return convolve("conv10", x, padding=final_padding).flatten(2).mean(2)


@pytest.mark.parametrize("padding", [0, 1])
def test_equals_the_twin(padding):
    torch.manual_seed(0)
    model = SqueezeNet(7, final_padding=padding).double().eval()
    x = torch.randn(2, 3, 67, 80, dtype=torch.float64)
    torch.testing.assert_close(model(x), twin(model.state_dict(), x, padding))


def test_recognises_imagenet():
    try:
        samples = load("imagenet_samples_256")["all"]
    except MissingDataError as missing:
        pytest.skip(str(missing))
    model = SqueezeNet().load_arrays(weights()).eval()
    images = torch.tensor(samples["x"][::2]).permute(0, 3, 1, 2) / 255
    images = F.interpolate(images, size=(227, 227), mode="bilinear", antialias=True).clamp(0, 1)
    y = torch.tensor(samples["y"][::2])
    with torch.no_grad():
        top = model(SQUEEZENET_PREPROCESSING(images)).topk(5).indices == y[:, None]  # (50, 5)
    # the authors state 58 % and 81 % of the validation set; these images are most likely training images
    assert top[:, 0].float().mean() > 0.5
    assert top.any(1).float().mean() > 0.75


def test_load_arrays_takes_what_state_dict_gives_in_half_precision():
    one, two = SqueezeNet(5), SqueezeNet(5)
    assert two.load_arrays({name: value.astype(np.float16) for name, value in arrays(one).items()}) is two
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    assert two.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fire4.expand3x3.bias"), r"missing \['fire4.expand3x3.bias'\], unknown \[\]"),
        (lambda a: a.update(extra=np.zeros(1)), r"missing \[\], unknown \['extra'\]"),
        (lambda a: a.update({"conv10.bias": np.zeros(9)}), r"conv10.bias must have shape \(5,\), got \(9,\)"),
    ],
)
def test_load_arrays_refuses_what_does_not_fit_and_changes_nothing(change, message):
    model, given = SqueezeNet(5), arrays(SqueezeNet(5))
    change(given)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        model.load_arrays(given)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("settings", [{"classes": 0}, {"channels": 0}, {"final_padding": -1}])
def test_refuses_impossible_sizes(settings):
    with pytest.raises(ValueError, match=f"SqueezeNet: .*{next(iter(settings))}={next(iter(settings.values()))}"):
        SqueezeNet(**settings)


def test_fire_joins_its_two_maps():
    fire = Fire(3, 2, 4)
    x = torch.rand(1, 3, 5, 5)
    s = fire.squeeze1x1(x).relu()
    assert torch.equal(fire(x)[:, :4], fire.expand1x1(s).relu())
    assert torch.equal(fire(x)[:, 4:], fire.expand3x3(s).relu())

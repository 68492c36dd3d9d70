import torch
from torch import nn

from claimwise.vision.shape_copy import shape_copy, shape_images


def test_the_copy_is_empty_and_the_model_untouched():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shapes = shape_copy(model)
    assert {value.device.type for value in shapes.state_dict().values()} == {"meta"}
    assert not any(layer.training for layer in shapes.modules())
    assert not shapes[0].weight.requires_grad
    assert shapes(shape_images(shapes, (3, 5, 5))).shape == (1, 4, 3, 3)
    assert all(layer.training for layer in model.modules())
    for name, value in model.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    shapes = shape_copy(model)
    assert shapes[1].weight is shapes[0].weight


def test_images_have_the_models_type():
    assert shape_images(nn.Linear(2, 2).double(), (2,)).dtype == torch.float64
    assert shape_images(nn.ReLU(), (2,)).dtype == torch.float32

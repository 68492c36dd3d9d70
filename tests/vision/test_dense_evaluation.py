import copy

import pytest
import torch
from torch import nn

from claimwise.vision import VGG, dense, dense_features, dense_posteriors, dense_scores


def small(configuration="A", image_size=16, pools=2):
    draw = torch.Generator().manual_seed(0)
    model = VGG(
        configuration, width=1 / 32, image_size=image_size, pools=pools, classes=4, initialisation="he", generator=draw
    )
    for parameter in model.parameters():
        parameter.data.add_(0.01)
    return model.double().eval()


def images(height, width, count=2):
    return torch.randn(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("configuration", ["A", "A-LRN", "C"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 16), (28, 37)])
def test_each_score_is_the_fc_layers_at_its_place(configuration, height, width):
    model, x = small(configuration), images(height, width)
    scores = dense(model)(x)
    maps = model.features(x)
    rows, columns = maps.shape[2] - 3, maps.shape[3] - 3  # side of the trained map is 4
    assert scores.shape == (2, 4, rows, columns)
    for n in range(2):
        for i in range(rows):
            for j in range(columns):
                units = maps[n, :, i : i + 4, j : j + 4].flatten()
                for index in (0, 3, 6):
                    units = model.classifier[index].weight @ units + model.classifier[index].bias
                    if index < 6:
                        units = units.clamp(min=0)
                torch.testing.assert_close(scores[n, :, i, j], units)
    torch.testing.assert_close(dense_scores(model, x), scores.sum((2, 3)) / (rows * columns))


def test_at_the_training_size_it_is_the_network():
    model, x = small("D"), images(16, 16)
    torch.testing.assert_close(dense(model)(x)[:, :, 0, 0], model(x))
    torch.testing.assert_close(dense_posteriors(model, x, flip=False), model(x).softmax(1))


def test_without_padding_it_is_the_sliding_crops():
    model = small(image_size=16, pools=2)
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    # two poolings, seven convolutions: the map of 4 that the FC layer wants, backwards: 4+10, x2 + 2, x2 + 2
    crop = ((4 + 12) * 2 + 2) * 2 + 2
    x = images(crop + 8, crop + 4, count=1)
    scores = dense(model)(x)
    assert scores.shape == (1, 4, 3, 2)
    for i in range(3):
        for j in range(2):
            window = x[:, :, 4 * i : 4 * i + crop, 4 * j : 4 * j + crop]
            torch.testing.assert_close(scores[:, :, i, j], model.classifier(model.flatten(model.features(window))))


def test_weights_are_shared_and_not_copied():
    model = small()
    network = dense(model)
    assert {id(p) for p in network.parameters()} == {id(p) for p in model.parameters()}
    x = images(24, 24)
    before = network(x)
    network(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.classifier[0].weight.data.mul_(2)
    assert not torch.allclose(network(x), before)


def test_flip_averages_posteriors_and_is_symmetric():
    model, x = small(), images(20, 24)
    expected = (dense_scores(model, x).softmax(1) + dense_scores(model, x.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(dense_posteriors(model, x), expected)
    torch.testing.assert_close(dense_posteriors(model, x).sum(1), torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(dense_posteriors(model, x), dense_posteriors(model, x, flip=False))


def test_features_are_the_last_hidden_layer_averaged_and_of_length_1():
    model, x = small(), images(24, 16)
    maps = torch.cat([model.features(x), model.features(x.flip(3))])
    places = []
    for i in range(3):
        units = maps[:, :, i : i + 4].flatten(1)
        for index in (0, 3):
            units = (units @ model.classifier[index].weight.T + model.classifier[index].bias).clamp(min=0)
        places.append(units)
    mean = torch.stack(places).mean(0)
    both = mean[:2] + mean[2:]
    torch.testing.assert_close(dense_features(model, x), both / (both**2).sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(dense_features(model, x).norm(dim=1), torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(dense_features(model, x), dense_features(model, x, flip=False))
    model.classifier[6].weight.data.zero_()
    assert dense_features(model, x).any()


def test_dropout_acts_in_the_mode_of_the_model():
    model, x = small(), images(16, 16)
    assert torch.equal(dense(model)(x), dense(model)(x))
    model.train()
    assert not torch.equal(dense(model)(x), dense(model)(x))


@pytest.mark.usefixtures("unchecked")  # a compiler cannot look through run-time type checks
def test_survives_what_modules_must_survive():
    network, x = dense(small()), images(24, 24)
    expected = network(x)
    torch.testing.assert_close(copy.deepcopy(network)(x), expected)
    other = dense(small())
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(torch.compile(network, backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.autograd.gradcheck(dense(small(image_size=4, pools=2)), images(4, 8, count=1).requires_grad_())


@pytest.mark.parametrize("function", [lambda m, x: dense(m)(x), dense_scores, dense_posteriors, dense_features])
def test_refuses_images_smaller_than_in_training(function):
    with pytest.raises(
        ValueError, match=r"dense(_features)?: the image must be at least 16 pixels .* got 16x12; rescale it"
    ):
        function(small(), images(16, 12))

import copy

import pytest
import torch
from torch import nn

from claimwise.vision import CONFIGURATIONS, VGG, parameter_counts
from claimwise.vision.vgg import scaled


def small(configuration="D", **settings):
    settings = {"width": 1 / 16, "image_size": 16, "classes": 5, "pools": 3, "initialisation": "he"} | settings
    return VGG(configuration, generator=torch.Generator().manual_seed(0), **settings)


def images(count=2, side=16, channels=3, dtype=torch.float32):
    return torch.randn(count, channels, side, side, dtype=dtype, generator=torch.Generator().manual_seed(1))


def convolution(maps, weight, bias):
    """Cross-correlation with zero padding that keeps the size, one output at a time."""
    outputs, inputs, kernel, _ = weight.shape
    _, height, width = maps.shape
    margin = kernel // 2
    padded = torch.zeros(inputs, height + 2 * margin, width + 2 * margin, dtype=torch.float64)
    padded[:, margin : margin + height, margin : margin + width] = maps
    result = torch.empty(outputs, height, width, dtype=torch.float64)
    for o in range(outputs):
        for i in range(height):
            for j in range(width):
                result[o, i, j] = (padded[:, i : i + kernel, j : j + kernel] * weight[o]).sum() + bias[o]
    return result


def twin(model, kernels, image, pools, response_normalisation):
    """The network of table 1 for one image, in loops and float64, from nothing but its list of parameters."""
    parameters = [p.detach().double() for p in model.parameters()]
    maps = image.double()
    first = True
    for block, block_kernels in enumerate(kernels):
        for kernel in block_kernels:
            weight, bias = parameters.pop(0), parameters.pop(0)
            assert weight.shape[-1] == kernel
            maps = convolution(maps, weight, bias).clamp(min=0)
            if first and response_normalisation:  # AlexNet, section 3.3
                squares, channels = maps**2, len(maps)
                for c in range(channels):
                    window = squares[max(0, c - 2) : min(channels, c + 3)].sum(0)
                    maps[c] = maps[c] / (2 + 1e-4 * window) ** 0.75
            first = False
        if block < pools:
            channels, height, width = maps.shape
            maps = maps.reshape(channels, height // 2, 2, width // 2, 2).amax((2, 4))
    units = maps.flatten()
    for layer in range(3):
        weight, bias = parameters.pop(0), parameters.pop(0)
        units = weight @ units + bias
        if layer < 2:
            units = units.clamp(min=0)
    assert not parameters
    return units


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_equals_the_slow_twin(configuration):
    model = small(configuration, width=1 / 32, image_size=8).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases other than 0, and large maps for the normalisation to matter
            parameter.add_(0.1)
    x = 10 * images(2, 8, dtype=torch.float64)
    row = CONFIGURATIONS[configuration]
    expected = torch.stack([twin(model, row.kernels, image, 3, row.response_normalisation) for image in x])
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_response_normalisation_is_the_only_difference_of_a_lrn():
    plain, normalised = small("A").eval(), small("A-LRN").eval()
    normalised.load_state_dict(dict(zip(normalised.state_dict(), plain.state_dict().values(), strict=True)))
    x = 30 * images()
    assert not torch.allclose(plain(x), normalised(x), rtol=1e-3)
    del normalised.features[2]
    torch.testing.assert_close(plain(x), normalised(x))


# millions of parameters, table 2; the exact numbers are the arithmetic of table 1
@pytest.mark.parametrize(
    ("configuration", "layers", "parameters", "millions"),
    [
        ("A", 11, 132_863_336, 133),
        ("A-LRN", 11, 132_863_336, 133),
        ("B", 13, 133_047_848, 133),
        ("C", 16, 133_638_952, 134),
        ("D", 16, 138_357_544, 138),
        ("E", 19, 143_667_240, 144),
    ],
)
def test_depth_and_size_are_those_of_the_paper(configuration, layers, parameters, millions):
    assert CONFIGURATIONS[configuration].weight_layers == layers
    total = parameter_counts(VGG(configuration, device="meta")).total
    assert total == parameters
    assert round(total / 1e6) == millions


def test_the_5x5_network_has_one_convolution_for_each_pair_of_b():
    pairs, single = CONFIGURATIONS["B"].kernels, CONFIGURATIONS["B-5x5"].kernels
    assert [len(block) for block in pairs] == [2 * len(block) for block in single]
    assert {kernel for block in single for kernel in block} == {5}


def test_layout_is_that_of_the_public_pytorch_models():
    names = list(VGG("D", device="meta").state_dict())
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert names == [
        *(f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")),
        *(f"classifier.{i}.{kind}" for i in (0, 3, 6) for kind in ("weight", "bias")),
    ]


@pytest.mark.parametrize(("width", "fc_width", "hidden"), [(1.0, None, 4096), (1 / 8, None, 512), (1 / 8, 100, 100)])
def test_widths(width, fc_width, hidden):
    model = VGG("E", width=width, fc_width=fc_width, image_size=64, channels=1, classes=7, device="meta")
    convolutions = [layer for layer in model.features if isinstance(layer, nn.Conv2d)]
    assert convolutions[0].in_channels == 1
    assert convolutions[0].out_channels == 64 * width
    assert convolutions[-1].out_channels == 512 * width
    assert [layer.out_features for layer in model.classifier if isinstance(layer, nn.Linear)] == [hidden, hidden, 7]
    assert model.classifier[0].in_features == 512 * width * 2 * 2


def test_no_width_makes_a_layer_vanish():
    assert scaled(64, 1e-6) == 1
    assert small(width=1e-6)(images()).shape == (2, 5)


def test_pools_are_the_first_blocks():
    assert [isinstance(m, nn.MaxPool2d) for m in small("A", pools=2).features].count(True) == 2
    model = small("A", pools=0, image_size=1)
    assert model(images(2, 1)).shape == (2, 5)
    assert small("A", pools=3, image_size=30).map_size == 3  # torch's pooling drops the odd row


def test_dropout_is_on_the_hidden_fc_layers_only():
    model = small(dropout=0.3)
    assert not [m for m in model.features if isinstance(m, nn.Dropout)]
    assert [m.p for m in model.classifier if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    x = images()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_the_generator_alone_decides_the_weights():
    before = torch.get_rng_state()
    one, two = small(), small()
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(0)
    three = VGG("A", width=1 / 16, image_size=16, pools=3)
    assert not torch.equal(one.features[0].weight, three.features[0].weight)


@pytest.mark.parametrize("count", [1, 64])  # below and above the point where the memory layout changes
@pytest.mark.parametrize("grad", [False, True])
def test_the_memory_layout_changes_nothing_but_time(count, grad):
    model, x = small().eval(), images(count)
    with torch.set_grad_enabled(grad):
        fast = model(x)
        plain = model.classifier(model.flatten(model.features(x)))
    torch.testing.assert_close(fast, plain)
    with torch.no_grad():
        assert model.arrange(images(64)).is_contiguous(memory_format=torch.channels_last)
        assert small(width=1.0, device="meta").arrange(images(1)).is_contiguous()


def test_gradients_are_right():
    model = small("A-LRN", width=1 / 64, image_size=8).double().eval()
    x = images(1, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))


@pytest.mark.usefixtures("unchecked")  # a compiler cannot look through run-time type checks
def test_survives_what_modules_must_survive():
    model, x = small().eval(), images()
    expected = model(x)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    other = small(initialisation="glorot").eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), expected)
    assert small(dtype=torch.float64)(images(dtype=torch.float64)).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images(64)), model(images(64)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_runs_on_cuda():
    model = small().eval()
    expected = model(images())
    torch.testing.assert_close(model.cuda()(images().cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("configuration", ["A", "B", "D", "E"])
def test_equals_an_independent_implementation(configuration):
    vgg = pytest.importorskip("pytorchcv.models.vgg")
    kernels = CONFIGURATIONS[configuration].kernels
    channels = [[4 * 2**block] * len(kernels[block]) for block in range(4)] + [[32] * len(kernels[4])]
    theirs = vgg.VGG(channels, num_classes=3).eval()
    ours = VGG(configuration, width=1 / 16, fc_width=4096, classes=3, initialisation="he").eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = images(1, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"configuration": "F"}, "VGG: configuration must be one of A, A-LRN, B, B-5x5, C, D, E, got 'F'"),
        ({"width": 0}, "VGG: width must be positive, got 0"),
        ({"width": -1.0}, "VGG: width must be positive, got -1.0"),
        ({"width": float("nan")}, "VGG: width must be positive, got nan"),
        ({"image_size": 0}, "VGG: image_size must be at least 1, got 0"),
        ({"channels": 0}, "VGG: channels must be at least 1, got 0"),
        ({"classes": 0}, "VGG: classes must be at least 1, got 0"),
        ({"fc_width": 0}, "VGG: fc_width must be at least 1, got 0"),
        ({"pools": 6}, "VGG: pools must lie in 0..5, got 6"),
        ({"pools": -1}, "VGG: pools must lie in 0..5, got -1"),
        (
            {"image_size": 16, "pools": 5},
            "5 poolings need an image of at least 32 pixels, got image_size=16; give pools=4",
        ),
        ({"dropout": 1.0}, "VGG: dropout must lie in"),
        ({"initialisation": "xavier"}, "initialise: initialisation must be one of variance 0.01, std 0.01, glorot, he"),
    ],
)
def test_refuses_what_is_no_network(settings, message):
    with pytest.raises(ValueError) as error:
        VGG(**({"device": "meta"} | settings))
    assert message in str(error.value)


def test_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match=r"VGG: the image must be 16x16, as the network was built, got 16x24; dense"):
        small()(torch.zeros(1, 3, 16, 24))

import pytest
import torch
from torch import nn

from claimwise.vision import PREPROCESSING, VGG, load_public_weights


def network(configuration="D", **settings):
    settings = {"width": 1 / 32, "image_size": 32, "classes": 6} | settings
    return VGG(configuration, **settings).eval()


def public(configuration="D", form="torch", seed=0):
    """A state dict in one of the public layouts, at small width."""
    draw = torch.Generator().manual_seed(seed)
    values = [0.2 * torch.randn(p.shape, generator=draw) for p in network(configuration).parameters()]
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if form == "torch":
        names, index = [], 0
        for block in [2, 2, 3, 3, 3] if configuration == "D" else [2, 2, 4, 4, 4]:
            for _ in range(block):
                names.append(f"features.{index}")
                index += 2
            index += 1
        names += ["classifier.0", "classifier.3", "classifier.6"]
        endings = (".weight", ".bias")
    else:
        blocks = [2, 2, 3, 3, 3]
        names = [f"conv{b + 1}_{i + 1}" for b, n in enumerate(blocks) for i in range(n)] + ["fc6", "fc7", "fc8"]
        endings = ("_w", "_b") if form == "caffe2" else (".weight", ".bias")
        if form == "convolutional":
            pairs[-3:] = [(w.reshape(len(w), -1, 1, 1), b) for w, b in pairs[-3:]]
    return {
        name + end: v for name, pair in zip(names, pairs, strict=True) for end, v in zip(endings, pair, strict=True)
    }


def values(model):
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("form", ["torch", "caffe", "caffe2", "convolutional"])
def test_loads_each_layout(form):
    expected = list(public().values())
    model = network()
    load_public_weights(model, public(form=form))
    assert all(torch.equal(a, b) for a, b in zip(values(model), expected, strict=True))


def test_the_order_of_the_names_does_not_matter():
    state = public()
    model = network()
    load_public_weights(model, {name: state[name] for name in sorted(state)})  # classifier first, 10 before 2
    assert all(torch.equal(a, b) for a, b in zip(values(model), state.values(), strict=True))


def test_names_with_a_prefix_and_another_type():
    model = network("E")
    state = public("E")
    load_public_weights(model, {"module." + name: value.half() for name, value in state.items()})
    assert all(torch.equal(a, b.half().float()) for a, b in zip(values(model), state.values(), strict=True))
    assert model.features[0].weight.dtype == torch.float32


def test_weights_are_copied():
    model, state = network(), public()
    load_public_weights(model, state)
    state["features.0.weight"].zero_()
    assert model.features[0].weight.any()


def test_another_number_of_classes_keeps_its_own_head():
    model, state = network(classes=9), public()
    own = model.classifier[6].weight.clone()
    with pytest.raises(
        ValueError, match=r"layer 16 of 16, 'classifier.6'.*head=False keeps the model's own last layer"
    ):
        load_public_weights(model, state)
    load_public_weights(model, state, head=False)
    assert torch.equal(model.classifier[6].weight, own)
    assert torch.equal(model.classifier[3].weight, state["classifier.3.weight"])


def test_flipped_channels_take_rgb():
    plain, flipped = network(), network()
    load_public_weights(plain, public())
    load_public_weights(flipped, public(), flip_channels=True)
    rgb = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(flipped(rgb), plain(rgb.flip(1)))
    caffe = PREPROCESSING["caffe"]
    torch.testing.assert_close(flipped(caffe(rgb, flipped_weights=True)), plain(caffe(rgb)), rtol=1e-4, atol=1e-4)


def test_preprocessing_by_hand():
    rgb = torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1)
    caffe = PREPROCESSING["caffe"](rgb).flatten().tolist()
    assert caffe == pytest.approx([0 - 103.939, 127.5 - 116.779, 255 - 123.68], abs=1e-4)
    torch_style = PREPROCESSING["torchvision"](rgb).flatten().tolist()
    assert torch_style == pytest.approx([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, -0.406 / 0.225])


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_preprocessing_refuses_images_that_are_not_in_0_1(value):
    with pytest.raises(ValueError, match=r"Preprocessing: images must lie in \[0, 1\]"):
        PREPROCESSING["caffe"](torch.full((1, 3, 2, 2), value))


def broken(change):
    state = public()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            public("E"),
            r"layer 8 of 16, 'features.16', has weight \(8, 8, 3, 3\).*features.17 of network D needs \(16, 8, 3, 3\)",
        ),
        (broken(lambda s: s.update({"features.5.weight": torch.zeros(4, 2, 5, 5)})), r"layer 3 of 16, 'features.5'"),
        (broken(lambda s: s.pop("features.28.bias")), "'features.28' has no bias"),
        (broken(lambda s: s.pop("features.28.weight")), "'features.28' has no weight"),
        (
            broken(lambda s: [s.pop(f"classifier.6.{k}") for k in ("weight", "bias")]),
            "the state has 15 layers, network D has 16; nothing is left for classifier.6",
        ),
        (
            broken(lambda s: s.update({"classifier.9.weight": torch.zeros(6, 6), "classifier.9.bias": torch.zeros(6)})),
            "17 layers, network D has 16; nothing takes 'classifier.9'",
        ),
        (broken(lambda s: s.update({"features.1.running_mean": torch.zeros(2)})), "batch normalisation"),
        (broken(lambda s: s.update({"features.1.weight": torch.zeros(2)})), "batch normalisation"),
        (broken(lambda s: s.update({"epoch": torch.zeros(())})), "'epoch' is neither a weight nor a bias"),
        (
            broken(lambda s: s["features.0.bias"].fill_(float("nan"))),
            "'features.0.bias' holds numbers that are not finite",
        ),
    ],
)
def test_refuses_what_does_not_fit_and_changes_nothing(state, message):
    model = network()
    before = [value.clone() for value in values(model)]
    with pytest.raises(ValueError, match=message):
        load_public_weights(model, state)
    assert all(torch.equal(a, b) for a, b in zip(before, values(model), strict=True))


def test_the_layout_is_the_one_load_state_dict_takes():
    one, two = network(), network()
    one.load_state_dict(public())
    load_public_weights(two, public())
    assert all(torch.equal(a, b) for a, b in zip(values(one), values(two), strict=True))
    assert isinstance(one, nn.Module)

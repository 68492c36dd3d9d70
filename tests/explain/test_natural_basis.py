import math

import pytest
import torch
from torch import nn

from claimwise.explain import maximise, mean_similarity, purity, random_directions, strongest_images


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(48, 5)
    ).double()


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_strongest_images_against_loops(batch_size):
    model, x = network(), images(23)
    directions = random_directions(6, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = strongest_images(model, "2", x, directions=directions, k=4, batch_size=batch_size)
    model.eval()
    for row, direction in enumerate(directions):
        values = []
        direction = direction.tolist()
        for number, image in enumerate(x):
            activation = model[2](model[1](model[0](image[None]))).flatten()
            values.append((-sum(a * v for a, v in zip(activation.tolist(), direction, strict=True)), number))
        values.sort()
        assert found.images[row].tolist() == [number for _, number in values[:4]]
        assert found.values[row].tolist() == pytest.approx([-value for value, _ in values[:4]])


def test_units_are_the_unit_vectors():
    model, x = network(), images(30)
    natural = strongest_images(model, "5", x)
    explicit = strongest_images(model, "5", x, directions=torch.eye(5, dtype=torch.float64))
    assert torch.equal(natural.images, explicit.images)
    assert natural.images.shape == (5, 8)


def test_batches_pairs_and_ties():
    model = nn.Sequential(nn.Identity())
    x = torch.tensor([[1.0], [2.0], [2.0], [0.0], [2.0]])
    assert strongest_images(model, "0", x, k=3, batch_size=2).images.tolist() == [[1, 2, 4]]
    pairs = [(x[:2], torch.zeros(2)), (x[2:], torch.zeros(3))]
    assert strongest_images(model, "0", pairs, k=3).images.tolist() == [[1, 2, 4]]


def test_random_directions_are_uniform_on_the_sphere():
    drawn = random_directions(20_000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(20_000))
    assert float(drawn.mean(0).norm()) < 0.02  # standard error: sqrt(1 / 20000) = 0.007
    torch.testing.assert_close(drawn.T @ drawn / 20_000, torch.eye(3) / 3, atol=0.01, rtol=0)


def test_maximise_climbs_and_stays_in_the_box():
    model = network()
    directions = random_directions(4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start = images(4)
    found = maximise(model, "5", start, directions=directions, steps=60)
    model.eval()
    before, after = ((model(x) * directions).sum(1) for x in (start, found))
    assert bool((after > before + 0.1).all())
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_maximise_of_a_linear_layer_is_a_corner_of_the_box():
    layer = nn.Linear(4, 2, bias=False).double()
    found = maximise(
        nn.Sequential(layer), "0", torch.full((2, 4), 0.5).double(), directions=torch.eye(2).double(), steps=400
    )
    torch.testing.assert_close(found, (layer.weight.detach() > 0).double())


def test_decay_pulls_to_the_regularised_maximum():
    """Of <w, x> - decay / 2 |x|^2, without a box: w / decay. The last steps circle it at the step's length."""
    w = torch.tensor([[3.0, 4.0]]).double()
    start = torch.zeros(1, 2).double()
    model = nn.Sequential(nn.Identity())
    found = maximise(model, "0", start, directions=w, decay=1.0, steps=400, step_size=0.01, bounds=None)
    # the normalised gradient pulls with 1, so that the fixed point of the steps is w / |w| / decay
    torch.testing.assert_close(found, w / 5, atol=0.02, rtol=0)


def test_each_direction_climbs_alone():
    model, x = network(), images(3)
    directions = random_directions(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    together = maximise(model, "5", x, directions=directions, steps=10)
    alone = [maximise(model, "5", x[i : i + 1], directions=directions[i : i + 1], steps=10) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_purity_against_loops():
    labels = torch.randint(4, (20, 7), generator=torch.Generator().manual_seed(0))
    found = purity(labels)
    for row, numbers in enumerate(labels.tolist()):
        shares = [numbers.count(c) / 7 for c in range(4)]
        assert float(found.purity[row]) == pytest.approx(max(shares))
        assert int(found.classes[row]) == shares.index(max(shares))
        assert float(found.entropy[row]) == pytest.approx(-sum(p * math.log(p) for p in shares if p), abs=1e-6)


def test_mean_similarity_against_loops():
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, some in zip(mean_similarity(x), x, strict=True):
        flat = some.flatten(1)
        pairs = [float(torch.corrcoef(flat[[i, j]])[0, 1]) for i in range(4) for j in range(i)]
        assert float(row) == pytest.approx(sum(pairs) / 6)


def test_the_model_is_left_alone():
    model, x = network().train(), images(9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        strongest_images(model, "2", x, k=2)
        maximise(model, "5", x[:5], directions=torch.eye(5).double(), steps=2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(x, images(9))


def test_what_is_refused():
    model, x, eye = network(), images(5), torch.eye(5).double()
    with pytest.raises(ValueError, match="has no layer 'conv'"):
        strongest_images(model, "conv", x)
    with pytest.raises(ValueError, match="k=8 images a direction need as many images, got 5"):
        strongest_images(model, "5", x)
    with pytest.raises(ValueError, match="k must be >= 1"):
        strongest_images(model, "5", x, k=0)
    with pytest.raises(ValueError, match="one entry a unit of the layer, 48, got 5"):
        strongest_images(model, "2", x, directions=eye, k=1)
    with pytest.raises(ValueError, match="directions must be finite"):
        strongest_images(model, "5", x, directions=eye * math.nan, k=1)
    diverged = nn.Sequential(nn.Linear(2, 2))
    nn.init.constant_(diverged[0].bias, math.inf)
    with pytest.raises(ValueError, match="activations of layer '0' must be finite"):
        strongest_images(diverged, "0", torch.rand(2, 2), k=1)
    with pytest.raises(ValueError, match="n must be >= 1"):
        random_directions(0, 3, generator=torch.Generator())
    with pytest.raises(ValueError, match="x must lie within bounds"):
        maximise(model, "5", x + 1, directions=eye)
    with pytest.raises(ValueError, match="low < high"):
        maximise(model, "5", x, directions=eye, bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match="one start a direction, got 5 for 2"):
        maximise(model, "5", x, directions=eye[:2])
    for argument in ({"steps": 0}, {"step_size": 0.0}, {"decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(argument))):
            maximise(model, "5", x, directions=eye, **argument)
    with pytest.raises(ValueError, match="class numbers must be >= 0"):
        purity(torch.tensor([[-1, 2]]))
    with pytest.raises(ValueError, match="at least 2 images"):
        mean_similarity(torch.rand(3, 1, 4))
    with pytest.raises(ValueError, match="one value everywhere"):
        mean_similarity(torch.ones(3, 2, 4))

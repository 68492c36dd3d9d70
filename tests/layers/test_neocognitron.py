import math

import pytest
import torch

from claimwise.layers import CCells, Neocognitron, SCells, Stage


def s_cells_by_loops(layer: SCells, x: torch.Tensor) -> torch.Tensor:
    """Equations (1) and (2), cell by cell."""
    _, planes, height, width = x.shape
    features, _, size, _ = layer.weight.shape
    r = layer.selectivity
    out = torch.zeros(len(x), features, height - size + 1, width - size + 1, dtype=torch.float64)
    for n, k, i, j in torch.cartesian_prod(*[torch.arange(s) for s in out.shape]).tolist():
        excitation = squares = 0.0
        for p in range(planes):
            for u in range(size):
                for v in range(size):
                    value = float(x[n, p, i + u, j + v])
                    excitation += float(layer.weight[k, p, u, v]) * value
                    squares += float(layer.falling[0, p, u, v]) * value**2
        inhibition = 2 * r / (1 + r) * float(layer.inhibition[k]) * math.sqrt(squares)
        out[n, k, i, j] = r * max((1 + excitation) / (1 + inhibition) - 1, 0)
    return out


def c_cells_by_loops(layer: CCells, x: torch.Tensor) -> torch.Tensor:
    wide = torch.nn.functional.pad(x, [layer.padding] * 4)
    sides = [(side - layer.size) // layer.stride + 1 for side in wide.shape[2:]]
    out = torch.zeros(*x.shape[:2], *sides, dtype=torch.float64)
    for n in range(len(x)):
        for i in range(sides[0]):
            for j in range(sides[1]):
                a, b = i * layer.stride, j * layer.stride
                windows = wide[n, :, a : a + layer.size, b : b + layer.size]
                net = [float((layer.falling[0, 0] * w).sum()) for w in windows]
                inhibition = sum(net) / len(net)
                for k, value in enumerate(net):
                    positive = max((1 + value) / (1 + inhibition) - 1, 0)
                    out[n, k, i, j] = positive / (layer.saturation + positive)
    return out


def learned(seed=0, **options):
    layer = SCells(2, 3, 3, generator=torch.Generator().manual_seed(seed), **options).double()
    for pattern in torch.rand(4, 1, 2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        layer.reinforce(pattern)
    return layer


def test_s_cells_against_loops():
    layer = learned(selectivity=1.5)
    x = torch.rand(2, 2, 6, 5, dtype=torch.float64)
    found = layer(x)
    assert found.max() > 0
    torch.testing.assert_close(found, s_cells_by_loops(layer, x), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"saturation": 2.0, "fall": 0.5}])
def test_c_cells_against_loops(options):
    layer = CCells(3, **options).double()
    x = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), c_cells_by_loops(layer, x), atol=1e-12, rtol=1e-9)


def test_weights_fall_and_sum_to_one():
    layer = SCells(2, 1, 5, fall=0.8)
    assert float(layer.falling.sum()) == pytest.approx(1)
    middle, side, corner = layer.falling[0, 0, 2, 2], layer.falling[0, 0, 2, 3], layer.falling[0, 0, 1, 1]
    assert float(side / middle) == pytest.approx(0.8)
    assert float(corner / middle) == pytest.approx(0.8 ** math.sqrt(2))


def test_reinforcement_is_the_papers():
    layer = SCells(1, 3, 3, speed=2.0, generator=torch.Generator().manual_seed(0)).double()
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 1] = torch.tensor([0.5, 1.0, 0.2])
    winner = int(layer(x)[0, :, 0, 0].argmax())
    before = layer.weight.clone()
    assert layer.reinforce(x) == 1
    change = layer.weight - before
    torch.testing.assert_close(change[winner], 2.0 * layer.falling[0] * x[0])
    assert float(change.abs().sum()) == pytest.approx(float(change[winner].abs().sum()))
    v = math.sqrt(float((layer.falling * x.square()).sum()))
    assert layer.inhibition.tolist() == pytest.approx([v if k == winner else 0 for k in range(3)])


@pytest.mark.parametrize("r", [0.5, 1.0, 4.0])
def test_a_trained_cell_fires_above_the_cosine_r_over_one_plus_r(r):
    layer = SCells(1, 1, 5, selectivity=r, initial=1e-12).double()
    generator = torch.Generator().manual_seed(0)
    pattern = torch.rand(1, 1, 5, 5, dtype=torch.float64, generator=generator)
    layer.reinforce(pattern)
    c = layer.falling
    fired = quiet = 0
    for _ in range(200):
        mix = torch.rand(1, generator=generator).item()
        noise = torch.rand(1, 1, 5, 5, dtype=torch.float64, generator=generator) ** 8
        x = 3 * (mix * pattern + (1 - mix) * noise)
        cosine = float((c * x * pattern).sum() / ((c * x * x).sum() * (c * pattern * pattern).sum()).sqrt())
        if abs(cosine - r / (1 + r)) > 1e-6:
            assert (float(layer(x)) > 0) == (cosine > r / (1 + r))
            fired, quiet = fired + (cosine > r / (1 + r)), quiet + (cosine < r / (1 + r))
    assert fired > 0
    assert quiet > 0 or r < 1


def test_different_patterns_are_learned_by_different_planes_and_known_ones_again_by_their_own():
    layer = SCells(1, 4, 5, generator=torch.Generator().manual_seed(0))
    upright = torch.zeros(1, 1, 5, 5)
    upright[..., 2] = 1
    level = upright.transpose(2, 3)
    for pattern in (upright, level, upright, level):
        assert layer.reinforce(pattern) == 1
    assert int((layer.inhibition > 0).sum()) == 2
    assert int(layer(upright).argmax()) != int(layer(level).argmax())


def test_a_plane_has_one_seed_and_a_column_one_plane():
    layer = SCells(1, 4, 3, column=3, generator=torch.Generator().manual_seed(0))
    image = torch.zeros(1, 1, 3, 13)
    image[..., 1, 1] = 1.0
    image[..., 1, 11] = 0.9  # the same feature, weaker, elsewhere
    answer = layer(image)
    assert layer.reinforce(image) == 1
    assert int((layer.inhibition > 0).sum()) == 1
    assert answer.max() > 0


def test_c_cells_forget_where_and_one_cell_windows_do_not():
    x = torch.zeros(2, 3, 5, 5)
    x[0, 0, 1, 1] = x[1, 0, 3, 2] = 4.0
    tolerant, exact = CCells(5)(x).flatten(1), CCells(1)(x).flatten(1)
    cosine = torch.nn.functional.cosine_similarity
    assert float(cosine(tolerant[:1], tolerant[1:])) > 0.99
    assert float(cosine(exact[:1], exact[1:])) == 0


def test_layers_learn_in_turn():
    stages = [Stage(5, 3, 3), Stage(4, 3, 3, selectivity=1.5)]
    network = Neocognitron(1, stages, generator=torch.Generator().manual_seed(0))
    patterns = (torch.rand(6, 1, 9, 9, generator=torch.Generator().manual_seed(1)) > 0.7).float()
    used = network.learn(patterns)
    twin = Neocognitron(1, stages, generator=torch.Generator().manual_seed(0))
    for pattern in patterns:
        twin[0].reinforce(pattern[None])
    middle = twin[1](twin[0](patterns))
    for pattern in middle:
        twin[2].reinforce(pattern[None])
    for name, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
    assert used == [int((network[k].inhibition > 0).sum()) for k in (0, 2)]
    assert network(patterns).shape == (6, 4, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selectivity": 0}, "selectivity"),
        ({"column": 2}, "column"),
        ({"fall": 0}, "fall"),
        ({"speed": math.nan}, "speed"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        SCells(1, 1, 3, **options)


def test_refuses_inputs():
    cells = SCells(1, 1, 3)
    for x, message in (
        (torch.zeros(1, 2, 5, 5), "input must be"),
        (torch.zeros(1, 1, 2, 5), "larger"),
        (-torch.ones(1, 1, 3, 3), ">= 0"),
        (torch.full((1, 1, 3, 3), math.nan), ">= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            cells(x)
    with pytest.raises(ValueError, match="one pattern"):
        cells.reinforce(torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="larger"):
        CCells(4)(torch.zeros(1, 1, 3, 3))
    with pytest.raises(ValueError, match="size"):
        CCells(0)
    with pytest.raises(ValueError, match="one stage"):
        Neocognitron(1, [])
    with pytest.raises(ValueError, match="passes"):
        Neocognitron(1, [Stage(1, 3, 1)]).learn(torch.zeros(1, 1, 5, 5), passes=0)

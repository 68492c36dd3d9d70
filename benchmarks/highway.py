"""A training step of a highway network of depth 100 against plain networks, and against its own formula unfused.

``python benchmarks/highway.py`` writes ``results/benchmarks/highway.json`` and ``.md``. A step is forward, backward and
gradient descent with momentum. The goal is a ratio of at least 0.8 against the plain network with the same number of
matrix products. A highway layer has two, transform and gate, computed here as one, so there are two such networks:

- the plain network of the same depth and the same parameters (width 71 for 50), one product a layer on either side
  since ours are fused: the network that the paper compares with;
- the plain network of the same width with twice the layers, one product for each of ours before they are fused.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.layers import HighwayConv2d, HighwayStack
from claimwise.vision import highway_network, plain_network
from timing import Row, compare, max_difference, write_table

DEPTH = 100


class TwoProducts(nn.Module):
    """A highway layer as its formula reads: two affine maps, y = H T + x (1 - T)."""

    def __init__(self, transform: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.transform, self.gate = transform, gate

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.gate(x))
        return torch.relu(self.transform(x)) * t + x * (1 - t)


def layer_by_layer(model: nn.Sequential) -> nn.Sequential:
    """The same network with the same weights, of :class:`TwoProducts`."""
    (stack,) = (module for module in model if isinstance(module, HighwayStack))
    layers: list[nn.Module] = []
    width = stack.features
    for weight, bias in zip(stack.weight.detach(), stack.bias.detach(), strict=True):
        halves = [nn.Linear(width, width), nn.Linear(width, width)]
        for half, rows, offsets in zip(halves, weight.view(2, width, width), bias.view(2, width), strict=True):
            half.load_state_dict({"weight": rows, "bias": offsets})
        layers.append(TwoProducts(*halves))
    first, last = (nn.Linear(m.in_features, m.out_features) for m in (model[1], model[4]))
    first.load_state_dict(model[1].state_dict())
    last.load_state_dict(model[4].state_dict())
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), *layers, last)


def convolutions(count: int, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutional highway layers, and the same of :class:`TwoProducts`."""
    ours = [HighwayConv2d(channels) for _ in range(count)]
    peers: list[nn.Module] = []
    for layer in ours:
        halves = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        parts = (layer.weight.detach().view(2, channels, channels, 3, 3), layer.bias.detach().view(2, channels))
        for half, rows, offsets in zip(halves, *parts, strict=True):
            half.load_state_dict({"weight": rows, "bias": offsets})
        peers.append(TwoProducts(*halves))
    first, again = (nn.Conv2d(channels, channels, 1) for _ in range(2))
    again.load_state_dict(first.state_dict())
    return (
        nn.Sequential(first, *ours, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(again, *peers, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def step(model: nn.Module, x: Tensor, y: Tensor, learning_rate: float = 1e-4) -> Callable[[], Tensor]:
    """A training step that returns the gradient of the first parameter, which all layers lie before.

    The step size is so small that the network stays what it is.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)

    first = next(model.parameters())

    def program() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        gradient = first.grad
        assert gradient is not None
        return gradient

    return program


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference of two gradients, in units of the largest entry."""
    return max_difference(a, b) / float(b.abs().max())


def against(name: str, ours: nn.Module, peer: nn.Module, peer_name: str, x: Tensor, note: str, *, equal: bool) -> Row:
    y = torch.randint(10, (len(x),))
    same = {"difference": relative_difference, "tolerance": 1e-3} if equal else {}
    return compare(
        name,
        step(ours, x, y),
        step(peer, x, y),
        peer_name=peer_name,
        repeats=21,
        block_seconds=0.05,
        clock="processor",
        note=note,
        **same,
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for batch in (100, 500):
        x = torch.rand(batch, 784)
        name = f"training step, highway of depth {DEPTH}, width 50, {batch} examples"
        highway = highway_network(784, 10, DEPTH)
        rows += [
            against(
                name,
                highway,
                plain_network(784, 10, DEPTH, width=71),
                "plain, width 71, depth 100",
                x,
                f"same parameters; {DEPTH + 1} products each, ours fused; goal 0.8",
                equal=False,
            ),
            against(
                name,
                highway,
                plain_network(784, 10, 2 * DEPTH - 1, width=50),
                "plain, width 50, depth 199",
                x,
                f"one product for each of ours before fusing, {2 * DEPTH}; goal 0.8",
                equal=False,
            ),
            against(name, highway, layer_by_layer(highway), "the formula in torch, unfused", x, "", equal=True),
        ]
    ours, peer = convolutions(8, 16)
    rows.append(
        against(
            "training step, 8 convolutional highway layers of 16 channels, 32 images 16x28x28",
            ours,
            peer,
            "the formula in torch, unfused",
            torch.rand(32, 16, 28, 28),
            "",
            equal=True,
        )
    )
    path = write_table("highway", rows)
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()

"""Occlusion sensitivity against captum: equal maps, then times in turn.

``python benchmarks/occlusion.py`` writes ``results/benchmarks/occlusion.json`` and ``.md``. Needs captum
(the extra ``oracle``). Two threads, wall time.

captum is given the number of images a forward pass at which it is fastest, of those tried here.
"""

import time
from collections.abc import Callable

import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from claimwise.explain import occlusion
from timing import Row, compare, max_difference, write_table

BATCHES = (16, 64)


def narrow_vgg(size: int, blocks: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """Blocks of 3x3 convolutions with pooling, two dense layers: a VGG network for small images."""
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in blocks:
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
        size //= 2
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * size * size, 256), nn.ReLU(), nn.Linear(256, 10)
    ).eval()


def against_captum(name: str, model: nn.Module, x: Tensor, patch: int, stride: int, repeats: int) -> Row:
    def ours() -> Tensor:
        maps = occlusion(model, 3, x, patch=patch, stride=stride)
        return maps.on_pixels(maps.clean_probability[:, None, None] - maps.probability)

    peer = Occlusion(lambda images: model(images).softmax(1))

    def theirs(batch: int) -> Callable[[], Tensor]:
        def attribute() -> Tensor:
            with torch.no_grad():
                shape, strides = (3, patch, patch), (3, stride, stride)
                return peer.attribute(x, shape, strides, target=3, perturbations_per_eval=batch)[:, 0]

        return attribute

    def seconds(batch: int) -> float:
        start = time.perf_counter()
        theirs(batch)()
        return time.perf_counter() - start

    batch = min(BATCHES, key=seconds)
    return compare(
        name,
        ours,
        theirs(batch),
        repeats=repeats,
        peer_name="captum",
        difference=max_difference,
        tolerance=1e-5,
        threads=2,
        note=f"captum at {batch} images a pass, its fastest of {BATCHES}",
    )


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    small = narrow_vgg(32, ((16, 2), (32, 2), (64, 2)))
    middle = narrow_vgg(64, ((16, 2), (32, 2), (64, 2), (64, 2)))
    rows = [
        against_captum("VGG of 6 convolutions, 32x32, patch 4, stride 2", small, torch.rand(1, 3, 32, 32), 4, 2, 7),
        against_captum("VGG of 6 convolutions, 32x32, patch 8, stride 2", small, torch.rand(1, 3, 32, 32), 8, 2, 7),
        against_captum("VGG of 8 convolutions, 64x64, patch 8, stride 2", middle, torch.rand(1, 3, 64, 64), 8, 2, 3),
        against_captum("VGG of 8 convolutions, 64x64, patch 16, stride 8", middle, torch.rand(1, 3, 64, 64), 16, 8, 5),
    ]
    path = write_table("occlusion", rows, peers=["captum"])
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()

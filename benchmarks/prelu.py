"""PReLU against ``nn.PReLU``, and what learning the slope costs over the leaky rectifier of a fixed one.

``python benchmarks/prelu.py`` writes ``results/benchmarks/prelu.json`` and ``.md``. A call is forward and backward,
with the gradients of input and slopes. PyTorch's kernel for these takes one entry at a time on the CPU; ours are
vectorised passes. Small inputs take PyTorch's kernel, which is then the cheaper.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from claimwise.layers import PReLU
from timing import compare, max_difference, write_table

SHAPES = ((64, 32, 28, 28), (16, 64, 32, 32), (8, 256, 14, 14), (128, 4096), (64, 1024), (64, 32))


def gradients(layer: nn.Module | Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    wanted = [x, *(layer.parameters() if isinstance(layer, nn.Module) else ())]

    def program() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x), wanted, g)

    return program


def relative(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> float:
    """Largest difference of each gradient in units of its largest entry: slopes' are sums of up to a million terms."""
    return max(max_difference(u, v) / float(v.abs().max()) for u, v in zip(a, b, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        x, g = torch.randn(shape, requires_grad=True), torch.randn(shape)
        size = "x".join(map(str, shape))
        for kind, channels in (("a slope a channel", shape[1]), ("one slope", None)):
            ours = PReLU(channels)
            rows.append(
                compare(
                    f"{kind}, {size}",
                    gradients(ours, x, g),
                    gradients(nn.PReLU(channels or 1), x, g),
                    peer_name="nn.PReLU",
                    difference=relative,
                    tolerance=1e-4,
                    clock="processor",
                )
            )
        rows.append(
            compare(
                f"one slope, {size}",
                gradients(PReLU(), x, g),
                gradients(lambda t: F.leaky_relu(t, 0.25), x, g),
                peer_name="F.leaky_relu",
                clock="processor",
                note="the peer has no slope to learn, so no gradient of one",
            )
        )
    write_table("prelu", rows)


if __name__ == "__main__":
    main()

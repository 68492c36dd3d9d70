"""Operator norms of convolutions: Fourier analysis and power iterates against the unrolled matrix and its SVD.

``python benchmarks/operator_norms.py`` writes ``results/benchmarks/operator_norms.json`` and ``.md``. No peer package.
One thread, processor time.

The last rows time what ``torch.nn.utils.parametrizations.spectral_norm`` takes for a convolution's norm: the largest
singular value of the kernel reshaped to (out, in * height * width). It is faster and another number: it sees one window
at a time and not that windows overlap, so that the true norm can be larger by up to the root of the number of taps (a
kernel of equal entries) and smaller too (stride). Nothing is asserted equal there; the note gives both numbers.
"""

import torch
from torch import Tensor, nn

from claimwise.adversarial import lipschitz_bound, local_lipschitz, operator_norm
from timing import Row, compare, max_difference, write_table


def unrolled(layer: nn.Conv2d, shape: tuple[int, int, int]) -> float:
    """The layer's matrix in float64, one column a pixel (in one batched call), and its singular values."""
    doubled = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        padding_mode=layer.padding_mode,
        bias=False,
        dtype=torch.float64,
    )
    with torch.no_grad():
        doubled.weight.copy_(layer.weight)
        pixels = shape[0] * shape[1] * shape[2]
        matrix = doubled(torch.eye(pixels, dtype=torch.float64).reshape(pixels, *shape)).flatten(1)
        return float(torch.linalg.svdvals(matrix)[0])


def reshaped(layer: nn.Conv2d) -> float:
    return float(torch.linalg.svdvals(layer.weight.detach().double().flatten(1))[0])


def jacobians(model: nn.Module, x: Tensor) -> Tensor:
    """Every example's Jacobian, row by row, and its singular values."""
    matrices = torch.func.vmap(torch.func.jacrev(lambda one: model(one[None])[0]))(x)
    return torch.linalg.matrix_norm(matrices.flatten(2), ord=2).detach()


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    for side, inputs, outputs, stride in ((8, 8, 16, 1), (12, 8, 16, 2), (8, 16, 16, 1)):
        shape = (inputs, side, side)
        for mode, method in (("circular", "fourier"), ("zeros", "power")):
            layer = nn.Conv2d(inputs, outputs, 3, stride, 1, padding_mode=mode)
            rows.append(
                compare(
                    f"conv 3x3, {inputs} to {outputs} channels, stride {stride}, {side}x{side}, {mode}: {method}",
                    lambda layer=layer, shape=shape, method=method: operator_norm(layer, shape, method=method),
                    lambda layer=layer, shape=shape: unrolled(layer, shape),
                    repeats=3,
                    peer_name="SVD of the unrolled matrix",
                    difference=max_difference,
                    tolerance=1e-6,
                    clock="processor",
                )
            )
    layer = nn.Conv2d(16, 32, 5, padding=2)
    with torch.no_grad():
        layer.weight.add_(0.01)  # a common part, as trained blurring kernels have it: where the two numbers part most
    for method in ("fourier", "power"):
        norm, other = operator_norm(layer, (16, 28, 28), method=method), reshaped(layer)
        rows.append(
            compare(
                f"conv 5x5, 16 to 32 channels, 28x28, zeros: {method}",
                lambda method=method: operator_norm(layer, (16, 28, 28), method=method),
                lambda: reshaped(layer),
                repeats=3,
                peer_name="reshaped kernel",
                clock="processor",
                note=f"another number, and no bound: {other:.3f} for a norm of {norm:.3f}",
            )
        )
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 144, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    x = torch.rand(8, 1, 28, 28)
    bound = lipschitz_bound(model, x[:1]).bound
    rows.append(
        compare(
            "local Jacobian norms, small CNN, 8 images 28x28",
            lambda: local_lipschitz(model, x, tolerance=1e-7, iterations=500).jacobian,
            lambda: jacobians(model, x),
            repeats=3,
            peer_name="explicit Jacobians (vmap of jacrev) and SVD",
            difference=lambda a, b: max_difference(a / b, torch.ones_like(b)),
            tolerance=1e-3,
            clock="processor",
            note=f"largest {float(jacobians(model, x).max()):.4f}, bound of the whole network {bound:.2f}; "
            "10 outputs, so that the Jacobian has only 10 rows",
        )
    )
    path = write_table("operator_norms", rows)
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()

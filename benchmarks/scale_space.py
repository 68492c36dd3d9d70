"""Scale space against SciPy: Gaussian filters of images small and large, and wide kernels by FFT.

``python benchmarks/scale_space.py``. Inputs are in single precision, as images are; SciPy's filters give single
precision back, too, and add up in double. One thread, by the processor's clock; ``--threads 1 2`` adds rows of two
threads by the wall's, on a machine that has two cores to itself (SciPy's filters have no threads).
"""

import argparse
import math

import numpy as np
import torch
from scipy import ndimage, signal
from torch import Tensor

from claimwise.layers import gaussian_kernel, gaussian_pyramid, scale_space
from timing import Row, compare, max_difference, write_table

SIZES = {"128 images of 28": (128, 28, 28), "16 images of 256": (16, 256, 256), "512": (512, 512), "2048": (2048, 2048)}


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def calls(threads: int, shape: tuple[int, ...]) -> dict:
    """Fewer repeats of what takes a second."""
    return {
        "threads": threads,
        "clock": "processor" if threads == 1 else "wall",
        "repeats": 5 if math.prod(shape) > 10**6 else 15,
        "difference": max_difference,
        "tolerance": 1e-5,
    }


def one_scale(name: str, shape: tuple[int, ...], sigma: float, threads: int) -> Row:
    x = images(*shape)
    array, sigmas = x.numpy(), (0,) * (len(shape) - 2) + (sigma, sigma)
    return compare(
        f"{name}, σ {sigma:g}, {threads} thread{'s' * (threads > 1)}",
        lambda: scale_space(x, [sigma]).squeeze(-3),
        lambda: ndimage.gaussian_filter(array, sigmas),
        peer_name="scipy.ndimage.gaussian_filter",
        **calls(threads, shape),
    )


def many_scales(name: str, shape: tuple[int, ...], threads: int) -> Row:
    x, scales = images(*shape), [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    array = x.numpy()

    def one_by_one() -> Tensor:
        blurred = [ndimage.gaussian_filter(array, (0,) * (len(shape) - 2) + (s, s)) for s in scales]
        return torch.from_numpy(np.stack(blurred, -3))

    return compare(
        f"{name}, six scales from σ 1 to 30, {threads} thread{'s' * (threads > 1)}",
        lambda: scale_space(x, scales),
        one_by_one,
        peer_name="scipy.ndimage.gaussian_filter",
        **calls(threads, shape),
    )


def by_transform(name: str, shape: tuple[int, ...], sigma: float, threads: int) -> Row:
    x = images(*shape)
    weights = gaussian_kernel(sigma)
    array, kernel = x.numpy(), torch.outer(weights, weights).numpy()
    return compare(
        f"{name}, σ {sigma:g}, zeros beyond, {threads} thread{'s' * (threads > 1)}",
        lambda: scale_space(x, [sigma], boundary="zero")[0],
        lambda: signal.fftconvolve(array, kernel, mode="same"),
        peer_name="scipy.signal.fftconvolve",
        **calls(threads, shape),
    )


def long_signals(threads: int) -> Row:
    shape, sigma = (16, 20_000), 100.0
    x = images(*shape)
    array, kernel = x.numpy(), gaussian_kernel(sigma)[None].numpy()
    return compare(
        f"16 signals of 20,000, σ {sigma:g}, zeros beyond, {threads} thread{'s' * (threads > 1)}",
        lambda: scale_space(x, [sigma], dims=1, boundary="zero")[:, 0],
        lambda: signal.fftconvolve(array, kernel, mode="same", axes=1),
        peer_name="scipy.signal.fftconvolve",
        **calls(threads, shape),
    )


def pyramid(threads: int) -> Row:
    x = images(512, 512)
    array = x.numpy()

    def theirs() -> Tensor:
        level = array
        for _ in range(4):
            level = ndimage.gaussian_filter(level, 1.0)[::2, ::2]
        return torch.from_numpy(level.copy())

    return compare(
        f"pyramid of 5 levels from 512, {threads} thread{'s' * (threads > 1)}",
        lambda: gaussian_pyramid(x, 5)[-1],
        theirs,
        peer_name="scipy.ndimage.gaussian_filter",
        **calls(threads, (512, 512)),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    counts = parser.parse_args().threads
    rows: list[Row] = []
    for threads in counts:
        before = len(rows)
        torch.set_num_threads(threads)
        for name, shape in SIZES.items():
            rows += [one_scale(name, shape, sigma, threads) for sigma in (1.0, 4.0, 30.0)]
        rows += [many_scales(name, SIZES[name], threads) for name in ("128 images of 28", "512")]
        rows += [by_transform(name, SIZES[name], sigma, threads) for name, sigma in (("512", 10.0), ("2048", 30.0))]
        rows += [long_signals(threads), pyramid(threads)]
        for row in rows[before:]:
            print(f"{row.name}: {row.ours_seconds * 1e3:.3g} ms, {row.ratio:.2f} times faster than {row.peer}")
    print(write_table("scale_space", rows, peers=["scipy"]))

"""A data set of images as the papers' networks take it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from claimwise.lab import Run


class Images(NamedTuple):
    """Training and test images in [0, 1] with their labels, on the run's device."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def images_of(run: Run, dataset: str, examples: int = 0, tested: int = 0, *, flat: bool = False) -> Images:
    """The first so many examples of each split, or all with 0.

    Images come as (examples, channels, height, width), grey ones with one channel; with ``flat`` as vectors, in the
    order of the data set's own array.
    """
    data = run.data(dataset)

    def split(name: str, count: int) -> tuple[Tensor, Tensor]:
        pixels, labels = data[name]["x"][: count or None], data[name]["y"][: count or None]
        x = torch.tensor(pixels, dtype=torch.float32) / (255.0 if pixels.dtype == np.uint8 else 1.0)
        if flat:
            x = x.flatten(1)
        else:
            x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
        return x.to(run.device), torch.tensor(labels, dtype=torch.long).to(run.device)

    return Images(*split("train", examples), *split("test", tested))

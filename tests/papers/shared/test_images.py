"""Images as networks take them."""

import numpy as np
import pytest
import torch

from claimwise.data import Dataset
from claimwise.papers.shared.images import images_of

GREY = np.array([[[0, 255]], [[51, 0]], [[1, 2]]], dtype=np.uint8)


class Source:
    """A run that has data only."""

    device = torch.device("cpu")

    def __init__(self, pixels):
        self.pixels = pixels

    def data(self, name):
        arrays = {"x": self.pixels, "y": np.array([1, 2, 3])}
        return Dataset(name, {"train": arrays, "test": arrays})


@pytest.mark.parametrize("pixels", [GREY, GREY / np.float32(255)], ids=["bytes", "floats"])
def test_flat_images_lie_within_0_and_1(pixels):
    x, y, x_test, y_test = images_of(Source(pixels), "grey", examples=2, flat=True)
    assert torch.allclose(x, torch.tensor([[0.0, 1.0], [0.2, 0.0]]))
    assert y.tolist() == [1, 2]
    assert (len(x_test), y_test.dtype) == (3, torch.long)


def test_grey_images_have_one_channel_and_colours_come_first():
    grey = images_of(Source(GREY), "grey", tested=1)
    assert (grey.x.shape, grey.x_test.shape) == ((3, 1, 1, 2), (1, 1, 1, 2))
    colour = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
    x = images_of(Source(colour), "colour").x
    assert x.shape == (3, 3, 2, 4)
    assert x.is_contiguous()
    assert x[1, 2, 0, 3].item() == pytest.approx(colour[1, 0, 3, 2] / 255)


def test_flat_colour_images_keep_the_order_of_their_array():
    colour = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
    x = images_of(Source(colour), "colour", flat=True).x
    assert torch.allclose(x[0] * 255, torch.arange(24.0))

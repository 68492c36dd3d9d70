import itertools

import pytest
import torch

from claimwise.layers import gaussian_pyramid, scale_space


@pytest.mark.parametrize("dims", [1, 2])
def test_each_level_is_every_second_sample_of_the_last_one_smoothed(dims):
    x = torch.randn(2, 21, 30, dtype=torch.float64)
    levels = gaussian_pyramid(x, 4, sigma=1.2, dims=dims)
    assert levels[0] is x
    for fine, coarse in itertools.pairwise(levels):
        smooth = scale_space(fine, [1.2], dims=dims).select(-1 - dims, 0)
        torch.testing.assert_close(coarse, smooth[..., ::2] if dims == 1 else smooth[..., ::2, ::2])


def test_gradients():
    x = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gaussian_pyramid(x, 3)[-1], x)


def test_refuses():
    with pytest.raises(ValueError, match="at least 1"):
        gaussian_pyramid(torch.zeros(4, 4), 0)
    with pytest.raises(ValueError, match="too many"):
        gaussian_pyramid(torch.zeros(4, 4), 4)

import numpy as np
import pytest
import torch

from claimwise.layers import sobel, sobel_kernels


def test_kernels_are_the_papers():
    across, down = sobel_kernels(dtype=torch.float64)
    assert across.tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert torch.equal(down, across.T)


def test_against_loops():
    x = torch.randn(6, 7, dtype=torch.float64)
    found = sobel(x)
    kernels = sobel_kernels(dtype=torch.float64)
    for i in range(6):
        for j in range(7):
            gx, gy = (
                sum(
                    float(kernel[u + 1, v + 1] * x[min(max(i + u, 0), 5), min(max(j + v, 0), 6)])
                    for u in (-1, 0, 1)
                    for v in (-1, 0, 1)
                )
                for kernel in kernels
            )
            assert (float(found.x[i, j]), float(found.y[i, j])) == pytest.approx((gx, gy))
            assert float(found.magnitude[i, j]) == pytest.approx((gx**2 + gy**2) ** 0.5)


def test_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.randn(9, 8, dtype=torch.float64)
    found = sobel(x, boundary="symmetric")
    np.testing.assert_allclose(found.x, ndimage.sobel(x.numpy(), 1), atol=1e-13)
    np.testing.assert_allclose(found.y, ndimage.sobel(x.numpy(), 0), atol=1e-13)


def test_constant_images_have_no_edge_and_no_undefined_gradient():
    x = torch.full((2, 5, 5), 3.0, requires_grad=True)
    magnitude = sobel(x).magnitude
    assert not magnitude.any()
    magnitude.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.autograd.gradcheck(
        lambda x: sobel(x).magnitude, torch.randn(4, 4, dtype=torch.float64).requires_grad_()
    )


def test_refuses_integers():
    with pytest.raises(Exception, match="x"):
        sobel(torch.zeros(3, 3, dtype=torch.long))

import pytest
import torch

from claimwise.layers import POOLINGS, Pool

OPERATION = {"max": max, "average": lambda v: sum(v) / len(v), "stride": lambda v: v[0]}


@pytest.mark.parametrize("kind", OPERATION)
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 2), (2, 3), (1, 1)])
@pytest.mark.parametrize("shape", [(1, 2, 8), (2, 1, 7, 6)])
def test_windows_against_loops(kind, size, stride, shape):
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = Pool(kind, size, stride)(x)
    step = stride or size
    sides = [(side - size) // step + 1 for side in shape[2:]]
    assert list(found.shape) == [*shape[:2], *sides]
    for index in torch.cartesian_prod(*[torch.arange(s) for s in found.shape]).tolist():
        window = x[index[0], index[1]]
        for axis, i in enumerate(index[2:]):
            window = window.narrow(axis, i * step, size)
        assert float(found[tuple(index)]) == pytest.approx(OPERATION[kind](window.flatten().tolist()))


def test_global():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(Pool("global-max")(x)[:, :, 0, 0], x.flatten(2).max(2).values)
    torch.testing.assert_close(Pool("global-average")(x)[:, :, 0, 0], x.flatten(2).mean(2))
    assert Pool("global-average")(x[..., 0]).shape == (2, 3, 1)


@pytest.mark.parametrize("kind", POOLINGS)
def test_gradients(kind):
    x = torch.randperm(48, generator=torch.Generator().manual_seed(0)).reshape(1, 2, 4, 6).double().requires_grad_()
    pool = Pool(kind) if kind.startswith("global") else Pool(kind, 2)
    assert torch.autograd.gradcheck(pool, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mean", 2), "kind"),
        (("max",), "size"),
        (("max", 0), "size"),
        (("max", 2, 0), "stride"),
        (("global-max", 2), "whole"),
    ],
)
def test_refuses(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        Pool(*arguments)


def test_refuses_inputs():
    with pytest.raises(ValueError, match="larger than the map"):
        Pool("stride", 5)(torch.zeros(1, 1, 4, 9))
    with pytest.raises(ValueError, match="wants"):
        Pool("max", 2)(torch.zeros(1, 1, 4, 4, 4))

import pytest
import torch
from torch import nn

from claimwise.adversarial import add_fooling_class, with_extra_class

X, Y = torch.rand(90, 2, 2), torch.arange(90) % 9


@pytest.mark.parametrize(("images", "wanted", "share"), [(10, 10, None), (4, 10, None), (35, 10, None), (7, 30, 0.25)])
def test_the_new_class_has_its_share(images, wanted, share):
    fooling = 2 + torch.arange(images, dtype=torch.float32)[:, None, None].expand(-1, 2, 2)
    x, y = add_fooling_class(X, Y, fooling, 9, share, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[:90], X)
    assert torch.equal(y[:90], Y)
    assert y[90:].tolist() == [9] * wanted
    used = torch.bincount((x[90:, 0, 0] - 2).long(), minlength=images)
    assert used.sum() == wanted
    assert used.max() - used.min() <= 1  # repeated equally often
    share = 1 / 10 if share is None else share
    assert wanted / len(y) == pytest.approx(share)


def test_draws_come_from_the_generator_and_none_are_needed_where_it_fits():
    fooling = torch.rand(25, 2, 2)
    runs = [add_fooling_class(X, Y, fooling, 9, generator=torch.Generator().manual_seed(1))[0] for _ in range(2)]
    assert torch.equal(*runs)
    other = add_fooling_class(X, Y, fooling, 9, generator=torch.Generator().manual_seed(2))[0]
    assert not torch.equal(runs[0], other)
    assert torch.equal(add_fooling_class(X, Y, fooling[:5], 9)[0][90:], fooling[:5].repeat(2, 1, 1))


@pytest.mark.parametrize(
    "last",
    [nn.Linear(6, 3), nn.Linear(6, 3, bias=False), nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 3, 1))],
)
def test_a_wider_model_says_the_same_about_the_old_classes(last):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), last, nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wider = with_extra_class(model, generator=torch.Generator().manual_seed(0))
    x = torch.rand(5, 4)
    assert wider(x).shape == (5, 4)
    torch.testing.assert_close(wider(x)[:, :3], model(x))
    assert wider(x)[:, 3].abs().max() > 0
    assert wider(x).requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = with_extra_class(model, generator=torch.Generator().manual_seed(0))
    assert torch.equal(wider(x), again(x))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: add_fooling_class(X, Y, X[:0], 9), ValueError, "got 90 and 0"),
        (lambda: add_fooling_class(X, Y, X[:, :1], 9), ValueError, r"examples' shape \(2, 2\), got \(1, 2\)"),
        (lambda: add_fooling_class(X, Y, X, 8), ValueError, r"labels must be in 0\.\.7"),
        (lambda: add_fooling_class(X, Y.float(), X, 9), TypeError, "must hold integer class numbers"),
        (lambda: add_fooling_class(X, Y, X, 9, 1.0), ValueError, r"share must be in \(0, 1\).* got 1.0"),
        (lambda: add_fooling_class(X, Y, X, 9, 0.001), ValueError, "leaves no fooling image"),
        (lambda: add_fooling_class(X, Y, X, 9), ValueError, "10 images are to be drawn from 90; give generator="),
        (lambda: add_fooling_class(X, Y, X * torch.nan, 9), ValueError, "must be finite"),
        (lambda: with_extra_class(nn.ReLU()), ValueError, "must have an nn.Linear or nn.Conv2d, got ReLU"),
        (lambda: with_extra_class(nn.Conv2d(4, 4, 1, groups=2)), ValueError, "groups=1, got 2"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()

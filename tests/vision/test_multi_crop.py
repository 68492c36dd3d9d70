import pytest
import torch

from claimwise.vision import crop_grid, crop_posteriors, ten_crop


def images(height=10, width=13):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("size", "grid", "flip"), [(6, 5, True), (6, 1, False), (10, 3, True), (1, 2, False)])
def test_grid_equals_slices(size, grid, flip):
    x = images()
    crops = []
    for i in range(grid):
        for j in range(grid):
            top = round(i * (10 - size) / (grid - 1)) if grid > 1 else (10 - size) // 2
            left = round(j * (13 - size) / (grid - 1)) if grid > 1 else (13 - size) // 2
            crops.append(x[:, :, top : top + size, left : left + size])
    if flip:
        crops += [crop.flip(3) for crop in crops]
    assert torch.equal(crop_grid(x, size, grid=grid, flip=flip), torch.stack(crops, 1))


def test_the_papers_grid_has_fifty_crops():
    assert crop_grid(images(), 8).shape == (2, 50, 3, 8, 8)


def test_ten_crops_in_order():
    x = images()
    pieces = [x[:, :, :6, :6], x[:, :, :6, 7:], x[:, :, 4:, :6], x[:, :, 4:, 7:], x[:, :, 2:8, 4:10]]
    expected = torch.stack(pieces + [piece.flip(3) for piece in pieces], 1)
    assert torch.equal(ten_crop(x, 6), expected)


def test_posteriors_are_the_mean_over_crops():
    crops = crop_grid(images(), 6, grid=2)
    weight = torch.randn(4, 3 * 36, generator=torch.Generator().manual_seed(2))

    def model(x):
        assert len(x) == 16  # all crops at once
        return x.flatten(1) @ weight.T

    expected = torch.stack([(crops[:, n].flatten(1) @ weight.T).softmax(1) for n in range(8)]).mean(0)
    torch.testing.assert_close(crop_posteriors(model, crops), expected)


def test_crops_do_not_alias_the_image():
    x = images()
    crops = crop_grid(x, 10, grid=1, flip=False)
    crops.zero_()
    assert x.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: crop_grid(x, 11), "crop_grid: size must lie between 1 and the image's side of 10, got 11"),
        (lambda x: crop_grid(x, 0), "crop_grid: size must lie between 1"),
        (lambda x: crop_grid(x, 5, grid=0), "crop_grid: grid must be at least 1, got 0"),
        (lambda x: ten_crop(x, 11), "ten_crop: size must lie between 1 and the image's side of 10, got 11"),
        (
            lambda x: crop_posteriors(lambda c: c, torch.zeros(2, 0, 3, 4, 4)),
            "crop_posteriors: needs at least one crop",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call(images())
    assert message in str(error.value)

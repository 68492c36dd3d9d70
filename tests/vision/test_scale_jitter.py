import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from claimwise.vision import rescale, scale_jitter


def images(height, width, count=6):
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def twin(x, low, high, crop, flip, seed):
    """One image at a time: torch's interpolation, then a slice."""
    draw = torch.Generator().manual_seed(seed)
    scales = torch.randint(low, high + 1, (len(x),), generator=draw)
    corners = torch.rand(len(x), 2, generator=draw, dtype=torch.float64)
    mirrored = torch.rand(len(x), generator=draw) < 0.5
    crops = []
    for image, scale, corner, mirror in zip(x, scales.tolist(), corners.tolist(), mirrored.tolist(), strict=True):
        smallest = min(image.shape[1:])
        height, width = (round(side * scale / smallest) for side in image.shape[1:])
        large = F.interpolate(image[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        top, left = int(corner[0] * (height - crop + 1)), int(corner[1] * (width - crop + 1))
        piece = large[:, top : top + crop, left : left + crop]
        crops.append(piece.flip(2) if flip and mirror else piece)
    return torch.stack(crops)


@given(
    height=st.integers(4, 12), width=st.integers(4, 12), crop=st.integers(1, 9), more=st.integers(0, 6),
    range_=st.integers(0, 8), flip=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_rescaling_and_slicing_one_by_one(height, width, crop, more, range_, flip, seed):
    x = images(height, width, count=3)
    low, high = crop + more, crop + more + range_
    ours = scale_jitter(x, low, high, crop, flip=flip, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(ours, twin(x, low, high, crop, flip, seed), rtol=1e-9, atol=1e-9)


def test_scales_and_corners_cover_their_ranges():
    # a ramp: its slope tells the scale, its first value the corner
    ramp = torch.arange(16, dtype=torch.float64).expand(4000, 1, 16, 16)
    crops = scale_jitter(ramp, 16, 19, 8, generator=torch.Generator().manual_seed(0))
    slopes = (crops[:, 0, 0, 4] - crops[:, 0, 0, 3]).mul(1000).round()
    values, counts = slopes.unique(return_counts=True)
    assert values.tolist() == [round(16000 / side) for side in (19, 18, 17, 16)]
    # 1000 expected of each, standard deviation 27
    assert counts.min() > 850
    assert counts.max() < 1150
    lefts = crops[slopes == 1000][:, 0, 0, 0].unique()
    assert lefts.tolist() == list(range(9))


def test_a_fixed_scale_of_the_images_own_size_is_the_identity():
    x = images(8, 8)
    torch.testing.assert_close(scale_jitter(x, 8, 8, 8), x)


def test_the_generator_alone_decides():
    x, before = images(9, 9), torch.get_rng_state()
    one, two = (scale_jitter(x, 8, 12, 8, flip=True, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(one, scale_jitter(x, 8, 12, 8, flip=True, generator=torch.Generator().manual_seed(6)))


def test_flips_half_of_the_images():
    ramp = torch.arange(8.0).expand(1000, 1, 8, 8)
    crops = scale_jitter(ramp, 8, 8, 8, flip=True, generator=torch.Generator().manual_seed(0))
    mirrored = (crops[:, 0, 0, 0] > crops[:, 0, 0, -1]).sum()
    assert 436 < mirrored < 564  # 500, four standard deviations of 16
    assert not (scale_jitter(ramp, 8, 8, 8)[:, 0, 0, 0] > 0).any()


def test_gradients_and_types():
    x = images(5, 6, count=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scale_jitter(x, 4, 8, 4, generator=torch.Generator().manual_seed(0)), x)
    assert scale_jitter(images(8, 8).float(), 8, 12, 8).dtype == torch.float32


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"), [(8, 12, 10, (10, 15)), (12, 8, 4, (6, 4)), (8, 8, 8, (8, 8))]
)
def test_rescale_sets_the_smallest_side(height, width, side, shape):
    x = images(height, width)
    expected = F.interpolate(x, size=shape, mode="bilinear", align_corners=False)
    torch.testing.assert_close(rescale(x, side), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rescale(x, 0), "rescale: side must be at least 1, got 0"),
        (lambda x: scale_jitter(x, 8, 9, 0), "scale_jitter: crop must be at least 1, got 0"),
        (lambda x: scale_jitter(x, 7, 9, 8), "scale_jitter: low must be at least crop=8, got low=7"),
        (lambda x: scale_jitter(x, 9, 8, 8), "scale_jitter: high must be at least low=9, got high=8"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call(images(8, 8))
    assert str(error.value) == message

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.adversarial import mask_copies, mirror_symmetry, periodicity


def noise(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def symmetry_by_loops(image):
    height, width = len(image), len(image[0])
    mean = sum(map(sum, image)) / (height * width)
    energy = sum((value - mean) ** 2 for row in image for value in row)
    across = down = 0.0
    for row in range(height):
        for column in range(width):
            here = image[row][column] - mean
            across += here * (image[row][width - 1 - column] - mean)
            down += here * (image[height - 1 - row][column] - mean)
    return across / energy, down / energy


def periodicity_by_loops(image):
    """Score and shifts that reach it up to 1e-4."""
    height, width = len(image), len(image[0])
    mean = sum(map(sum, image)) / (height * width)
    energy = sum((value - mean) ** 2 for row in image for value in row)

    def correlation(down, across):
        total, shared = 0.0, 0
        for row in range(height):
            for column in range(width):
                if 0 <= row + down < height and 0 <= column + across < width:
                    total += (image[row][column] - mean) * (image[row + down][column + across] - mean)
                    shared += 1
        return max(-1.0, min(1.0, total / energy * height * width / shared))

    scores = {}
    for down in range(height // 2 + 1):
        for across in range(-(width // 2), width // 2 + 1):
            if max(down, abs(across)) < 2 or (down == 0 and across < 0):
                continue
            here = correlation(down, across)
            lowest = min(correlation(round(down * k / 8), round(across * k / 8)) for k in range(1, 8))
            scores[down, across] = min(here, here - lowest)
    best = max(scores.values())
    return max(best, 0.0), [shift for shift, score in scores.items() if score > best - 1e-4]


def test_symmetry_is_the_loop():
    images = noise(5, 6, 7)
    images[0] = images[0] + images[0].flip(1)
    expected = torch.tensor([symmetry_by_loops(image.tolist()) for image in images], dtype=torch.float64)
    torch.testing.assert_close(mirror_symmetry(images), expected)
    assert mirror_symmetry(images)[0, 0].item() == pytest.approx(1)


def test_symmetry_of_known_images():
    x = torch.linspace(-1, 1, 9)
    slope = x.expand(9, 9)  # its mirror image is its negative; from top to bottom it is the same
    grey = torch.full((9, 9), 0.3)
    assert mirror_symmetry(torch.stack([slope, grey])).tolist() == [[-1.0, 1.0], [1.0, 1.0]]
    colour = torch.stack([slope, slope.T, grey])[None]
    assert mirror_symmetry(colour).tolist()[0] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_periodicity_is_the_loop():
    images = noise(4, 9, 8)
    rows, columns = torch.arange(9.0)[:, None], torch.arange(8.0)
    images[0] += torch.sin(2 * math.pi * columns / 4)
    images[1] += torch.sin(2 * math.pi * (rows + columns) / 4)
    found = periodicity(images)
    for row, image in enumerate(images):
        score, shifts = periodicity_by_loops(image.tolist())
        assert found.score[row].item() == pytest.approx(score, abs=1e-9)
        assert tuple(found.period[row].tolist()) in shifts


@pytest.mark.parametrize(("down", "across"), [(0, 7), (7, 0), (5, 5), (4, -8)])
def test_finds_the_period_of_waves(down, across):
    rows, columns = torch.arange(56.0)[:, None], torch.arange(56.0)
    phase = 2 * math.pi * (rows * down + columns * across) / (down**2 + across**2)
    found = periodicity((0.5 + 0.5 * torch.sin(phase))[None])
    assert found.score.item() > 0.95
    # other shifts by one wave are as good where they fall on whole pixels; the least is the wave's own direction
    assert found.period.tolist() == [[down, across]]


def test_gradients_stripes_and_noise_do_not_repeat():
    slope = torch.linspace(0, 1, 32, dtype=torch.float64).expand(32, 32)
    edge = (torch.arange(32) > 15).double().expand(32, 32)
    waves = (0.5 + 0.5 * torch.sin(2 * math.pi * torch.arange(32, dtype=torch.float64) / 8)).expand(32, 32)
    score = periodicity(torch.stack([slope, edge, noise(32, 32), torch.full((32, 32), 0.5).double(), waves])).score
    assert score[:4].max() < 0.35
    assert score[3] == 0
    assert score[4] > 0.95


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5), st.integers(1, 3))
def test_scores_do_not_depend_on_contrast_and_stay_in_range(seed, scale, shift, channels):
    images = noise(2, channels, 8, 6, seed=seed)
    symmetry, period = mirror_symmetry(images), periodicity(images)
    assert (symmetry.abs() <= 1).all()
    assert ((period.score >= 0) & (period.score <= 1)).all()
    torch.testing.assert_close(mirror_symmetry(images * scale + shift), symmetry, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(periodicity(images * scale + shift).score, period.score, rtol=1e-6, atol=1e-6)


def mask_by_loops(image, down, across, fill):
    masked = [list(row) for row in image]
    for row in range(len(image)):
        for column in range(len(image[0])):
            if math.floor((row * down + column * across) / (down**2 + across**2)) % 2 == 1:
                masked[row][column] = fill
    return masked


@pytest.mark.parametrize("period", [(0, 3), (4, 0), (2, 2), (3, -2)])
def test_masking_is_the_loop(period):
    image = noise(1, 13, 11)
    masked = mask_copies(image, torch.tensor([period]), fill=0.25)
    assert masked[0].tolist() == mask_by_loops(image[0].tolist(), *period, 0.25)
    mean = mask_copies(image, torch.tensor([period]))
    assert torch.allclose(mean[masked == 0.25], image.mean())
    share = (masked == 0.25).double().mean().item()
    assert 0.3 < share < 0.6


def test_masking_waves_leaves_every_second():
    waves = torch.sin(2 * math.pi * (torch.arange(32.0) + 0.5) / 8).expand(1, 3, 32, 32)
    masked = mask_copies(waves, torch.tensor([[0, 8]]), fill=0.0)
    assert torch.equal(masked[..., 0:8], waves[..., 0:8])
    assert (masked[..., 8:16] == 0).all()
    assert torch.equal(masked[..., 16:24], waves[..., 16:24])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mirror_symmetry(torch.zeros(3, 3)), "mirror_symmetry: images must be"),
        (lambda: mirror_symmetry(torch.full((1, 3, 3), torch.nan)), "mirror_symmetry: x must be finite, got NaN"),
        (lambda: periodicity(torch.zeros(1, 3, 8)), "periodicity: images must have at least 4 rows and columns"),
        (lambda: mask_copies(torch.zeros(1, 4, 4), torch.tensor([[0, 0]])), r"not \(0, 0\)"),
        (lambda: mask_copies(torch.zeros(2, 4, 4), torch.tensor([[0, 1]])), r"shape \(2, 2\)"),
        (lambda: mask_copies(torch.zeros(1, 4, 4), torch.tensor([[0, 1]]), fill=torch.inf), "fill must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()

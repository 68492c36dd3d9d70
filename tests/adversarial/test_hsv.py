import colorsys

import pytest
import torch

from claimwise.adversarial import hsv_to_rgb


def test_is_the_standard_librarys():
    hsv = torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hsv[0, 0, 0] = torch.tensor([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])
    rgb = hsv_to_rgb(hsv)
    for image in range(2):
        for row in range(5):
            for column in range(7):
                expected = colorsys.hsv_to_rgb(*hsv[image, :, row, column].tolist())
                assert rgb[image, :, row, column].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("hsv", "message"),
    [
        (torch.zeros(1, 4, 4), r"shape \(\.\.\., 3, height, width\), got \(1, 4, 4\)"),
        (torch.full((3, 1, 1), 1.5), r"must lie in \[0, 1\]"),
        (torch.full((3, 1, 1), float("nan")), r"must lie in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused_by_name(hsv, message):
    with pytest.raises(ValueError, match=f"hsv_to_rgb: .*{message}"):
        hsv_to_rgb(hsv)

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimwise.layers import local_extrema


def by_loops(values: list[int], ring: bool) -> int:
    """Squeeze out plateaus, then look at each sample and its two neighbours."""
    kept = [v for k, v in enumerate(values) if k == 0 or v != values[k - 1]]
    if ring:
        while len(kept) > 1 and kept[0] == kept[-1]:
            kept.pop()
        triples = [(kept[k - 1], kept[k], kept[(k + 1) % len(kept)]) for k in range(len(kept))]
    else:
        triples = list(zip(kept, kept[1:], kept[2:], strict=False))
    return sum(a < b > c or a > b < c for a, b, c in triples)


@pytest.mark.parametrize("ring", [False, True])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_signals_against_loops(ring, values):
    x = torch.tensor(values, dtype=torch.float64)
    assert int(local_extrema(x, boundary="circular" if ring else "open")) == by_loops(values, ring)


@pytest.mark.parametrize("ring", [False, True])
def test_images_against_loops(ring):
    x = torch.randint(0, 4, (20, 5, 6), generator=torch.Generator().manual_seed(0)).double()
    for image, found in zip(x, local_extrema(x, dims=2, boundary="circular" if ring else "open"), strict=True):
        count = 0
        for i, j in itertools.product(range(5), range(6)):
            if not ring and (i in (0, 4) or j in (0, 5)):
                continue
            others = [
                image[(i + u) % 5, (j + v) % 6] for u, v in itertools.product((-1, 0, 1), repeat=2) if (u, v) != (0, 0)
            ]
            count += all(o < image[i, j] for o in others) or all(o > image[i, j] for o in others)
        assert int(found) == count


def test_batches_tolerance_and_small_signals():
    x = torch.tensor([[0.0, 1.0, 0.0, 1e-12, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    assert local_extrema(x).tolist() == [3, 0]
    assert local_extrema(x, tolerance=1e-9).tolist() == [1, 0]
    assert local_extrema(torch.zeros(3, 1)).tolist() == [0, 0, 0]
    assert int(local_extrema(torch.zeros(2, 5), dims=2)) == 0


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(3), {"dims": 2}, "dims"),
        (torch.zeros(3, 3), {"dims": 3}, "dims"),
        (torch.zeros(3), {"boundary": "zero"}, "boundary"),
        (torch.zeros(3), {"tolerance": -1.0}, "tolerance"),
        (torch.tensor([0.0, float("nan")]), {}, "NaN"),
    ],
)
def test_refuses(x, options, message):
    with pytest.raises(ValueError, match=message):
        local_extrema(x, **options)

import torch
from hypothesis import given
from hypothesis import strategies as st

from claimwise.recurrent.packed_rows import PackedRows

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(lambda found: sorted(found, reverse=True))


def layout(lengths):
    """The layout, and rows (step, sequence) written out one by one."""
    sizes = [sum(length > t for length in lengths) for t in range(lengths[0])]
    rows = torch.tensor([[t, k] for t, size in enumerate(sizes) for k in range(size)], dtype=torch.float64)
    return PackedRows(sizes, torch.device("cpu")), rows


@given(LENGTHS)
def test_rows_are_where_they_belong(lengths):
    packed, rows = layout(lengths)
    turned = packed.reverse(rows)
    assert all(turned[row].tolist() == [lengths[int(k)] - 1 - t, k] for row, (t, k) in enumerate(rows.tolist()))
    assert packed.reverse(turned).equal(rows)
    assert packed.last(rows).tolist() == [[length - 1, k] for k, length in enumerate(lengths)]
    padded = packed.pad(rows + 1, None, lengths[0] + 2)
    for k, length in enumerate(lengths):
        assert padded[:length, k].tolist() == [[t + 1, k + 1] for t in range(length)]
        assert (padded[length:, k] == 0).all()


@given(LENGTHS, st.integers(1, 8))
def test_pieces_cover_all_rows_and_know_the_step_before(lengths, at_once):
    packed, rows = layout(lengths)
    pieces = packed.pieces(at_once)
    assert [row for _, _, start, end in pieces for row in range(start, end)] == list(range(packed.total))
    start = torch.tensor([[-1.0, k] for k in range(len(lengths))], dtype=torch.float64)
    for first, last, begin, end in pieces:
        expected = rows[begin:end] - torch.tensor([1.0, 0.0], dtype=torch.float64)
        assert packed.earlier(rows, first, last, start).equal(expected)

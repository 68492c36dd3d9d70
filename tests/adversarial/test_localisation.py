import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimwise.adversarial import hoyer_sparsity


def test_equals_the_loops_of_the_formula():
    torch.manual_seed(0)
    filters = torch.randn(4, 2, 3, dtype=torch.float64)
    for found, w in zip(hoyer_sparsity(filters).tolist(), filters.flatten(1).tolist(), strict=True):
        ratio = sum(abs(v) for v in w) / math.sqrt(sum(v * v for v in w))
        assert found == pytest.approx((math.sqrt(6) - ratio) / (math.sqrt(6) - 1), rel=1e-12)


@given(st.integers(2, 50), st.integers(1, 50), st.floats(1e-3, 1e3))
def test_k_equal_weights_of_n_have_a_closed_form_whatever_their_scale(n, k, scale):
    k = min(n, k)
    w = torch.zeros(1, n, dtype=torch.float64)
    w[0, :k] = scale
    expected = (math.sqrt(n) - math.sqrt(k)) / (math.sqrt(n) - 1)
    assert hoyer_sparsity(w).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (torch.zeros(3, 4), "3 of 3 filters are all zero"),
        (torch.ones(3, 1), r"at least 2 weights, got shape \(3, 1\)"),
        (torch.tensor([[1.0, float("nan")]]), "must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(filters, message):
    with pytest.raises(ValueError, match=f"hoyer_sparsity: .*{message}"):
        hoyer_sparsity(filters)

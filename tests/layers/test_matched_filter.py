import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.layers import matched_filter


@pytest.mark.parametrize("centred", [False, True])
def test_against_loops(centred):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=generator)
    template = torch.randn(3, 2, 3, dtype=torch.float64, generator=generator)
    found = matched_filter(x, template, centred=centred)
    assert found.shape == (2, 5, 5)
    for n in range(2):
        for i in range(5):
            for j in range(5):
                a, b = template.flatten(), x[n, :, i : i + 2, j : j + 3].flatten()
                if centred:
                    a, b = a - a.mean(), b - b.mean()
                assert float(found[n, i, j]) == pytest.approx(float(a @ b / (a.norm() * b.norm())))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.booleans())
def test_the_template_answers_most_to_itself(seed, gain, centred):
    """Cauchy and Schwarz: 1 at the embedded template, however bright, less everywhere else."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64, generator=generator)
    template = torch.randn(1, 4, 4, dtype=torch.float64, generator=generator)
    x[0, :, 3:7, 5:9] = gain * template + (0.7 if centred else 0)
    found = matched_filter(x, template, centred=centred)[0]
    assert float(found[3, 5]) == pytest.approx(1)
    assert divmod(int(found.argmax()), 9) == (3, 5)


def test_windows_without_energy_answer_nothing():
    x = torch.zeros(1, 1, 5)
    assert matched_filter(x, torch.ones(1, 2)).tolist() == [[0, 0, 0, 0]]
    assert matched_filter(x + 3, torch.tensor([[1.0, 2.0]]), centred=True).tolist() == [[0, 0, 0, 0]]


def test_gradients():
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    template = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: matched_filter(x, t, centred=True), (x, template))


@pytest.mark.parametrize(
    ("x", "template", "message"),
    [
        (torch.ones(1, 1, 3, 3), torch.ones(1, 4, 3), "larger than the image"),
        (torch.ones(1, 1, 3, 3), torch.ones(2, 2, 2), "channels"),
        (torch.ones(1, 1, 3, 3), torch.ones(1, 2), "wants x"),
        (torch.ones(1, 1, 3), torch.zeros(1, 2), "no energy"),
    ],
)
def test_refuses(unchecked, x, template, message):
    with pytest.raises(ValueError, match=message):
        matched_filter(x, template)

"""Operator norms against the singular values of matrices that explicit loops write down in float64."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from claimwise.adversarial import cap_operator_norm_, operator_norm
from claimwise.adversarial.operator_norms import largest_singular_value


def matrix_of(module: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Any linear layer as a matrix: one unit vector after the other, bias taken off."""
    module = module.double()
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    columns = []
    with torch.no_grad():
        nothing = module(zero).flatten()
        for i in range(zero.numel()):
            unit = zero.clone().flatten()
            unit[i] = 1.0
            columns.append(module(unit.reshape(zero.shape)).flatten() - nothing)
    return torch.stack(columns, 1)


def largest(matrix: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(matrix)[0])


def loop_norm(weight: torch.Tensor, size: int, stride: int, padding: int, dilation: int, circular: bool) -> float:
    """A two-dimensional convolution's matrix from its definition, entry by entry."""
    outputs, inputs, kernel, _ = weight.shape
    side = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    matrix = torch.zeros(outputs, side, side, inputs, size, size, dtype=torch.float64)
    for o, i, j, c, k, m in itertools.product(*map(range, (outputs, side, side, inputs, kernel, kernel))):
        row, column = i * stride + k * dilation - padding, j * stride + m * dilation - padding
        if circular:
            row, column = row % size, column % size
        if 0 <= row < size and 0 <= column < size:
            matrix[o, i, j, c, row, column] += weight[o, c, k, m].double()
    return largest(matrix.reshape(outputs * side * side, -1))


def test_linear_is_the_largest_singular_value():
    torch.manual_seed(0)
    layer = nn.Linear(7, 4)
    expected = largest(layer.weight.detach().double())
    assert operator_norm(layer) == pytest.approx(expected, rel=1e-12)
    assert operator_norm(layer, method="power") == pytest.approx(expected, rel=1e-9)


def test_diagonal_matrix_by_hand():
    layer = nn.Linear(3, 3, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([1.0, -5.0, 2.0])))
    assert operator_norm(layer) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("stride", "kernel", "padding", "dilation"),
    # an even kernel without padding goes once round only with a stride
    [*((s, *rest) for s in (1, 2, 4) for rest in ((3, 1, 1), (5, 2, 1), (3, 2, 2))), (2, 2, 0, 1), (4, 2, 0, 1)],
)
def test_circular_fourier_is_exact(stride, kernel, padding, dilation):
    torch.manual_seed(1)
    layer = nn.Conv2d(2, 3, kernel, stride, padding, dilation, padding_mode="circular")
    expected = loop_norm(layer.weight.detach(), 8, stride, padding, dilation, circular=True)
    assert operator_norm(layer, (2, 8, 8), method="fourier") == pytest.approx(expected, rel=1e-10)
    assert operator_norm(layer, (2, 8, 8), method="power") == pytest.approx(expected, rel=1e-8)
    assert operator_norm(layer, (2, 8, 8), method="exact") == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [(8, 3, 1, 1, 1), (9, 3, 2, 0, 1), (7, 5, 3, 4, 1), (8, 3, 1, 0, 2), (5, 1, 3, 0, 1), (4, 4, 1, 3, 1)],
)
def test_zero_padding_power_is_exact_and_fourier_bounds(size, kernel, stride, padding, dilation):
    torch.manual_seed(2)
    layer = nn.Conv2d(2, 3, kernel, stride, padding, dilation)
    expected = loop_norm(layer.weight.detach(), size, stride, padding, dilation, circular=False)
    shape = (2, size, size)
    assert operator_norm(layer, shape, method="power") == pytest.approx(expected, rel=1e-8)
    assert operator_norm(layer, shape) == pytest.approx(expected, rel=1e-8)
    assert operator_norm(layer, shape, method="exact") == pytest.approx(expected, rel=1e-10)
    assert operator_norm(layer, shape, method="fourier") >= expected * (1 - 1e-12)


@given(
    size=st.integers(3, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "circular", "reflect", "replicate"]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_fourier_and_bound_never_lie_below_the_matrix(size, kernel, stride, padding, dilation, groups, mode, seed):
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    torch.manual_seed(seed)
    layer = nn.Conv1d(2, 4, kernel, stride, padding, dilation, groups, padding_mode=mode)
    expected = largest(matrix_of(layer, (2, size)))
    for method in ("fourier", "bound"):
        assert operator_norm(layer, (2, size), method=method) >= expected * (1 - 1e-9)
    assert operator_norm(layer, (2, size)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv3d(1, 2, 2, 2, padding_mode="circular"), (1, 4, 4, 4)),
        (nn.Conv2d(4, 6, (3, 2), (2, 1), "valid", groups=2), (4, 6, 5)),
        (nn.Conv2d(2, 2, 4, padding="same"), (2, 5, 6)),
        (nn.Conv2d(2, 2, 4, padding="same", padding_mode="circular"), (2, 5, 6)),
        (nn.ConvTranspose2d(2, 3, 3, 2, 1, output_padding=1), (2, 4, 5)),
        (nn.ConvTranspose1d(4, 2, 4, 3, groups=2), (4, 5)),
        (nn.ConvTranspose1d(1, 2, 3, 1, 0, output_padding=1, dilation=3), (1, 5)),
    ],
)
def test_all_methods_against_the_matrix(layer, shape):
    expected = largest(matrix_of(layer, shape))
    for method in ("auto", "power", "exact"):
        assert operator_norm(layer, shape, method=method) == pytest.approx(expected, rel=1e-7)
    assert operator_norm(layer, shape, method="fourier") >= expected * (1 - 1e-10)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.AvgPool2d(2), (3, 6, 6)),
        (nn.AvgPool2d(3, 2, 1), (1, 7, 6)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 8, 7)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=4), (1, 8, 7)),
        (nn.AvgPool1d(3, 1), (2, 8)),
        (nn.AdaptiveAvgPool2d((3, None)), (1, 7, 5)),
        (nn.AdaptiveAvgPool1d(1), (2, 6)),
        (nn.AvgPool3d(2, 1), (1, 3, 4, 3)),
    ],
)
def test_average_pooling_against_the_matrix(layer, shape):
    assert operator_norm(layer, shape) == pytest.approx(largest(matrix_of(layer, shape)), rel=1e-10)


def test_batch_norm_in_eval_mode():
    layer = nn.BatchNorm1d(3).eval()
    with torch.no_grad():
        layer.running_var.copy_(torch.tensor([1.0, 0.25, 4.0]))
        layer.weight.copy_(torch.tensor([1.0, -2.0, 3.0]))
    assert operator_norm(layer) == pytest.approx(largest(matrix_of(layer, (3,))), rel=1e-6)
    with pytest.raises(ValueError, match="keeps no running statistics"):
        operator_norm(nn.BatchNorm1d(3, track_running_stats=False))


def test_the_reshaped_kernel_is_not_the_norm_of_the_convolution():
    """What torch's spectral_norm divides by: here three times too small."""
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    nn.init.constant_(layer.weight, 1.0)
    assert largest(layer.weight.detach().reshape(1, -1)) == pytest.approx(3.0)
    assert operator_norm(layer, (1, 9, 9)) == pytest.approx(9.0)


def test_largest_singular_value_of_many_matrices():
    matrices = torch.randn(40, 6, 9, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    expected = max(float(torch.linalg.svdvals(matrix)[0]) for matrix in matrices)
    assert largest_singular_value(matrices) == pytest.approx(expected, rel=1e-12)
    assert largest_singular_value(torch.zeros(5, 3, 4)) == 0.0
    equal = torch.eye(4, dtype=torch.float64).expand(7, 4, 4) * 3  # all of them contend
    assert largest_singular_value(equal) == pytest.approx(3.0)


def test_start_of_the_power_method():
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 3, padding=1)
    rng = torch.get_rng_state()
    first = operator_norm(layer, (1, 6, 6), method="power")
    assert first == operator_norm(layer, (1, 6, 6), method="power")
    other = operator_norm(layer, (1, 6, 6), method="power", generator=torch.Generator().manual_seed(5))
    assert other == pytest.approx(first, rel=1e-9)
    assert torch.equal(rng, torch.get_rng_state())
    assert layer.weight.grad is None
    with torch.inference_mode():
        assert operator_norm(nn.Conv2d(1, 2, 3, padding=1).double(), (1, 6, 6), method="power") > 0
    with pytest.raises(RuntimeError, match="in 1 iterations"):
        operator_norm(layer, (1, 6, 6), method="power", iterations=1)


def test_zero_weights():
    layer = nn.Conv2d(1, 2, 3)
    nn.init.zeros_(layer.weight)
    for method in ("auto", "bound", "fourier", "power", "exact"):
        assert operator_norm(layer, (1, 6, 6), method=method) == 0.0


def test_cap_clips_singular_values_of_a_matrix():
    torch.manual_seed(0)
    for sizes in ((9, 4), (4, 9)):
        layer = nn.Linear(*sizes).double()
        u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
        cap = float(s[1])
        assert cap_operator_norm_(layer, cap) == pytest.approx(float(s[0]))
        torch.testing.assert_close(layer.weight.detach(), u * s.clamp_max(cap) @ v)
        before = layer.weight.detach().clone()
        assert cap_operator_norm_(layer, 2 * cap) == pytest.approx(cap)
        assert torch.equal(before, layer.weight)  # under the cap nothing moves


def test_cap_scales_a_convolution():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3, padding=1)
    direction = layer.weight.detach() / layer.weight.norm()
    norm = cap_operator_norm_(layer, 0.1, (3, 12, 12))
    assert norm > 0.1
    assert operator_norm(layer, (3, 12, 12)) <= 0.1 * (1 + 1e-6)
    torch.testing.assert_close(layer.weight.detach() / layer.weight.detach().norm(), direction)


def test_what_is_refused():
    conv = nn.Conv2d(2, 3, 3)
    with pytest.raises(ValueError, match=r"give input_shape=\(channels, height, width\)"):
        operator_norm(conv)
    with pytest.raises(ValueError, match=r"3 positive sizes .* got \(2, 8\)"):
        operator_norm(conv, (2, 8))
    with pytest.raises(ValueError, match="takes 2 channels"):
        operator_norm(conv, (1, 8, 8))
    with pytest.raises(ValueError, match="nothing comes out"):
        operator_norm(conv, (2, 2, 2))
    with pytest.raises(TypeError, match="no norm known for ReLU"):
        operator_norm(nn.ReLU())
    with pytest.raises(ValueError, match="for convolutions"):
        operator_norm(nn.Linear(2, 2), method="fourier")
    with pytest.raises(ValueError, match="explicit matrix would have"):
        operator_norm(conv, (2, 224, 224), method="exact")
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, math.nan)
    with pytest.raises(ValueError, match="must be finite"):
        operator_norm(broken)
    with pytest.raises(ValueError, match="must be finite"):
        cap_operator_norm_(broken, 1.0)
    with pytest.raises(ValueError, match="cap must be positive"):
        cap_operator_norm_(nn.Linear(2, 2), 0.0)
    with pytest.raises(TypeError, match="Linear or a convolution, got Sequential"):
        cap_operator_norm_(nn.Sequential(), 1.0)
    with pytest.raises(ValueError, match="tolerance must be > 0"):
        operator_norm(nn.Linear(2, 2), tolerance=0.0)


def test_unknown_method_is_refused(unchecked):
    with pytest.raises(ValueError, match="method must be"):
        operator_norm(nn.Linear(2, 2), method="svd")


def test_the_torus_leaves_room_for_the_padding():
    """On a torus of the input's own size the two taps would meet and cancel: 0, where the norm is 1."""
    layer = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0, -1.0]))
    assert operator_norm(layer, (1, 2)) == pytest.approx(1.0)
    assert operator_norm(layer, (1, 2), method="fourier") >= 1.0 - 1e-12

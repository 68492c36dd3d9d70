"""Operator norms of linear layers: the largest factor by which a layer stretches a difference of two inputs.

C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
networks*, ICLR 2014, section 4.3, https://arxiv.org/abs/1312.6199
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Method = Literal["auto", "bound", "fourier", "power", "exact"]
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
AveragePooling = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
AdaptiveAveragePooling = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_EXACT_SIDE = 256
"""Up to this many inputs or outputs, the explicit matrix is as cheap as a bound on its norm."""
_EXACT_ELEMENTS = 2**28
"""An explicit matrix of more elements than this (2 GiB) is refused."""
_CHUNK_ELEMENTS = 2**22
"""Complex numbers that the Fourier analysis holds at a time (64 MiB)."""


def operator_norm(
    module: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    method: Method = "auto",
    tolerance: float = 1e-7,
    iterations: int = 500,
    generator: torch.Generator | None = None,
) -> float:
    r"""Operator norm of a linear layer: its largest singular value, biases left out.

    .. math:: \lVert W \rVert = \sup_{x \ne 0} \lVert W x \rVert_2 / \lVert x \rVert_2

    A convolution with stride :math:`\Delta` on a torus of side :math:`N` splits, after Fourier transforms, into one
    small matrix a frequency:

    .. math:: \lVert W \rVert = \sup_{\xi \in \{0, .., N / \Delta - 1\}^2} \lVert A(\xi) \rVert, \qquad
              A(\xi)_{o, (c, a)} = \Delta^{-d/2} \, \hat w_{o c}(\xi + a N / \Delta), \quad a \in \{0, .., \Delta-1\}^d

    with :math:`\hat w_{oc}` the discrete Fourier transform of the kernel from channel :math:`c` to channel :math:`o`,
    :math:`a` over the :math:`\Delta^d` frequencies that the stride folds into one, :math:`d` dimensions (2 for
    images).

    ============  ====================================================================================================
    ``method``    what it gives
    ============  ====================================================================================================
    ``exact``     singular values of the explicit matrix, for any layer here; small layers only
    ``fourier``   convolutions. Exact with circular padding where the outputs go once round the torus; otherwise an
                  upper bound: with zero padding the layer is part of a convolution on a larger torus
    ``power``     the Krylov space of power iterates through the operator and its transpose, with the layer's own
                  padding and input size. Exact up to ``tolerance``, from below
    ``bound``     never below the norm: ``exact`` where that is cheap, else ``fourier``
    ``auto``      the norm itself: ``exact`` for matrices, ``fourier`` where that is exact, else ``power``
    ============  ====================================================================================================

    Args:
        module: ``nn.Linear``, convolutions and transposed convolutions of 1 to 3 dimensions with any stride, padding,
            padding mode, dilation and groups; average pooling, also adaptive; batch norm in eval mode.
        input_shape: Shape of one input without the batch, (channels, height, width) for images; only ``nn.Linear``
            and batch norm do without.
        method: See the table. Closed forms (pooling, batch norm) are used whatever it says.
        tolerance: Of ``power``: residual, relative to the norm, at which it stops.
        iterations: Of ``power``: most applications of the operator and its transpose.
        generator: Of ``power``: draws the start. By default a fixed draw.

    Shape:
        A number. Computed in float64 whatever the layer's type.

    Raises:
        TypeError: A module that is not in the list above.
        ValueError: No or a wrong ``input_shape``, weights not finite, a method that does not fit the layer, an explicit
            matrix over 2 GiB, a batch norm that normalises by the batch.
        RuntimeError: ``power`` did not converge.

    Differences from the paper:
        The paper writes :math:`\sup` over :math:`\xi \in [0, N \Delta^{-1})^2` and leaves the factor
        :math:`\Delta^{-d/2}` to the normalisation of the transform. It treats zero padding as circular; here that is
        an upper bound, and ``power`` gives the norm.

    Example:
        >>> layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
        >>> _ = nn.init.constant_(layer.weight, 1 / 9)
        >>> round(operator_norm(layer, (1, 8, 8)), 6)  # an average keeps a constant image
        1.0
        >>> layer.padding_mode = "zeros"
        >>> round(operator_norm(layer, (1, 8, 8)), 4), round(operator_norm(layer, (1, 8, 8), method="fourier"), 4)
        (0.9212, 1.0)
    """
    if method not in ("auto", "bound", "fourier", "power", "exact"):
        raise ValueError(
            f"operator_norm: method must be 'auto', 'bound', 'fourier', 'power' or 'exact', got {method!r}"
        )
    if not tolerance > 0:
        raise ValueError(f"operator_norm: tolerance must be > 0, got {tolerance}")
    if iterations < 1:
        raise ValueError(f"operator_norm: iterations must be >= 1, got {iterations}")
    for name, value in module.named_parameters(recurse=False):
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"operator_norm: {name} of the {type(module).__name__} must be finite, got NaN or infinity"
            )
    if isinstance(module, nn.Linear):
        if method == "fourier":
            raise ValueError("operator_norm: method='fourier' is for convolutions, got a Linear; use 'exact'")
        weight = _double(module.weight)
        if method == "power":
            return _krylov(
                lambda v: v @ weight.T, weight.new_zeros(1, weight.shape[1]), tolerance, iterations, generator
            )
        return largest_singular_value(weight)
    if isinstance(module, BatchNorm):
        if module.running_var is None:
            raise ValueError(
                f"operator_norm: this {type(module).__name__} keeps no running statistics and normalises by the batch, "
                "which is not linear; use track_running_stats=True"
            )
        scale = (_double(module.running_var) + module.eps).rsqrt()
        return float((scale if module.weight is None else scale * _double(module.weight)).abs().max())
    if not isinstance(module, Convolution | TransposedConvolution | AveragePooling | AdaptiveAveragePooling):
        raise TypeError(
            f"operator_norm: no norm known for {type(module).__name__}; it takes Linear, Conv, ConvTranspose, AvgPool, "
            "AdaptiveAvgPool and BatchNorm layers. For other layers give a constant to lipschitz_bound(constants=...)"
        )
    shape = _checked_shape(module, input_shape)
    if isinstance(module, AveragePooling | AdaptiveAveragePooling):
        return _average_pooling(module, shape)
    geometry, weight = Geometry.of(module, shape), _double(module.weight)
    if method == "auto":
        method = "fourier" if geometry.once_round() else "power"
    if method == "bound":
        method = "exact" if min(geometry.elements(weight)) <= _EXACT_SIDE else "fourier"
    if method == "fourier":
        return _fourier(geometry, weight)
    start = weight.new_zeros(1, geometry.channels(weight)[0], *geometry.size)
    if method == "power":
        return _krylov(lambda v: geometry.apply(v, weight), start, tolerance, iterations, generator)
    return largest_singular_value(_explicit(lambda v: geometry.apply(v, weight), start, geometry.elements(weight)))


def cap_operator_norm_(module: nn.Module, cap: float, input_shape: Sequence[int] | None = None) -> float:
    r"""Bring a layer's weight back under a cap on its operator norm, in place; call it after every optimiser step.

    For a matrix this is the nearest one (in the Frobenius norm) under the cap, which clips its singular values; a
    convolution is scaled, because clipped singular values do not belong to a kernel of that size any more:

    .. math:: W \leftarrow U \min(\Sigma, c) V^\top, \qquad w \leftarrow w \min(1, c / \lVert W \rVert)

    with :math:`U \Sigma V^\top` the singular value decomposition of :math:`W` and :math:`c` the cap.

    Args:
        module: ``nn.Linear``, or a convolution or transposed convolution.
        cap: Largest norm allowed.
        input_shape: For convolutions, as in :func:`operator_norm`.

    Shape:
        Returns the norm before (an upper bound of it for a convolution, ``method="bound"``).

    Raises:
        TypeError: Another module.
        ValueError: ``cap`` not positive and finite, or as :func:`operator_norm`.

    Differences from the paper:
        The paper suggests a penalty on the bounds (section 4.3) and tries none; a cap is a constraint instead.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> _ = layer.load_state_dict({"weight": torch.tensor([[3.0, 0.0], [0.0, 0.5]])})
        >>> cap_operator_norm_(layer, 1.0)
        3.0
        >>> layer.weight.tolist()
        [[1.0, 0.0], [0.0, 0.5]]
    """
    if not (math.isfinite(cap) and cap > 0):
        raise ValueError(f"cap_operator_norm_: cap must be positive and finite, got {cap}")
    if isinstance(module, nn.Linear):
        weight = _double(module.weight)
        if not bool(weight.isfinite().all()):
            raise ValueError("cap_operator_norm_: weight of the Linear must be finite, got NaN or infinity")
        wide = weight.shape[0] <= weight.shape[1]
        gram = weight @ weight.T if wide else weight.T @ weight  # of the smaller side
        squares, vectors = torch.linalg.eigh(gram)
        singular = squares.clamp_min(0).sqrt()
        norm = float(singular[-1]) if len(singular) else 0.0
        if norm > cap:
            shrink = vectors * (cap / singular.clamp_min(cap)) @ vectors.T
            with torch.no_grad():
                module.weight.copy_(shrink @ weight if wide else weight @ shrink)
        return norm
    if not isinstance(module, Convolution | TransposedConvolution):
        raise TypeError(
            f"cap_operator_norm_: module must be a Linear or a convolution, got {type(module).__name__}; "
            "call it for each layer of a network"
        )
    norm = operator_norm(module, input_shape, method="bound")
    if norm > cap:
        with torch.no_grad():
            module.weight.mul_(cap / norm)
    return norm


def largest_singular_value(matrices: Tensor) -> float:
    """Largest singular value among (..., rows, columns) matrices, through the Gram matrices of their smaller side.

    Squaring costs small singular values their digits, not the largest one. Of many matrices only those are decomposed
    whose upper bound :math:`\\lVert G^p \\rVert_F^{1/p}` reaches the best lower bound among them.
    """
    if matrices.numel() == 0:
        return 0.0
    matrices = matrices.to(torch.complex128 if matrices.is_complex() else torch.float64)
    matrices = matrices.reshape(-1, *matrices.shape[-2:])
    adjoint = matrices.mH
    gram = matrices @ adjoint if matrices.shape[1] <= matrices.shape[2] else adjoint @ matrices
    if len(gram) > 1 and gram.shape[1] > 1:
        gram = _contenders(gram)
    # the solver is backward stable: its error is some 1e-16 of the largest eigenvalue
    return math.sqrt(max(float(torch.linalg.eigvalsh(gram).max()), 0.0))


def _contenders(gram: Tensor) -> Tensor:
    """Those of the positive semidefinite matrices, (many, side, side), that may have the largest eigenvalue."""
    tiny = torch.finfo(torch.float64).tiny
    power = gram
    # log sum l^p over the eigenvalues l; at first p = 1, the trace
    before = gram.diagonal(dim1=1, dim2=2).real.sum(1).clamp_min(tiny).log()
    log_scale = torch.zeros_like(before)  # power is G^(p / 2) divided by exp(log_scale)
    for exponent in (2, 4, 8, 16, 32):
        norm = torch.linalg.matrix_norm(power).clamp_min(tiny)
        log_scale = log_scale + norm.log()
        now = 2 * log_scale  # log sum l^exponent
        upper = now / exponent
        lower = (now - before) / (exponent / 2)  # sum l^(2p) <= max l^p sum l^p
        keep = upper >= lower.max() - 1e-9
        gram, before, log_scale = gram[keep], now[keep], 2 * log_scale[keep]
        if len(gram) == 1 or exponent == 32:
            break
        power = power[keep] / norm[keep][:, None, None]
        power = power @ power
    return gram


@dataclass(frozen=True)
class Geometry:
    """What a convolution does besides its weight. A transposed one is held as the convolution it transposes."""

    size: tuple[int, ...]
    """Sides of the convolution's input."""
    outputs: tuple[int, ...]
    """Sides of its output."""
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    """Before and behind, for each side."""
    dilation: tuple[int, ...]
    groups: int
    mode: str
    """Padding mode as torch names it."""

    @classmethod
    def of(cls, module: Convolution | TransposedConvolution, shape: tuple[int, ...]) -> "Geometry":
        size, stride, dilation = shape[1:], tuple(module.stride), tuple(module.dilation)
        reach = tuple(d * (k - 1) for d, k in zip(dilation, module.kernel_size, strict=True))
        if isinstance(module.padding, str):
            total = reach if module.padding == "same" else (0,) * len(reach)
            padding = tuple((t // 2, t - t // 2) for t in total)
        else:
            padding = tuple((p, p) for p in module.padding)
        sides = zip(size, stride, padding, reach, strict=True)
        if isinstance(module, TransposedConvolution):
            behind = tuple(module.output_padding)
            outputs = tuple((n - 1) * s - sum(p) + r + 1 for n, s, p, r in sides)
            size, outputs = tuple(n + q for n, q in zip(outputs, behind, strict=True)), size
        else:
            outputs = tuple((n + sum(p) - r - 1) // s + 1 for n, s, p, r in sides)
        if min(*size, *outputs) < 1:
            raise ValueError(f"operator_norm: {module} does not fit input_shape={shape}: nothing comes out")
        return cls(size, outputs, stride, padding, dilation, module.groups, module.padding_mode)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution of (batch, channels, *size), without bias."""
        pad = [p for before_behind in reversed(self.padding) for p in before_behind]
        if any(pad):
            x = F.pad(x, pad, mode="constant" if self.mode == "zeros" else self.mode)
        y = _CONVOLVE[len(self.size)](x, weight, None, self.stride, 0, self.dilation, self.groups)
        for axis, side in enumerate(self.outputs, 2):
            y = y.narrow(axis, 0, side)  # output_padding of a transposed layer can leave room for one more window
        return y

    def channels(self, weight: Tensor) -> tuple[int, int]:
        """Of the convolution's input and output."""
        return weight.shape[1] * self.groups, weight.shape[0]

    def elements(self, weight: Tensor) -> tuple[int, int]:
        """Numbers in one input and in one output of the convolution."""
        inputs, outputs = self.channels(weight)
        return inputs * math.prod(self.size), outputs * math.prod(self.outputs)

    def once_round(self) -> bool:
        """Whether the layer is a whole circular convolution, so that Fourier analysis is exact."""
        return self.mode == "circular" and all(
            m * s == n for m, s, n in zip(self.outputs, self.stride, self.size, strict=True)
        )


def _fourier(geometry: Geometry, weight: Tensor) -> float:
    """Norm on a torus: that of the layer if it goes once round, else an upper bound of it."""
    copies = 1.0  # largest stretching by the padding alone
    if geometry.once_round():
        torus = geometry.size
    else:
        # Two neighbouring images may share the zeros between them; what else is padded is part of a larger input.
        margin = [max(p) if geometry.mode == "zeros" else sum(p) for p in geometry.padding]
        torus = tuple(
            math.ceil(max(n + extra, m * s) / s) * s
            for n, extra, m, s in zip(geometry.size, margin, geometry.outputs, geometry.stride, strict=True)
        )
        if geometry.mode != "zeros":
            copies = math.prod(
                pad_norm(n, p, geometry.mode) for n, p in zip(geometry.size, geometry.padding, strict=True)
            )
    outputs, inputs = weight.shape[0] // geometry.groups, weight.shape[1]
    taps = weight.reshape(geometry.groups * outputs * inputs, -1)  # (groups * out * in, taps)
    folds = math.prod(geometry.stride)  # frequencies that the stride makes one
    frequency = _grid([n // s for n, s in zip(torus, geometry.stride, strict=True)], weight.device)  # (freqs, dims)
    fold = _grid(geometry.stride, weight.device)  # (folds, dims)
    tap = _grid(weight.shape[2:], weight.device)  # (taps, dims)
    sides = torch.tensor(torus, device=weight.device)
    strides = torch.tensor(geometry.stride, device=weight.device)
    # weights are real, so -xi has the conjugate matrix: half the frequencies do
    place = torch.tensor(
        [
            math.prod((n // s for n, s in zip(torus[i + 1 :], geometry.stride[i + 1 :], strict=True)))
            for i in range(len(torus))
        ],
        device=weight.device,
    )
    mirrored = (-frequency) % (sides // strides)
    frequency = frequency[(frequency * place).sum(1) <= (mirrored * place).sum(1)]
    dilation = torch.tensor(geometry.dilation, device=weight.device)
    chunk = max(1, _CHUNK_ELEMENTS // (folds * max(len(taps), len(tap))))
    norm = 0.0
    for some in torch.split(frequency, chunk):
        aliased = some[:, None] + fold * (sides // strides)  # (freqs, folds, dims)
        # whole turns are dropped in integers, where they are exact
        turns = ((aliased[:, :, None] * (tap * dilation)) % sides / sides.double()).sum(3)  # (freqs, folds, taps)
        angle = (2 * math.pi * turns).flatten(0, 1).T  # (taps, freqs * folds)
        transform = torch.complex(taps @ angle.cos(), taps @ angle.sin()) / math.sqrt(folds)
        matrices = transform.reshape(geometry.groups, outputs, inputs, len(some), folds).permute(0, 3, 1, 2, 4)
        norm = max(norm, largest_singular_value(matrices.flatten(3)))
    return copies * norm


def pad_norm(size: int, padding: tuple[int, int], mode: str) -> float:
    """Norm of padding one side: the root of how often the most repeated entry stands in the result."""
    if mode == "zeros" or not any(padding):
        return 1.0
    line = F.pad(torch.arange(size, dtype=torch.float64)[None, None], padding, mode=mode)
    return math.sqrt(int(line.flatten().long().bincount().max()))


def _krylov(
    apply: Callable[[Tensor], Tensor],
    zero: Tensor,
    tolerance: float,
    iterations: int,
    generator: torch.Generator | None,
) -> float:
    """Largest singular value of a linear operator on tensors like ``zero``, from below.

    Golub-Kahan: each step applies the operator and its transpose once, as the power method does, but keeps the
    coefficients, and takes the best vector of the whole space spanned so far rather than the last one. Without
    re-orthogonalisation: that would cost memory and guards only the inner singular values against copies.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        point = zero.clone().requires_grad_()
        image = apply(point)

        def transpose(u: Tensor) -> Tensor:  # of a linear operator, wherever its derivative is taken
            return torch.autograd.grad(image, point, u, retain_graph=True)[0]

        with torch.no_grad():
            v = torch.randn(zero.shape, generator=generator, dtype=zero.dtype, device=generator.device).to(zero.device)
            v /= torch.linalg.vector_norm(v)
            u, beta = torch.zeros_like(image), 0.0
            diagonal: list[float] = []
            above: list[float] = []
            for _ in range(iterations):
                u = apply(v) - beta * u
                alpha = float(torch.linalg.vector_norm(u))
                diagonal.append(alpha)
                if alpha == 0.0:
                    return _bidiagonal(diagonal, above)[0]
                u /= alpha
                v = transpose(u) - alpha * v
                beta = float(torch.linalg.vector_norm(v))
                norm, last = _bidiagonal(diagonal, above)
                if beta * last <= tolerance * norm:
                    return norm
                above.append(beta)
                v /= beta
    raise RuntimeError(
        f"operator_norm: power did not reach a residual of {tolerance} in {iterations} iterations "
        f"(norm >= {norm:.6g}); give more iterations or a larger tolerance, or use method='bound'"
    )


def _bidiagonal(diagonal: list[float], above: list[float]) -> tuple[float, float]:
    """Largest singular value of the bidiagonal matrix, and the last entry of its left vector."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if above:
        matrix += torch.diag(torch.tensor(above, dtype=torch.float64), 1)
    left, singular, _ = torch.linalg.svd(matrix)
    return float(singular[0]), abs(float(left[-1, 0]))


def _explicit(apply: Callable[[Tensor], Tensor], zero: Tensor, elements: tuple[int, int]) -> Tensor:
    """The operator's matrix, transposed: a row for every input."""
    inputs, outputs = elements
    if inputs * outputs > _EXACT_ELEMENTS:
        raise ValueError(
            f"operator_norm: the explicit matrix would have {outputs} x {inputs} elements; "
            "use method='power', or 'fourier' for an upper bound"
        )
    with torch.no_grad():
        unit = torch.eye(inputs, dtype=zero.dtype, device=zero.device).reshape(inputs, *zero.shape[1:])
        return torch.cat([apply(rows).flatten(1) for rows in torch.split(unit, 1024)])


def _average_pooling(module: AveragePooling | AdaptiveAveragePooling, shape: tuple[int, ...]) -> float:
    """Averages along each side in turn, so that the matrix is a Kronecker product of small ones."""
    sides = shape[1:]
    norm = 1.0
    for axis, size in enumerate(sides):
        line = torch.eye(size, dtype=torch.float64).unsqueeze(1)  # (size, 1, size)
        if isinstance(module, AdaptiveAveragePooling):
            wanted = _along(module.output_size, axis)
            pooled = F.adaptive_avg_pool1d(line, size if wanted is None else wanted)
        else:
            kernel, stride, padding = (_along(v, axis) for v in (module.kernel_size, module.stride, module.padding))
            pooled = F.avg_pool1d(line, kernel, stride, padding, module.ceil_mode, module.count_include_pad)
            if getattr(module, "divisor_override", None) is not None:
                windows = F.pad(line, (padding, padding + stride + kernel)).unfold(2, kernel, stride)
                pooled = windows[:, :, : pooled.shape[2]].sum(3)  # sums; the one divisor comes below
        norm *= largest_singular_value(pooled[:, 0])
    return norm / abs(getattr(module, "divisor_override", None) or 1)


def _along(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, tuple | list) else value


def _checked_shape(module: Any, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    name = type(module).__name__
    dims = int(name[-2])  # Conv2d, AvgPool3d, ...
    if input_shape is None:
        raise ValueError(
            f"operator_norm: the norm of a {name} depends on the size of its input; "
            f"give input_shape=(channels, {', '.join(('depth', 'height', 'width')[-dims:])})"
        )
    shape = tuple(int(side) for side in input_shape)
    if len(shape) != dims + 1 or min(shape) < 1:
        raise ValueError(
            f"operator_norm: input_shape of a {name} must be {dims + 1} positive sizes (channels first, no batch), "
            f"got {tuple(input_shape)}"
        )
    if getattr(module, "in_channels", shape[0]) != shape[0]:
        raise ValueError(
            f"operator_norm: this {name} takes {module.in_channels} channels, got input_shape={tuple(input_shape)}"
        )
    return shape


def _grid(sides: Sequence[int], device: torch.device) -> Tensor:
    """All index tuples, (product of sides, sides)."""
    return torch.cartesian_prod(*(torch.arange(n, device=device) for n in sides)).reshape(-1, len(sides))


def _double(value: Tensor) -> Tensor:
    """In float64, out of any graph; on the CPU where the device has no float64."""
    with torch.inference_mode(False), torch.no_grad():
        device = "cpu" if value.device.type == "mps" else value.device
        return value.detach().to(device, torch.float64, copy=value.is_inference())

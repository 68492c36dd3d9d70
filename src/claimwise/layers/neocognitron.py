r"""The neocognitron: the first network of alternating feature extraction with shared weights and pooling.

K. Fukushima, *Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by
shift in position*, Biological Cybernetics 36, 193-202, 1980, https://doi.org/10.1007/BF00344251. Equations (1) to (9)
are those of its section 2 (cells) and section 3 (self-organization).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from claimwise.layers.gaussian import check_positive


def falling_weights(size: int, rate: float) -> Float[Tensor, "size size"]:
    """Weights that fall with the distance from the middle, as rate^distance, and sum to 1."""
    from_middle = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    distance = (from_middle.square()[:, None] + from_middle.square()).sqrt()
    weights = torch.tensor(rate, dtype=torch.float64) ** distance
    return weights / weights.sum()


class SCells(nn.Module):
    r"""Planes of S-cells: feature extraction by excitation that must beat inhibition, one feature a plane.

    .. math::
        u_S(k, n) &= r\, \varphi\!\left[
            \frac{1 + \sum_{\kappa} \sum_{v} a(\kappa, v, k)\, u_C(\kappa, n + v)}
                 {1 + \frac{2r}{1 + r}\, b(k)\, v_C(n)} - 1 \right] \\
        v_C(n) &= \sqrt{ \sum_\kappa \sum_v c(v)\, u_C^2(\kappa, n + v) }

    with :math:`\varphi[x] = \max(x, 0)`; :math:`u_C(\kappa, n)` the input plane :math:`\kappa` at n; a the excitatory
    weights, shared by all cells of plane k; :math:`b(k) \ge 0` the efficacy of the inhibitory V-cell :math:`v_C`, which
    takes the root mean square over the same window; c its fixed weights, falling with the distance from the middle and
    summing to 1 over planes and window; r the selectivity: the larger it is, the more alike a pattern must be.

    After learning one pattern from nothing, a cell fires exactly where the c-weighted cosine of its input and that
    pattern exceeds :math:`r / (1 + r)`.

    Learning is :meth:`reinforce`, without a teacher: of all cells that see about the same place (an S-column) the
    strongest wins; of the winners of one plane the strongest is its *seed cell*; only seeds learn, and their plane with
    them,

    .. math:: \Delta a(\kappa, v, k) = q\, c(v)\, u_C(\kappa, \hat n + v), \qquad
              \Delta b(k) = \tfrac q2\, v_C(\hat n)

    with :math:`\hat n` the place of the seed cell and q the speed. A pattern that no trained cell answers to is learned
    by an untrained plane, because those answer a little to anything.

    Args:
        in_planes: Input planes.
        planes: Planes of S-cells, the features that can be learned.
        size: Side of the window.
        selectivity: r.
        speed: q.
        column: Side of an S-column, in cells; odd. At most one plane learns in it per pattern.
        fall: c falls by this factor per pixel of distance.
        initial: Size of the initial excitatory weights, small against what one reinforcement adds.
        generator: For the initial weights.

    Shape:
        ``(batch, in_planes, height, width)``, not negative -> ``(batch, planes, height - size + 1, width - size + 1)``.

    Raises:
        ValueError: A size, r, q, ``fall`` or ``initial`` out of range; on calling, another number of planes, an image
            smaller than the window, or negative input.

    Differences from the paper:
        Initial weights are random and not bars of preset orientations. S-columns are centred on every cell.

    Example:
        >>> import torch
        >>> cells = SCells(1, 2, 3, generator=torch.Generator().manual_seed(0))
        >>> bar = torch.zeros(1, 1, 3, 3)
        >>> bar[..., 1] = 1
        >>> cells.reinforce(bar)
        1
        >>> upright, level = cells(bar).amax(), cells(bar.transpose(2, 3)).amax()
        >>> bool(upright > 10 * level)
        True
    """

    weight: Tensor
    inhibition: Tensor
    falling: Tensor

    def __init__(
        self,
        in_planes: int,
        planes: int,
        size: int,
        *,
        selectivity: float = 4.0,
        speed: float = 1.0,
        column: int = 5,
        fall: float = 0.9,
        initial: float = 1e-3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"in_planes": in_planes, "planes": planes, "size": size, "column": column}.items():
            if value < 1:
                raise ValueError(f"SCells: {name} must be at least 1, got {value}")
        if column % 2 == 0:
            raise ValueError(f"SCells: column must be odd, so that it has a middle, got {column}")
        for name, number in {"selectivity": selectivity, "speed": speed, "initial": initial}.items():
            check_positive("SCells", name, number)
        if not 0 < fall <= 1:
            raise ValueError(f"SCells: fall must be above 0 and at most 1, got {fall}")
        self.selectivity, self.speed, self.column = selectivity, speed, column
        falling = (falling_weights(size, fall) / in_planes).to(torch.get_default_dtype())
        self.register_buffer("falling", falling.expand(1, in_planes, size, size).clone())  # c
        start = torch.rand(planes, in_planes, size, size, generator=generator)
        self.register_buffer("weight", initial * start * falling)  # a
        self.register_buffer("inhibition", torch.zeros(planes))  # b

    def forward(self, x: Float[Tensor, "batch planes height width"]) -> Float[Tensor, "batch features down across"]:
        return self._answer(x)[0]

    def _answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """S-cells, and the V-cells (batch, 1, down, across)."""
        if x.ndim != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"SCells: input must be (batch, {self.weight.shape[1]}, height, width), got {tuple(x.shape)}"
            )
        if min(x.shape[2:]) < self.weight.shape[-1]:
            raise ValueError(
                f"SCells: a window of {self.weight.shape[-1]} is larger than the image {tuple(x.shape[2:])}"
            )
        if not bool((x >= 0).all()):
            raise ValueError("SCells: cells have outputs >= 0, and so must the input; got negative numbers or NaN")
        excitation = F.conv2d(x, self.weight)
        v = F.conv2d(x.square(), self.falling).clamp(min=0).sqrt()
        r = self.selectivity
        shunt = (2 * r / (1 + r)) * self.inhibition[:, None, None] * v
        # (1 + e) / (1 + h) - 1 without the cancellation
        return r * ((excitation - shunt) / (1 + shunt)).relu(), v

    @torch.no_grad()
    def reinforce(self, x: Float[Tensor, "one planes height width"]) -> int:
        """Learn one pattern (in place); how many planes learned.

        Args:
            x: One pattern, (1, in_planes, height, width). Patterns are learned one after another, because who wins
                depends on what was learned before.

        Raises:
            ValueError: Not one pattern, or as :class:`SCells`.
        """
        if len(x) != 1:
            raise ValueError(f"SCells.reinforce: learns one pattern at a time, got {len(x)}; loop over them")
        cells, v = self._answer(x)
        planes, across = cells.shape[1], cells.shape[3]
        # a candidate is strongest in a column around itself, over all planes; ties go to the first plane
        best = cells.amax(1, keepdim=True)
        column = F.max_pool2d(best, self.column, 1, self.column // 2)
        first = cells.argmax(1, keepdim=True) == torch.arange(planes, device=x.device)[:, None, None]
        candidate = first & (cells == column) & (cells > 0)
        strongest, place = torch.where(candidate, cells, 0.0)[0].flatten(1).max(1)  # (planes,), a seed each
        seeds = (strongest > 0).nonzero()[:, 0].tolist()
        size = self.weight.shape[-1]
        for plane in seeds:
            i, j = divmod(int(place[plane]), across)
            self.weight[plane] += self.speed * self.falling[0] * x[0, :, i : i + size, j : j + size]
            self.inhibition[plane] += self.speed / 2 * v[0, 0, i, j]
        return len(seeds)


class CCells(nn.Module):
    r"""Planes of C-cells: each answers when an S-cell of its plane does anywhere in a window.

    .. math::
        u_C(k, n) = \psi\!\left[ \frac{1 + \sum_v d(v)\, u_S(k, sn + v)}{1 + v_S(n)} - 1 \right], \quad
        v_S(n) = \frac1K \sum_{k=1}^{K} \sum_v d(v)\, u_S(k, sn + v), \quad
        \psi[x] = \frac{\varphi[x]}{\alpha + \varphi[x]}

    with d fixed weights that fall with the distance from the middle and sum to 1, s the step from cell to cell, K the
    planes, :math:`v_S` inhibition from all planes, and :math:`\psi` a saturation.

    Args:
        size: Side of the window; 1 pools nothing.
        stride: s; C-planes have fewer cells.
        saturation: :math:`\alpha`, the input at half of the maximum.
        fall: d falls by this factor per cell of distance.
        padding: Cells of silence around the S-planes, so that windows may reach over their border.

    Shape:
        ``(batch, planes, height, width)``, not negative -> ``(batch, planes, *((sides + 2 padding - size) // stride +
        1))``, within 0 and 1.

    Raises:
        ValueError: A number out of range; on calling, planes smaller than the window.

    Differences from the paper:
        the paper thins C-planes out by reading the S-planes at chosen places, which a stride does too.

    Example:
        >>> import torch
        >>> planes = torch.zeros(1, 2, 3, 3)
        >>> planes[0, 0, 0, 0] = 9  # a feature in a corner is still seen
        >>> CCells(3)(planes).flatten().round(decimals=2)
        tensor([0.3900, 0.0000])
    """

    falling: Tensor

    def __init__(
        self, size: int, *, stride: int = 1, saturation: float = 0.5, fall: float = 0.9, padding: int = 0
    ) -> None:
        super().__init__()
        if size < 1 or stride < 1 or padding < 0:
            raise ValueError(
                f"CCells: size and stride must be at least 1 and padding >= 0, got {size}, {stride} and {padding}"
            )
        check_positive("CCells", "saturation", saturation)
        if not 0 < fall <= 1:
            raise ValueError(f"CCells: fall must be above 0 and at most 1, got {fall}")
        self.size, self.stride, self.saturation, self.padding = size, stride, saturation, padding
        self.register_buffer("falling", falling_weights(size, fall).to(torch.get_default_dtype())[None, None])  # d

    def forward(self, x: Float[Tensor, "batch planes height width"]) -> Float[Tensor, "batch planes down across"]:
        if min(x.shape[2:]) + 2 * self.padding < self.size:
            raise ValueError(f"CCells: a window of {self.size} is larger than the planes {tuple(x.shape[2:])}")
        batch, planes = x.shape[:2]
        spread = F.conv2d(x.flatten(0, 1)[:, None], self.falling, stride=self.stride, padding=self.padding)
        spread = spread.reshape(batch, planes, *spread.shape[2:])
        inhibition = spread.mean(1, keepdim=True)  # v_S
        net = ((spread - inhibition) / (1 + inhibition)).relu()
        return net / (self.saturation + net)


@dataclass(frozen=True)
class Stage:
    """One pair of an S- and a C-layer of a :class:`Neocognitron`."""

    planes: int
    """Features that the S-layer can learn."""
    window: int
    """Side of the S-cells' window."""
    pool: int
    """Side of the C-cells' window; 1 for a network without tolerance."""
    stride: int = 1
    """Step from C-cell to C-cell."""
    padding: int = 0
    """Silence around the S-planes that the C-cells see."""
    selectivity: float = 4.0
    """r of the S-cells."""
    speed: float = 1.0
    """q of the S-cells."""
    column: int = 5
    """Side of the S-columns."""


class Neocognitron(nn.Sequential):
    r"""S- and C-layers in turn, which organise themselves without a teacher.

    .. math:: u_0 \to u_{S1} \to u_{C1} \to u_{S2} \to u_{C2} \to \dots

    with the cells of :class:`SCells` and :class:`CCells`. Each stage takes features of the one before, in a wider part
    of the image and more tolerant of where exactly they are; the last stage's C-planes are its answer.

    Args:
        in_planes: Planes of the input, 1 for grey images.
        stages: Sizes, first to last.
        generator: For the initial weights.

    Shape:
        ``(batch, in_planes, height, width)``, not negative -> the last stage's C-cells.

    Raises:
        ValueError: No stage; else as the layers.

    Differences from the paper:
        learns layer by layer, each when those before it are done, where the paper lets all learn at once; any number
        of stages, where the paper has three of 24 planes.

    Example:
        >>> import torch
        >>> network = Neocognitron(1, [Stage(8, 5, 5), Stage(8, 5, 5, stride=2)], generator=torch.Generator())
        >>> network(torch.rand(3, 1, 19, 19)).shape
        torch.Size([3, 8, 2, 2])
    """

    def __init__(self, in_planes: int, stages: Sequence[Stage], *, generator: torch.Generator | None = None) -> None:
        if not stages:
            raise ValueError("Neocognitron: wants at least one stage, got none")
        layers: list[nn.Module] = []
        for stage in stages:
            layers += [
                SCells(
                    in_planes,
                    stage.planes,
                    stage.window,
                    selectivity=stage.selectivity,
                    speed=stage.speed,
                    column=stage.column,
                    generator=generator,
                ),
                CCells(stage.pool, stride=stage.stride, padding=stage.padding),
            ]
            in_planes = stage.planes
        super().__init__(*layers)

    @torch.no_grad()
    def learn(self, patterns: Float[Tensor, "batch planes height width"], *, passes: int = 1) -> list[int]:
        """Organise all layers by patterns without labels, layer by layer (in place); how many planes each has used.

        Args:
            patterns: In the order in which they are shown, (patterns, in_planes, height, width).
            passes: Times that all of them are shown to a layer.

        Raises:
            ValueError: ``passes`` below 1; else as the layers.
        """
        if passes < 1:
            raise ValueError(f"Neocognitron.learn: passes must be at least 1, got {passes}")
        used = []
        for layer in self:
            if isinstance(layer, SCells):
                for _ in range(passes):
                    for pattern in patterns[:, None]:  # (1, planes, height, width)
                        layer.reinforce(pattern)
                used.append(int((layer.inhibition > 0).sum()))
            patterns = layer(patterns)
        return used

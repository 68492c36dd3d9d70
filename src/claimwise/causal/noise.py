"""Exogenous noise of a structural causal model: P(u).

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, section 2: a model is a set of
functions and a probability P(u) over the background variables.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


class Noise(ABC):
    """One exogenous source: what it can be drawn from. Several variables may read one source."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Shaped[Tensor, "units *value"]:
        """``count`` independent draws on the generator's device."""


class Finite(Noise):
    r"""Noise with finitely many values, which exact enumeration needs.

    .. math:: P(U = v_k) = p_k, \quad k = 1, \dots, K

    A value may be a vector: two correlated coins are a source with values :math:`(0,0), (0,1), (1,0), (1,1)` of
    which one variable reads ``u[:, 0]`` and another ``u[:, 1]``.

    Args:
        values: :math:`v_k`, one per row; Python floats are kept in float64, integers in int64.
        probabilities: :math:`p_k`, non-negative, summing to 1.

    Shape:
        values ``(K, *value)``, probabilities ``(K,)``.

    Raises:
        ValueError: No value, shapes that differ, probabilities that are negative, not finite or do not sum to 1
            within 1e-6.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import Finite
        >>> Finite([-1, 0, 1], [0.25, 0.5, 0.25])
        Finite(values=[-1, 0, 1], probabilities=[0.25, 0.5, 0.25])
    """

    values: Shaped[Tensor, "values *value"]
    probabilities: Float[Tensor, "values"]

    def __init__(self, values: Any, probabilities: Any) -> None:
        self.values = _exact(values)
        self.probabilities = _exact(probabilities).to(torch.float64)
        if self.values.ndim == 0 or len(self.values) == 0:
            raise ValueError(f"Finite: values must have at least one row, got shape {tuple(self.values.shape)}")
        if self.probabilities.shape != (len(self.values),):
            raise ValueError(
                f"Finite: probabilities must be one per value, got {tuple(self.probabilities.shape)} for "
                f"{len(self.values)} values"
            )
        total = float(self.probabilities.sum())
        if not bool((self.probabilities >= 0).all()) or not abs(total - 1) <= 1e-6:
            raise ValueError(
                "Finite: probabilities must be >= 0 and sum to 1, got "
                f"{self.probabilities.tolist()} (sum {total:.6g}); divide them by their sum"
            )
        self.probabilities = self.probabilities / self.probabilities.sum()

    def __repr__(self) -> str:
        return f"Finite(values={self.values.tolist()}, probabilities={self.probabilities.tolist()})"

    def draw(self, count: int, generator: torch.Generator) -> Shaped[Tensor, "units *value"]:
        chances = self.probabilities.to(generator.device)
        chosen = torch.multinomial(chances, count, replacement=True, generator=generator)  # (units,)
        return self.values.to(generator.device)[chosen]


class Bernoulli(Finite):
    """Noise that is 1 with probability ``p`` and 0 otherwise (int64).

    Args:
        p: Probability of 1, in [0, 1].

    Raises:
        ValueError: ``p`` outside [0, 1].

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import Bernoulli
        >>> Bernoulli(0.25).probabilities.tolist()
        [0.75, 0.25]
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Bernoulli: p must lie in [0, 1], got {p}")
        super().__init__([0, 1], [1 - p, p])


class Normal(Noise):
    r"""Gaussian noise, one number or a vector with correlated parts.

    .. math:: U \sim \mathcal N(0, \sigma^2) \quad\text{or}\quad U \sim \mathcal N(0, \Sigma)

    Args:
        scale: Standard deviation :math:`\sigma` >= 0.
        covariance: :math:`\Sigma` instead, symmetric positive definite; the noise is then a vector and a variable
            reads its part as ``u[:, i]``.

    Shape:
        draws ``(units,)``, or ``(units, k)`` with a ``(k, k)`` covariance; float64.

    Raises:
        ValueError: A negative or non-finite scale, both arguments, or a matrix that is not positive definite.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from claimwise.causal import Normal
        >>> Normal(covariance=[[1.0, 0.5], [0.5, 1.0]]).draw(3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
    """

    def __init__(self, scale: float = 1.0, *, covariance: Any = None) -> None:
        if covariance is None:
            if not 0 <= scale < float("inf"):
                raise ValueError(f"Normal: scale must be a finite number >= 0, got {scale}")
            self.factor = torch.tensor(float(scale), dtype=torch.float64)
            return
        if scale != 1.0:
            raise ValueError(f"Normal: give scale or covariance, got both (scale {scale})")
        matrix = _exact(covariance).to(torch.float64)
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
        if square and torch.equal(matrix, matrix.T):
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not failed:
                self.factor = factor  # (k, k), lower triangular
                return
        raise ValueError(f"Normal: covariance must be symmetric and positive definite, got {matrix.tolist()}")

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "units *value"]:
        factor = self.factor.to(generator.device)
        shape = (count, *factor.shape[:1])
        standard = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
        return standard @ factor.T if factor.ndim else standard * factor


class Draws(Noise):
    """Noise from one's own sampler.

    Args:
        sampler: ``sampler(count, generator)`` returns ``count`` independent draws along the first dimension.

    Shape:
        draws ``(units, *value)``.

    Raises:
        ValueError: When drawing, if the sampler returns another number of rows.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> from claimwise.causal import Draws
        >>> uniform = Draws(lambda count, generator: torch.rand(count, generator=generator, dtype=torch.float64))
        >>> import torch
        >>> from claimwise.causal import Draws
        >>> uniform.draw(2, torch.Generator().manual_seed(0)).shape
        torch.Size([2])
    """

    def __init__(self, sampler: Callable[[int, torch.Generator], Tensor]) -> None:
        self.sampler = sampler

    def draw(self, count: int, generator: torch.Generator) -> Shaped[Tensor, "units *value"]:
        drawn = self.sampler(count, generator)
        if not isinstance(drawn, Tensor) or drawn.ndim == 0 or len(drawn) != count:
            got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
            raise ValueError(f"Draws: the sampler must return a tensor with {count} rows, got {got}")
        return drawn


def _exact(values: Any) -> Tensor:
    """``values`` as a tensor; Python floats in double precision, so that enumeration is exact to rounding."""
    if isinstance(values, Tensor):
        return values.detach()
    tensor = torch.as_tensor(values)
    return torch.as_tensor(values, dtype=torch.float64) if tensor.is_floating_point() else tensor

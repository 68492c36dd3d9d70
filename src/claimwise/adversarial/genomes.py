"""Populations of genomes: tensors, or named tuples of tensors, whose first dimension counts individuals.

What the encodings of A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled*, CVPR 2015,
https://arxiv.org/abs/1412.1897 have in common.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Genomes = Any  # a Tensor, or a NamedTuple of Tensors


@runtime_checkable
class Encoding(Protocol):
    """How genomes are made, changed and turned into images; what :class:`~claimwise.adversarial.MapElites` asks for.

    :class:`~claimwise.adversarial.DirectEncoding` and :class:`~claimwise.adversarial.CPPNEncoding` are two; an
    encoding of one's own needs these three methods and genomes that are tensors or named tuples of tensors.
    """

    def initial(self, count: int, *, generator: torch.Generator, device: torch.device | str | None = None) -> Genomes:
        """``count`` random genomes."""

    def offspring(self, first: Genomes, second: Genomes, *, generation: int, generator: torch.Generator) -> Genomes:
        """Two children of each pair of parents: 2 n genomes from n and n, those of pair i at i and n + i."""

    def render(self, genomes: Genomes) -> Tensor:
        """The genomes' images, (n, ...)."""


def take(genomes: Genomes, index: Tensor) -> Genomes:
    """The individuals that ``index`` names."""
    if isinstance(genomes, Tensor):
        return genomes[index]
    return type(genomes)(*(part[index] for part in genomes))


def join(first: Genomes, second: Genomes) -> Genomes:
    """Two populations as one."""
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    return type(first)(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


def count(genomes: Genomes) -> int:
    """How many individuals a population has."""
    return len(genomes if isinstance(genomes, Tensor) else genomes[0])


def uniform(shape: Sequence[int], generator: torch.Generator, device: torch.device | str | None) -> Tensor:
    """Draws from [0, 1), made where the generator lives and moved to ``device``: one seed, one stream, any device."""
    drawn = torch.rand(*shape, generator=generator, device=generator.device)
    return drawn if device is None else drawn.to(device)


def polynomial_step(r: Tensor, eta: float) -> Tensor:
    r"""Steps of Deb's polynomial mutation from uniform draws.

    .. math:: \delta(r) = (2 r)^{1 / (\eta + 1)} - 1 \text{ if } r < \tfrac12,
              \text{ else } 1 - (2 (1 - r))^{1 / (\eta + 1)}
    """
    # one power serves both halves: they mirror each other
    return (1 - (2 * torch.minimum(r, 1 - r)).pow(1 / (eta + 1))) * torch.where(r < 0.5, -1.0, 1.0)


def check_rate(name: str, rate: float, what: str) -> float:
    """Refuse a probability outside [0, 1]."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ValueError(f"{name}: {what} must be a probability in [0, 1], got {rate}")
    return float(rate)


def check_eta(name: str, eta: float, what: str) -> float:
    """Refuse a distribution index that is negative or not finite."""
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 0 <= eta < float("inf"):
        raise ValueError(f"{name}: {what} must be finite and >= 0 (large: small steps), got {eta}")
    return float(eta)


def check_count(name: str, number: int, what: str, least: int = 1) -> int:
    """Refuse a count below ``least``."""
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(f"{name}: {what} must be a whole number of at least {least}, got {number}")
    return number

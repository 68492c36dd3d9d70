"""Direct encoding: the genome of a fooling image is its pixels.

A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled: High Confidence Predictions for
Unrecognizable Images*, CVPR 2015, section 2.2, https://arxiv.org/abs/1412.1897. The operators are those of K. Deb,
*Multi-Objective Optimization using Evolutionary Algorithms*, 2001 (polynomial mutation p. 124, simulated binary
crossover p. 113), as the authors' code runs them (https://github.com/Evolving-AI-Lab/fooling, on Sferes2).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.adversarial.genomes import check_count, check_eta, check_rate, polynomial_step, uniform
from claimwise.adversarial.hsv import hsv_to_rgb


class DirectEncoding:
    r"""Genomes that are the pixels themselves, uniform at first, changed by polynomial mutation and SBX crossover.

    .. math:: x'_j = \operatorname{clip}_{[0, 1]} (x_j + \delta_j) \text{ with probability } p, \qquad
              \delta(r) = \begin{cases} (2 r)^{1 / (\eta_m + 1)} - 1 & r < \tfrac12 \\
                                        1 - (2 (1 - r))^{1 / (\eta_m + 1)} & \text{else} \end{cases}

    with :math:`x_j` a pixel, :math:`p` the mutation rate, :math:`r \sim U(0, 1)` and :math:`\eta_m` the distribution
    index: the larger, the smaller the steps (15: a mean step of 1/17 of the pixel range). Before mutation a pair of
    parents is crossed with probability ``crossover``, each pixel where they differ, :math:`a < b`, by

    .. math:: (c_1, c_2) = \tfrac12 (a + b \mp \beta_{1, 2} (b - a)), \qquad
              \beta_i = \begin{cases} (u \alpha_i)^{1 / (\eta_c + 1)} & u \le 1 / \alpha_i \\
                                      (2 - u \alpha_i)^{-1 / (\eta_c + 1)} & \text{else} \end{cases}, \qquad
              \alpha_i = 2 - \Bigl(1 + \frac{2 m_i}{b - a}\Bigr)^{-(\eta_c + 1)}

    with :math:`m_1 = a` and :math:`m_2 = 1 - b` the room to the box's ends, :math:`u \sim U(0, 1)` one draw for both;
    a coin says which child gets which.

    Args:
        shape: Shape of one image, in any number of dimensions; (3, height, width) with ``hsv``.
        mutation_rate: p.
        halve_every: Halve p after so many generations, again and again; None for a constant p.
        eta_mutation: :math:`\eta_m`.
        crossover: Probability that a pair of parents is crossed; 0 for none.
        eta_crossover: :math:`\eta_c`.
        hsv: The genes are hue, saturation and value, as the paper has them for ImageNet; images are RGB all the same.

    Shape:
        Genomes and images (n, \*shape), float32 in [0, 1].

    Raises:
        ValueError: A size below 1, a rate outside [0, 1], a negative index, ``halve_every`` below 1, ``hsv`` without
            three channels.

    Differences from the paper:
        Paper and authors' code differ, and both can be had. The paper halves p every 1000 generations and names no
        crossover: ``halve_every=1000, crossover=0.0``. The code holds p at .1 and crosses pairs with probability .5,
        :math:`\eta_c = 10`: the defaults. The code's crossover leaves a child's pixel unset where its parents agree;
        here the child gets the parents' value.

    Example:
        >>> encoding = DirectEncoding((1, 28, 28))
        >>> generator = torch.Generator().manual_seed(0)
        >>> parents = encoding.initial(4, generator=generator)
        >>> children = encoding.offspring(parents, parents.flip(0), generation=0, generator=generator)
        >>> encoding.render(children).shape
        torch.Size([8, 1, 28, 28])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        mutation_rate: float = 0.1,
        halve_every: int | None = None,
        eta_mutation: float = 15.0,
        crossover: float = 0.5,
        eta_crossover: float = 10.0,
        hsv: bool = False,
    ) -> None:
        self.shape = tuple(check_count("DirectEncoding", size, "sizes of shape") for size in shape)
        if not self.shape:
            raise ValueError("DirectEncoding: shape must have at least one dimension, got ()")
        if hsv and (len(self.shape) != 3 or self.shape[0] != 3):
            raise ValueError(f"DirectEncoding: hsv needs shape (3, height, width), got {self.shape}")
        self.mutation_rate = check_rate("DirectEncoding", mutation_rate, "mutation_rate")
        self.halve_every = (
            None if halve_every is None else check_count("DirectEncoding", halve_every, "halve_every (or None)")
        )
        self.eta_mutation = check_eta("DirectEncoding", eta_mutation, "eta_mutation")
        self.crossover = check_rate("DirectEncoding", crossover, "crossover")
        self.eta_crossover = check_eta("DirectEncoding", eta_crossover, "eta_crossover")
        self.hsv = hsv

    def rate(self, generation: int) -> float:
        """The mutation rate in a generation, counted from 0."""
        halvings = 0 if self.halve_every is None else generation // self.halve_every
        return self.mutation_rate / 2**halvings

    def initial(self, count: int, *, generator: torch.Generator, device: torch.device | str | None = None) -> Tensor:
        """``count`` images of uniform noise."""
        return uniform((check_count("DirectEncoding", count, "count"), *self.shape), generator, device)

    def offspring(
        self,
        first: Float[Tensor, "pairs *shape"],
        second: Float[Tensor, "pairs *shape"],
        *,
        generation: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Two children of each pair: crossed or copied, then mutated."""
        children = self.cross(first, second, generator=generator)
        return self.mutate(children, generation=generation, generator=generator)

    def cross(
        self, first: Float[Tensor, "pairs *shape"], second: Float[Tensor, "pairs *shape"], *, generator: torch.Generator
    ) -> Tensor:
        """Two children of each pair, (2 pairs, \\*shape), crossed with probability ``crossover``, else copies."""
        children = torch.cat([first, second])
        pairs, device = len(first), first.device
        crossed = (uniform((pairs,), generator, device) < self.crossover).nonzero().squeeze(1)
        if len(crossed):
            a, b = first[crossed], second[crossed]
            u, coin = uniform(a.shape, generator, device), uniform(a.shape, generator, device) < 0.5
            low, high = simulated_binary_crossover(a, b, u, self.eta_crossover)
            children[crossed] = torch.where(coin, low, high)
            children[pairs + crossed] = torch.where(coin, high, low)
        return children

    def mutate(self, genomes: Tensor, *, generation: int, generator: torch.Generator) -> Tensor:
        """Mutated genomes; changed in place where they lie in one piece of memory."""
        flat = genomes.reshape(-1)
        mutated = (uniform(flat.shape, generator, flat.device) < self.rate(generation)).nonzero().squeeze(1)
        step = polynomial_step(uniform(mutated.shape, generator, flat.device), self.eta_mutation)
        flat[mutated] = (flat[mutated] + step).clamp_(0, 1)
        return flat.reshape(genomes.shape)

    def render(self, genomes: Float[Tensor, "n *shape"]) -> Tensor:
        """The images; the genomes themselves but for ``hsv``."""
        if genomes.shape[1:] != self.shape:
            raise ValueError(f"DirectEncoding: genomes must have shape (n, *{self.shape}), got {tuple(genomes.shape)}")
        return hsv_to_rgb(genomes) if self.hsv else genomes


def simulated_binary_crossover(first: Tensor, second: Tensor, u: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The lower and the higher child, gene by gene, in [0, 1]; the formula stands in :class:`DirectEncoding`."""
    a, b = torch.minimum(first, second), torch.maximum(first, second)
    gap = b - a
    alike = gap <= torch.finfo(gap.dtype).eps
    power = 1 / (eta + 1)
    children = []
    for room, sign in ((a, -1.0), (1 - b, 1.0)):
        alpha = 2 - (1 + 2 * room / gap.masked_fill(alike, 1)).pow(-(eta + 1))
        scaled = u * alpha
        spread = torch.where(scaled <= 1, scaled, 1 / (2 - scaled)).pow(power)
        child = (0.5 * (a + b + sign * spread * gap)).clamp_(0, 1)
        children.append(torch.where(alike, first if sign < 0 else second, child))
    return children[0], children[1]

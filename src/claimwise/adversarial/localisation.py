"""How localised a filter is: Hoyer's measure of sparsity.

P. Hoyer, *Non-negative Matrix Factorization with Sparseness Constraints*, JMLR 2004, section 3.1,
https://www.jmlr.org/papers/v5/hoyer04a.html; here it puts a number on figure 3 of *Explaining and Harnessing
Adversarial Examples* (https://arxiv.org/abs/1412.6572), where adversarially trained filters look more localised.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def hoyer_sparsity(filters: Float[Tensor, "filters *shape"]) -> Float[Tensor, " filters"]:
    r"""Sparsity of each filter: 0 where all weights have one size, 1 where a single weight is not zero.

    .. math:: s(w) = \frac{\sqrt n - \lVert w \rVert_1 / \lVert w \rVert_2}{\sqrt n - 1}

    with :math:`n` the weights of a filter. It does not depend on the filter's scale.

    Args:
        filters: One filter a row, for instance the weight of an ``nn.Linear``, ``nn.Conv2d`` or
            :class:`~claimwise.adversarial.Maxout`.

    Shape:
        ``filters`` (filters, \*), result (filters,).

    Raises:
        ValueError: Fewer than two weights a filter, values not finite, a filter of zeros.

    Differences from the paper:
        Goodfellow et al. show pictures and give no number; this is one that the pictures suggest.

    Example:
        >>> hoyer_sparsity(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0]]))
        tensor([0., 1.])
    """
    flat = filters.flatten(1)  # (filters, weights)
    size = flat.shape[1]
    if size < 2:
        raise ValueError(f"hoyer_sparsity: a filter must have at least 2 weights, got shape {tuple(filters.shape)}")
    if not bool(flat.isfinite().all()):
        raise ValueError("hoyer_sparsity: filters must be finite, got NaN or infinite weights")
    euclidean = torch.linalg.vector_norm(flat, dim=1)
    if not bool((euclidean > 0).all()):
        dead = int((euclidean == 0).sum())
        raise ValueError(f"hoyer_sparsity: {dead} of {len(flat)} filters are all zero, whose sparsity is undefined")
    return (math.sqrt(size) - flat.abs().sum(1) / euclidean) / (math.sqrt(size) - 1)

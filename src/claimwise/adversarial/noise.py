"""Noise of the same size as an attack: the control that shows that direction matters, not size.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 6,
https://arxiv.org/abs/1412.6572
"""

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.doors import Bounds, Epsilon, check_batch, check_epsilon


def sign_noise(
    x: Float[Tensor, "batch *shape"],
    *,
    epsilon: Epsilon,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch *shape"]:
    r"""Add epsilon or take it away, entry by entry, at the toss of a coin: as far as FGSM goes, in no direction.

    .. math:: \tilde x = x + \epsilon s, \qquad s_i \in \{-1, 1\} \text{ with probability } \tfrac12 \text{ each}

    Args:
        x: Inputs.
        epsilon: Size in the units of ``x``: a number, or one an example.
        bounds: Range to clip to; None for no clipping.
        generator: Source of the coins; the global one by default. May live on another device than ``x``.

    Shape:
        ``x`` and the result (batch, \*).

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: Negative epsilon, ``x`` not finite or outside ``bounds``.

    Differences from the paper:
        The paper does not clip: ``bounds=None``.

    Example:
        >>> import torch
        >>> sign_noise(torch.full((1, 4), 0.5), epsilon=0.25, generator=torch.Generator().manual_seed(0)).unique()
        tensor([0.2500, 0.7500])
    """
    check_batch("sign_noise", x, bounds)
    radius = check_epsilon("sign_noise", epsilon, x)
    device = x.device if generator is None else generator.device
    coins = torch.randint(2, x.shape, generator=generator, device=device).to(x.device, x.dtype)
    return _clip(torch.add(x, coins.mul_(2).sub_(1).mul_(radius)), bounds)


def uniform_noise(
    x: Float[Tensor, "batch *shape"],
    *,
    epsilon: Epsilon,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch *shape"]:
    r"""Add noise uniform in the max-norm ball that FGSM walks to the corner of.

    .. math:: \tilde x = x + u, \qquad u_i \sim U(-\epsilon, \epsilon)

    Args:
        x: As in :func:`sign_noise`.
        epsilon: As in :func:`sign_noise`.
        bounds: As in :func:`sign_noise`.
        generator: As in :func:`sign_noise`.

    Shape:
        ``x`` and the result (batch, \*).

    Raises:
        TypeError: As :func:`sign_noise`.
        ValueError: As :func:`sign_noise`.

    Differences from the paper:
        The paper does not clip: ``bounds=None``.

    Example:
        >>> import torch
        >>> noisy = uniform_noise(torch.full((1, 4), 0.5), epsilon=0.25, generator=torch.Generator().manual_seed(0))
        >>> bool(((noisy - 0.5).abs() <= 0.25).all())
        True
    """
    check_batch("uniform_noise", x, bounds)
    radius = check_epsilon("uniform_noise", epsilon, x)
    device = x.device if generator is None else generator.device
    uniform = torch.rand(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    return _clip(torch.add(x, uniform.mul_(2).sub_(1).mul_(radius)), bounds)


def _clip(x: Tensor, bounds: Bounds) -> Tensor:
    return x if bounds is None else x.clamp(*bounds)

"""The exact worst case of a linear model within a max-norm ball, and the adversarial logistic loss.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, sections 3 and 5,
https://arxiv.org/abs/1412.6572
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.doors import Epsilon, check_batch, check_epsilon, check_labels


class LinearWorstCase(NamedTuple):
    """What :func:`linear_worst_case` returns."""

    x_adv: Float[Tensor, "batch features"]
    """The worst input of the ball."""
    margin: Float[Tensor, " batch"]
    """Margin there: below zero the model errs, and above zero no perturbation of the ball makes it err."""
    rival: Int[Tensor, " batch"]
    """The class that comes closest to (or furthest above) the label; for a binary model the other label."""


def linear_worst_case(
    weight: Tensor,
    bias: float | Tensor,
    x: Float[Tensor, "batch features"],
    y: Int[Tensor, " batch"],
    *,
    epsilon: Epsilon,
) -> LinearWorstCase:
    r"""The perturbation of max-norm epsilon that hurts a linear model most, in closed form.

    Binary, labels in {-1, 1}, score :math:`w^\top x + b`:

    .. math:: \tilde x = x - \epsilon\, y \operatorname{sign}(w), \qquad
              m = y (w^\top x + b) - \epsilon \lVert w \rVert_1

    Many classes, rows :math:`w_k` of the weight, label :math:`y`: against each rival :math:`k \ne y`

    .. math:: m_k = (w_y - w_k)^\top x + b_y - b_k - \epsilon \lVert w_y - w_k \rVert_1

    and the worst is that of the smallest: :math:`\tilde x = x - \epsilon \operatorname{sign}(w_y - w_{k^*})`. The
    error on all the ball is exactly the share of :math:`m < 0`. For two classes this is what
    :func:`~claimwise.adversarial.fgsm` finds; for more, FGSM follows the average rival and can do less.

    Args:
        weight: (features,) for a binary model, (classes, features) for many classes, as in ``nn.Linear``.
        bias: A number or 0-d tensor, or one number a class.
        x: Inputs.
        y: Labels: -1 and 1 for a binary model, class numbers otherwise.
        epsilon: Max-norm radius in the units of ``x``: a number, or one an example. There is no clipping: with it the
            closed form does not hold.

    Shape:
        ``x`` and ``x_adv`` (batch, features); ``y``, ``margin`` and ``rival`` (batch,).

    Raises:
        TypeError: Inputs not floating point, labels not integer.
        ValueError: Negative epsilon, shapes that do not fit, labels other than those named, fewer than two classes.

    Differences from the paper:
        The paper has the binary case only.

    Example:
        >>> import torch
        >>> weight, x = torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 1.0]])
        >>> worst = linear_worst_case(weight, 0.0, x, torch.tensor([1]), epsilon=0.5)
        >>> worst.x_adv.tolist(), worst.margin.tolist()
        ([[0.5, 1.5]], [-0.5])
    """
    name = "linear_worst_case"
    radius = _check(name, weight, bias, x, y, epsilon)
    flat = radius.reshape(-1) if isinstance(radius, Tensor) else radius
    if weight.ndim == 1:
        sign = y.to(x.dtype)
        margin = sign * (x @ weight + bias) - flat * weight.abs().sum()
        x_adv = x - radius * sign.unsqueeze(1) * weight.sign()
        return LinearWorstCase(x_adv, margin, -y)
    scores = x @ weight.T + bias  # (batch, classes)
    reach = torch.cdist(weight, weight, p=1)  # (classes, classes): L1 norms of the differences of rows
    own = y.long().unsqueeze(1)
    margins = scores.gather(1, own) - scores - radius * reach[y]  # (batch, classes)
    margin, rival = margins.scatter(1, own, float("inf")).min(dim=1)
    return LinearWorstCase(x - radius * (weight[y] - weight[rival]).sign(), margin, rival)


def adversarial_logistic_loss(
    weight: Float[Tensor, " features"],
    bias: float | Tensor,
    x: Float[Tensor, "batch features"],
    y: Int[Tensor, " batch"],
    *,
    epsilon: Epsilon,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Float[Tensor, "*batch"]:
    r"""Logistic regression trained on its own worst case, in closed form: no attack is run.

    .. math:: \mathbb E\, \zeta\!\left(\epsilon \lVert w \rVert_1 - y (w^\top x + b)\right), \qquad
              \zeta(z) = \log(1 + e^z)

    for labels :math:`y \in \{-1, 1\}`. Against weight decay, the L1 norm here is *subtracted from the margin inside*
    :math:`\zeta`: once the margin is wide the loss is flat and the penalty switches itself off, while
    :math:`\lambda \lVert w \rVert_1` added outside goes on.

    Args:
        weight: w; gradients flow to it.
        bias: b, a number or 0-d tensor.
        x: Inputs.
        y: Labels, -1 or 1.
        epsilon: Max-norm radius in the units of ``x``.
        reduction: Over the batch.

    Shape:
        ``x`` (batch, features), ``y`` (batch,), result () or, for ``"none"``, (batch,).

    Raises:
        TypeError: As :func:`linear_worst_case`.
        ValueError: As :func:`linear_worst_case`; an unknown reduction.

    Differences from the paper:
        The paper prints :math:`\zeta(y(\epsilon\lVert w\rVert_1 - w^\top x - b))`. For :math:`y = -1` that *lowers* the
        loss by the perturbation, so it is not a worst case; the form above is, and equals the printed one for
        :math:`y = 1`.

    Example:
        >>> import torch
        >>> weight, x = torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 1.0]])
        >>> round(adversarial_logistic_loss(weight, 0.0, x, torch.tensor([1]), epsilon=0.5).item(), 4)
        0.9741
    """
    name = "adversarial_logistic_loss"
    radius = _check(name, weight, bias, x, y, epsilon)
    if weight.ndim != 1:
        raise ValueError(f"{name}: weight must have shape (features,), got {tuple(weight.shape)}")
    flat = radius.reshape(-1) if isinstance(radius, Tensor) else radius
    losses = F.softplus(flat * weight.abs().sum() - y.to(x.dtype) * (x @ weight + bias))
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean()
    raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _check(name: str, weight: Tensor, bias: float | Tensor, x: Tensor, y: Tensor, epsilon: Epsilon) -> float | Tensor:
    check_batch(name, x, None)
    if x.ndim != 2:
        raise ValueError(f"{name}: x must be (batch, features), got shape {tuple(x.shape)}; use x.flatten(1)")
    if weight.ndim not in (1, 2) or weight.shape[-1] != x.shape[1]:
        raise ValueError(
            f"{name}: weight must have shape ({x.shape[1]},) or (classes, {x.shape[1]}), got {tuple(weight.shape)}"
        )
    if weight.ndim == 2 and len(weight) < 2:
        raise ValueError(
            f"{name}: weight has one row, no rival class; for a binary model give weight[0] and labels -1 and 1"
        )
    if isinstance(bias, Tensor) and bias.shape not in ((), weight.shape[:-1]):
        raise ValueError(
            f"{name}: bias must be a number or have shape {tuple(weight.shape[:-1])}, got {tuple(bias.shape)}"
        )
    if weight.ndim == 2:
        check_labels(name, y, len(x), len(weight))
    else:
        check_labels(name, y, len(x))
        if not bool(((y == 1) | (y == -1)).all()):
            raise ValueError(
                f"{name}: labels of a binary model must be -1 or 1, got {sorted(set(y.tolist()))[:5]}; use 2 * y - 1"
            )
    return check_epsilon(name, epsilon, x)

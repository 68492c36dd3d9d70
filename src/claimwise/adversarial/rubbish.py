"""Rubbish-class inputs: a model should call noise nothing, and most call it something.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, appendix A,
https://arxiv.org/abs/1412.6572
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from claimwise.adversarial.fast_gradient_sign import Loss, fgsm
from claimwise.adversarial.mistakes import softmax
from claimwise.doors import Epsilon, check_batch, check_logits
from claimwise.undisturbed import Mode, undisturbed


def rubbish(
    count: int,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "count *shape"]:
    r"""Inputs that belong to no class.

    .. math:: x \sim \mathcal N(0, I)

    Args:
        count: How many.
        shape: Shape of one example.
        generator: Source of the draws; the global one by default.
        dtype: Type of the result.
        device: Where the result lies; the draws are made where the generator lives.

    Shape:
        Result (count, \*shape).

    Raises:
        ValueError: A size below 1.

    Differences from the paper:
        none.

    Example:
        >>> rubbish(3, (1, 28, 28), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 28, 28])
    """
    if count < 1 or any(size < 1 for size in shape):
        raise ValueError(f"rubbish: sizes must be at least 1, got count {count} and shape {tuple(shape)}")
    origin = device if generator is None else generator.device
    return torch.randn(count, *shape, generator=generator, dtype=dtype, device=origin).to(device or origin)


@dataclass(frozen=True, eq=False)
class RubbishError:
    """What :func:`rubbish_error` returns."""

    count: int
    """Inputs that the model takes for something."""
    total: int
    confidence: float
    """Mean of the largest probability over those inputs; NaN where there is none."""
    accepted: Bool[Tensor, " batch"]

    @property
    def error(self) -> float:
        """Share of inputs that the model takes for something."""
        return self.count / self.total


def rubbish_error(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    *,
    probabilities: Callable[[Tensor], Tensor] = softmax,
    threshold: float = 0.5,
    mode: Mode = "eval",
) -> RubbishError:
    r"""How often a model assigns a class to inputs that have none.

    .. math:: \text{error} = \frac1n \sum_i [\max_k p(y_k \mid x_i) > t]

    with :math:`t` the threshold.

    Args:
        model: Any module or callable that returns logits; left as it was.
        x: Inputs without a class, for instance :func:`rubbish`.
        probabilities: From logits to probabilities: softmax, ``torch.sigmoid`` for independent outputs, ``torch.exp``
            for an :class:`~claimwise.adversarial.RBFClassifier`.
        threshold: A class counts as assigned above it.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (batch, \*), the model's output (batch, classes).

    Raises:
        TypeError: ``x`` not floating point.
        ValueError: ``x`` empty or not finite, a threshold outside [0, 1), NaN among the probabilities.

    Differences from the paper:
        none.

    Example:
        >>> x = torch.zeros(4, 2)
        >>> rubbish_error(lambda x: x, x).error, rubbish_error(lambda x: x, x, threshold=0.4).error
        (0.0, 1.0)
    """
    check_batch("rubbish_error", x, None)
    if not 0 <= threshold < 1:
        raise ValueError(f"rubbish_error: threshold must be in [0, 1), got {threshold}")
    if len(x) == 0:
        raise ValueError("rubbish_error: no inputs, so no error rate; give at least one")
    with undisturbed(model, mode), torch.no_grad():
        logits = model(x)
    check_logits("rubbish_error", logits, len(x))
    largest = probabilities(logits).amax(1)
    if bool(largest.isnan().any()):
        raise ValueError("rubbish_error: the model's probabilities contain NaN; a model that has diverged has no error")
    accepted = largest > threshold
    confidence = float(largest[accepted].double().mean()) if bool(accepted.any()) else float("nan")
    return RubbishError(int(accepted.sum()), len(x), confidence, accepted)


def fooling_images(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    target: int,
    *,
    epsilon: Epsilon,
    loss: Loss | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *shape"]:
    r"""One signed gradient step from rubbish towards a class: :func:`~claimwise.adversarial.fgsm`, targeted, unclipped.

    .. math:: \tilde x = x + \epsilon \operatorname{sign}(\nabla_x \log p(y = t \mid x))

    with :math:`t` the class.

    Args:
        model: Any module or callable that returns logits; left as it was.
        x: Inputs without a class, for instance :func:`rubbish`.
        target: t, the number of the class the images shall be taken for.
        epsilon: Max-norm radius.
        loss: As in :func:`~claimwise.adversarial.fgsm`.
        mode: As in :func:`~claimwise.adversarial.fgsm`.

    Shape:
        ``x`` and the result (batch, \*).

    Raises:
        TypeError: As :func:`~claimwise.adversarial.fgsm`.
        ValueError: As :func:`~claimwise.adversarial.fgsm`.

    Differences from the paper:
        The paper differentiates :math:`p`, this its logarithm: the sign is the same.

    Example:
        >>> fooling_images(lambda x: x, torch.zeros(1, 3), 1, epsilon=0.5)
        tensor([[-0.5000,  0.5000, -0.5000]])
    """
    labels = torch.full((len(x),), target, device=x.device)
    return fgsm(model, x, labels, epsilon=epsilon, bounds=None, targeted=True, loss=loss, mode=mode)

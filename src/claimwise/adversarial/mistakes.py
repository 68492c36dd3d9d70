"""Error, and confidence in error, as the paper counts them.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 4,
https://arxiv.org/abs/1412.6572
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimwise.doors import check_labels, check_logits


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of exclusive classes, the reading of logits that everything here uses by default."""
    return logits.softmax(-1)


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What :func:`mistakes` returns."""

    count: int
    """Examples the model gets wrong."""
    total: int
    """All examples."""
    confidence: float
    """Mean probability of the predicted class over the wrong ones; NaN where there is none."""
    confidence_when_right: float
    """Mean probability of the predicted class over the right ones; NaN where there is none."""
    prediction: Int[Tensor, " batch"]
    wrong: Bool[Tensor, " batch"]

    @property
    def error(self) -> float:
        """Share of wrong examples among *all*."""
        return self.count / self.total


def mistakes(
    logits: Float[Tensor, "batch classes"],
    y: Int[Tensor, " batch"],
    *,
    probabilities: Callable[[Tensor], Tensor] = softmax,
) -> Mistakes:
    r"""Which examples a model gets wrong, and how sure of itself it is there.

    .. math:: \text{error} = \frac1n \sum_i [\hat y_i \ne y_i], \qquad
              \text{confidence} = \operatorname{mean}_{i : \hat y_i \ne y_i} p(\hat y_i \mid x_i)

    with :math:`\hat y_i` the class of the largest logit. The error is over all examples, also those that are wrong
    without an attack.

    Args:
        logits: The model's outputs.
        y: Class numbers.
        probabilities: From logits to probabilities: softmax, ``torch.sigmoid`` for independent outputs, ``torch.exp``
            for an :class:`~claimwise.adversarial.RBFClassifier`.

    Shape:
        ``logits`` (batch, classes), ``y`` (batch,).

    Raises:
        TypeError: Labels not integer.
        ValueError: No examples, labels out of range, NaN among the logits.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> found = mistakes(torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log(), torch.tensor([0, 1]))
        >>> found.count, found.total, round(found.confidence, 4)
        (1, 2, 0.8)
    """
    check_logits("mistakes", logits, len(logits))
    check_labels("mistakes", y, len(logits), logits.shape[1])
    if len(logits) == 0:
        raise ValueError("mistakes: no examples, so no error rate; give at least one")
    if bool(logits.isnan().any()):
        raise ValueError("mistakes: logits contain NaN; a model that has diverged has no error rate")
    logits = logits.detach()
    prediction = logits.argmax(1)
    wrong = prediction != y
    confidence = probabilities(logits).gather(1, prediction.unsqueeze(1)).squeeze(1)
    count = int(wrong.sum())
    return Mistakes(count, len(y), _mean(confidence[wrong]), _mean(confidence[~wrong]), prediction, wrong)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else float("nan")

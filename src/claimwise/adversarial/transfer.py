"""Do one model's adversarial examples fool another, and into the same mistake?

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, sections 6 and 8,
https://arxiv.org/abs/1412.6572
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimwise.adversarial.mistakes import mistakes, softmax
from claimwise.doors import check_batch, check_labels
from claimwise.undisturbed import Mode, undisturbed

Model = Callable[[Tensor], Tensor]
Attack = Callable[[Model, Tensor, Tensor], Tensor]
Probabilities = Callable[[Tensor], Tensor]
F = TypeVar("F", bound=Callable[..., Tensor])


class Agreement(NamedTuple):
    """What :func:`agreement_on_mistakes` returns; NaN where nothing is conditioned on."""

    when_first_wrong: float
    """Share of the same class among the examples that the first model gets wrong."""
    when_both_wrong: float
    """Share of the same class among the examples that both get wrong."""


def agreement_on_mistakes(
    first: Int[Tensor, " batch"], second: Int[Tensor, " batch"], y: Int[Tensor, " batch"]
) -> Agreement:
    r"""How often a second model makes a first model's mistake: the same *wrong* class.

    .. math:: P(\hat y_2 = \hat y_1 \mid \hat y_1 \ne y), \qquad
              P(\hat y_2 = \hat y_1 \mid \hat y_1 \ne y, \hat y_2 \ne y)

    with :math:`\hat y_1, \hat y_2` the models' classes. The first falls when the second model is merely more often
    right, so the paper gives both.

    Args:
        first: Classes that the first model predicts.
        second: Classes that the second model predicts.
        y: True classes.

    Shape:
        All (batch,).

    Raises:
        ValueError: Shapes that differ.

    Differences from the paper:
        none.

    Example:
        >>> agreement_on_mistakes(torch.tensor([1, 1, 2]), torch.tensor([1, 0, 1]), torch.tensor([0, 0, 0]))
        Agreement(when_first_wrong=0.3333333333333333, when_both_wrong=0.5)
    """
    if not first.shape == second.shape == y.shape:
        raise ValueError(
            f"agreement_on_mistakes: shapes must be equal, got {tuple(first.shape)}, {tuple(second.shape)} and "
            f"{tuple(y.shape)}"
        )
    first_wrong = first != y
    same = (first == second) & first_wrong
    # Where the classes are the same and one is wrong, so is the other.
    return Agreement(_share(same, first_wrong), _share(same, first_wrong & (second != y)))


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """What :func:`transfer_matrix` returns: rows are the models attacked, columns the models that see the examples."""

    names: tuple[str, ...]
    error: Float[Tensor, "models models"]
    """Share of all examples that the column's model gets wrong on the row's adversarial examples."""
    confidence: Float[Tensor, "models models"]
    """Its mean confidence in those mistakes."""
    agreement: Float[Tensor, "models models"]
    """Share of the row's model's mistakes that the column's model makes too, the same class."""
    agreement_when_both_wrong: Float[Tensor, "models models"]
    """The same among the examples that both get wrong."""
    clean_error: Float[Tensor, " models"]
    prediction: Int[Tensor, "models models batch"]
    """Class that the column's model gives to each of the row's examples."""


def transfer_matrix(
    models: Mapping[str, Model],
    x: Float[Tensor, "batch *shape"],
    y: Int[Tensor, " batch"],
    *,
    attack: Attack | Mapping[str, Attack],
    probabilities: Probabilities | Mapping[str, Probabilities] = softmax,
    mode: Mode = "eval",
) -> TransferMatrix:
    r"""Attack each model, and show its adversarial examples to every model.

    .. math:: E_{st} = \frac1n \sum_i [f_t(a_s(x_i, y_i)) \ne y_i]

    with :math:`a_s` the attack on the source :math:`s` and :math:`f_t` the target's class; beside it confidence and
    agreement (:func:`agreement_on_mistakes`, the source first).

    Args:
        models: Modules or callables by name; each is left as it was.
        x: Inputs.
        y: Class numbers.
        attack: ``attack(model, x, y) -> x_adv``, for instance
            ``functools.partial(fgsm, epsilon=0.25, bounds=None)``; one for all models, or one each by name.
        probabilities: From logits to probabilities, for the confidences: one for all, or one each by name.
        mode: Mode in which the targets *predict*; the attack has its own.

    Shape:
        ``x`` (batch, \*), ``y`` (batch,), models' outputs (batch, classes).

    Raises:
        TypeError: ``x`` not floating point, labels not integer.
        ValueError: No models, no examples, an attack or probabilities missing for a name, an attack that changes the
            shape.

    Differences from the paper:
        The paper reports single entries.

    Example:
        >>> from functools import partial
        >>> from claimwise.adversarial import fgsm
        >>> models = {"a": lambda x: x, "b": lambda x: 3 * x - 1}
        >>> x, y = torch.tensor([[0.6, 0.4], [0.1, 0.9]]), torch.tensor([0, 1])
        >>> transfer_matrix(models, x, y, attack=partial(fgsm, epsilon=0.2)).error
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    check_batch("transfer_matrix", x, None)
    check_labels("transfer_matrix", y, len(x))
    if not models or len(x) == 0:
        raise ValueError(f"transfer_matrix: needs models and examples, got {len(models)} models, {len(x)} examples")
    names = tuple(models)
    attacks = _one_each("attack", attack, names)
    readings = _one_each("probabilities", probabilities, names)

    def logits(name: str, inputs: Tensor) -> Tensor:
        with undisturbed(models[name], mode), torch.no_grad():
            return models[name](inputs)

    clean = [mistakes(logits(name, x), y).error for name in names]
    error, confidence, agreement, agreement_both = (torch.empty(len(names), len(names)) for _ in range(4))
    prediction = torch.empty(len(names), len(names), len(x), dtype=torch.long, device=x.device)
    for s, source in enumerate(names):
        x_adv = attacks[source](models[source], x, y)
        if x_adv.shape != x.shape:
            raise ValueError(
                f"transfer_matrix: the attack on {source!r} must keep the shape {tuple(x.shape)}, "
                f"got {tuple(x_adv.shape)}"
            )
        for t, target in enumerate(names):
            found = mistakes(logits(target, x_adv), y, probabilities=readings[target])
            error[s, t], confidence[s, t] = found.error, found.confidence
            prediction[s, t] = found.prediction
        for t in range(len(names)):
            agreement[s, t], agreement_both[s, t] = agreement_on_mistakes(prediction[s, s], prediction[s, t], y)
    return TransferMatrix(names, error, confidence, agreement, agreement_both, torch.tensor(clean), prediction)


def _one_each(what: str, given: F | Mapping[str, F], names: tuple[str, ...]) -> Mapping[str, F]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"transfer_matrix: {what} missing for {', '.join(missing)}; give one for every model")
    return given


def _share(part: Tensor, whole: Tensor) -> float:
    count = int(whole.sum())
    return int(part.sum()) / count if count else float("nan")

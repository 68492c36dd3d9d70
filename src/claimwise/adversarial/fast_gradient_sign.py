"""The fast gradient sign method.

I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015, section 4,
https://arxiv.org/abs/1412.6572
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from claimwise.doors import Bounds, Epsilon, check_batch, check_epsilon, check_labels, check_logits
from claimwise.undisturbed import Mode, undisturbed

Loss = Callable[[Tensor, Tensor], Tensor]


def fgsm(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    y: Tensor,
    *,
    epsilon: Epsilon,
    bounds: Bounds = (0.0, 1.0),
    targeted: bool = False,
    loss: Loss | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *shape"]:
    r"""Adversarial examples by one signed gradient step: the worst perturbation of max-norm epsilon for the model's
    linearisation.

    .. math:: \tilde x = x + \epsilon \operatorname{sign}(\nabla_x J(\theta, x, y))

    with :math:`x` the inputs, :math:`y` their labels, :math:`\theta` the model's parameters, :math:`J` the loss and
    :math:`\epsilon` the radius. ``targeted`` steps the other way, towards the labels given. Where the gradient is
    exactly zero the input stays: :math:`\operatorname{sign}(0) = 0`.

    Args:
        model: Any module or callable that returns logits. It is run in eval mode and left as it was: modes, buffers,
            ``requires_grad`` and the parameters' ``.grad``, also after an exception.
        x: Inputs, floating point, on any device; not changed.
        y: True labels, or target labels if ``targeted``; whatever ``loss`` takes if one is given.
        epsilon: Max-norm radius in the units of ``x`` (0.25 is a quarter of the pixel range for pixels in [0, 1]):
            a number, or one an example.
        bounds: Range to clip the result to, which ``x`` must lie in; None for no clipping.
        targeted: Step towards ``y`` rather than away.
        loss: ``loss(model(x), y)``, a scalar or one value an example (which are added up). By default cross-entropy.
            Examples must not influence each other's loss except through the model.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        ``x`` and the result (batch, \*), ``y`` (batch,), the model's output (batch, classes) or what ``loss`` takes.

    Raises:
        TypeError: ``x`` not floating point, labels not integer.
        ValueError: epsilon negative, not finite or of another length than the batch; ``x`` not finite, outside
            ``bounds`` or without a batch dimension; labels out of range; an output that is not (batch, classes) or
            does not depend on ``x``; a gradient with NaN.

    Differences from the paper:
        The paper does not clip; its figures need ``bounds=None``. Clipping is the default here because pixels outside
        [0, 1] are no picture.

    Example:
        >>> import torch
        >>> model = lambda x: x @ torch.tensor([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]])
        >>> fgsm(model, torch.full((1, 3), 0.5), torch.tensor([0]), epsilon=0.25)
        tensor([[0.2500, 0.2500, 0.5000]])
    """
    radius = check_epsilon("fgsm", epsilon, x) if isinstance(x, Tensor) else 0.0
    direction = _direction("fgsm", model, x, y, bounds, targeted, loss, mode)
    if isinstance(radius, Tensor):
        adversarial = direction.mul_(radius).add_(x.detach())
    else:
        adversarial = torch.add(x.detach(), direction, alpha=radius)
    return adversarial if bounds is None else adversarial.clamp_(*bounds)


def fgsm_direction(
    model: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    y: Tensor,
    *,
    targeted: bool = False,
    loss: Loss | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *shape"]:
    r"""The direction in which :func:`fgsm` steps, for one gradient however many radii follow.

    .. math:: \eta = \operatorname{sign}(\nabla_x J(\theta, x, y)), \qquad \tilde x(\epsilon) = x + \epsilon \eta

    with the symbols of :func:`fgsm`; :func:`~claimwise.adversarial.logits_along` follows it.

    Args:
        model: As in :func:`fgsm`.
        x: As in :func:`fgsm`.
        y: As in :func:`fgsm`.
        targeted: As in :func:`fgsm`; the direction is then :math:`-\eta`.
        loss: As in :func:`fgsm`.
        mode: As in :func:`fgsm`.

    Shape:
        As in :func:`fgsm`; entries are -1, 0 or 1.

    Raises:
        TypeError: As :func:`fgsm`.
        ValueError: As :func:`fgsm`.

    Differences from the paper:
        none.

    Example:
        >>> import torch
        >>> model = lambda x: x @ torch.tensor([[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]])
        >>> fgsm_direction(model, torch.full((1, 3), 0.5), torch.tensor([0])).tolist()
        [[-1.0, -1.0, 0.0]]
    """
    return _direction("fgsm_direction", model, x, y, None, targeted, loss, mode)


def _direction(
    name: str,
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    bounds: Bounds,
    targeted: bool,
    loss: Loss | None,
    mode: Mode,
) -> Tensor:
    check_batch(name, x, bounds)
    if loss is None:
        check_labels(name, y, len(x))
    if x.numel() == 0:
        return torch.zeros_like(x)
    with undisturbed(model, mode), torch.inference_mode(False), torch.enable_grad():
        # A tensor of its own: the caller's graph and x.grad are not touched, nor is a model that writes on its input.
        inputs = x.detach().clone().requires_grad_()
        if isinstance(y, Tensor) and y.is_inference():
            y = y.clone()  # autograd may save it
        outputs = model(inputs)
        if loss is None:
            check_logits(name, outputs, len(x))
            check_labels(name, y, len(x), outputs.shape[1])
            # The sum, not the mean: an example's gradient does not depend on how many stand beside it.
            objective = F.cross_entropy(outputs, y.long(), reduction="sum")
        else:
            objective = loss(outputs, y).sum()
        if not objective.requires_grad:
            raise ValueError(
                f"{name}: the loss does not depend on x; does the model detach its input or run under torch.no_grad()?"
            )
        (gradient,) = torch.autograd.grad(objective, inputs, allow_unused=True)
    if gradient is None:
        raise ValueError(f"{name}: the loss does not depend on x; does the model detach or copy its input?")
    if math.isnan(float(gradient.aminmax().max)):  # a tenth of the time of isnan().any()
        broken = int(gradient.isnan().flatten(1).any(1).sum())
        raise ValueError(
            f"{name}: the gradient is NaN for {broken} of {len(x)} examples; does the model return finite logits there?"
        )
    direction = gradient.sign()
    return direction.neg_() if targeted else direction

"""Gradient ascent to a class: fooling images without evolution.

A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled*, CVPR 2015, section 3.7 and figure 13,
https://arxiv.org/abs/1412.1897; the step policy and the order of decay and clipping are those of the authors' code
(https://github.com/Evolving-AI-Lab/fooling, caffe/ascent).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.adversarial.genomes import check_count, check_rate
from claimwise.doors import Bounds, check_batch, check_labels, check_logits
from claimwise.undisturbed import Mode, undisturbed

Objective = Literal["probability", "log-probability", "logit"]


@dataclass(frozen=True, eq=False)
class Ascent:
    """What :func:`fooling_ascent` returns."""

    images: Tensor
    """``(batch, *shape)``: for each class the image of the highest probability on the way."""
    confidence: Float[Tensor, " batch"]
    """Probability of its class for each of them."""
    history: Float[Tensor, "evaluations batch"]
    """Probability of the class before the first step and after each."""


def fooling_ascent(
    model: Callable[[Tensor], Tensor],
    classes: Sequence[int] | Tensor,
    x0: Float[Tensor, "batch *shape"],
    *,
    steps: int,
    step_size: float | Literal["progress"],
    decay: float = 0.0,
    centre: float | Tensor = 0.0,
    bounds: Bounds = (0.0, 1.0),
    objective: Objective = "probability",
    mode: Mode = "eval",
) -> Ascent:
    r"""Climb the probability of a class by changing the input, all classes at once.

    .. math:: x \leftarrow \operatorname{clip}\bigl(\mu + (1 - \lambda)(x + \alpha \nabla_x f_c(x) - \mu)\bigr)

    with :math:`f_c` the objective for class :math:`c` (its softmax output), :math:`\alpha` the step size,
    :math:`\lambda` the decay and :math:`\mu` the image that it pulls to. The policy ``"progress"`` chooses
    :math:`\alpha` for each example and step so that to first order the probability :math:`p` grows by
    :math:`\min(0.03, 0.1 (1 - p))`:

    .. math:: \alpha = \min\bigl(10^{12}, \min(0.03, 0.1 (1 - p)) / \lVert \nabla_x f_c \rVert_2^2\bigr)

    :func:`~claimwise.adversarial.fooling_images` is another paper's single signed step.

    Args:
        model: Any module or callable that returns logits; left as it was.
        classes: The class to climb to, one an image.
        x0: Where to start (noise, a mean image, zeros): one image a class, or one for all.
        steps: How many; 0 evaluates ``x0``.
        step_size: :math:`\alpha`, above 0, in units of ``x0`` squared a unit of the objective; or ``"progress"``.
        decay: :math:`\lambda`, in [0, 1]: the paper's L2 regulariser.
        centre: :math:`\mu`, a number or an image: what is zero to a network whose inputs have their mean subtracted.
        bounds: Range to clip to; None for none.
        objective: What is climbed: the softmax output, its logarithm, or the logit.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x0`` (batch, \*shape) or (1, \*shape), ``classes`` (batch,); images (batch, \*shape), history (steps + 1,
        batch).

    Raises:
        TypeError: ``x0`` not floating point, classes not integer.
        ValueError: No class; a class out of range; ``x0`` not finite, outside ``bounds`` or of another length; steps
            below 0, a step size not above 0, a decay outside [0, 1], an unknown objective, ``"progress"`` with
            another objective than the probability; a gradient that is NaN, or an output that ignores ``x0``.

    Differences from the paper:
        The paper climbs the softmax output alone, and its code knows blurring and percentile masks, which it leaves
        off for the images shown; they are not here. A gradient that has underflowed to zero ends the authors' run;
        here the image stays and the others go on.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> grey = torch.full((1, 8, 8), 0.5)
        >>> ascent = fooling_ascent(model, range(10), grey, steps=20, step_size=1.0)
        >>> ascent.images.shape, bool((ascent.confidence > ascent.history[0]).all())
        (torch.Size([10, 8, 8]), True)
    """
    name = "fooling_ascent"
    check_batch(name, x0, bounds)
    check_count(name, steps, "steps", 0)
    check_rate(name, decay, "decay")
    if objective not in ("probability", "log-probability", "logit"):
        raise ValueError(f"{name}: objective must be 'probability', 'log-probability' or 'logit', got {objective!r}")
    if step_size == "progress":
        if objective != "probability":
            raise ValueError(f"{name}: step_size 'progress' is for objective 'probability', got {objective!r}")
    elif isinstance(step_size, str) or not (0 < step_size < math.inf):
        raise ValueError(f"{name}: step_size must be finite and > 0, or 'progress', got {step_size!r}")
    targets = torch.as_tensor(classes if isinstance(classes, Tensor) else list(classes), device=x0.device)
    if targets.ndim != 1 or len(targets) == 0:
        raise ValueError(f"{name}: classes must be one class number an image, at least one, got {classes!r}")
    check_labels(name, targets, len(targets))
    targets = targets.long()
    if len(x0) not in (1, len(targets)):
        raise ValueError(
            f"{name}: x0 must hold one image a class or one for all, got {len(x0)} images and {len(targets)} classes"
        )
    x = x0.detach().expand(len(targets), *x0.shape[1:]).clone()
    if isinstance(centre, Tensor):
        centre = centre.detach().to(x)
        if not bool(centre.isfinite().all()):
            raise ValueError(f"{name}: centre must be finite, got NaN or infinite values")
    elif not math.isfinite(centre):
        raise ValueError(f"{name}: centre must be finite, got {centre}")

    rows = torch.arange(len(targets), device=x.device)
    history, best, images = [], torch.full((len(targets),), -1.0, dtype=x.dtype, device=x.device), x.clone()
    with undisturbed(model, mode), torch.inference_mode(False), torch.enable_grad():
        for step in range(steps + 1):
            x = x.detach().clone().requires_grad_(step < steps)
            logits = model(x)
            check_logits(name, logits, len(x))
            if step == 0:
                check_labels(name, targets, len(targets), logits.shape[1])
            own = logits.softmax(1)[rows, targets]
            p = own.detach()
            if bool(p.isnan().any()):
                raise ValueError(f"{name}: the model's probabilities are NaN at step {step}; has the model diverged?")
            history.append(p.double().cpu())
            higher = p > best
            best = torch.where(higher, p.to(best.dtype), best)
            images[higher] = x.detach()[higher]
            if step == steps:
                break
            if objective == "logit":
                own = logits[rows, targets]
            elif objective == "log-probability":
                own = logits.log_softmax(1)[rows, targets]
            if not own.requires_grad:
                raise ValueError(f"{name}: the model's output does not depend on x0; does it detach its input?")
            (gradient,) = torch.autograd.grad(own.sum(), x, allow_unused=True)
            if gradient is None or not bool(gradient.isfinite().all()):
                found = "no gradient" if gradient is None else "NaN or infinite gradients"
                raise ValueError(f"{name}: the objective must be differentiable in x0, got {found} at step {step}")
            with torch.no_grad():
                if step_size == "progress":
                    progress = (0.1 * (1 - p)).clamp(max=0.03)
                    # In double precision: the squared norm of a small softmax gradient underflows.
                    square = gradient.double().flatten(1).square().sum(1)
                    alpha = (progress / square).clamp(max=1e12).to(x.dtype)
                    gradient = gradient * alpha.reshape(-1, *[1] * (x.ndim - 1))
                else:
                    gradient = gradient * step_size
                x = x + gradient
                if decay:
                    x = centre + (1 - decay) * (x - centre)
                if bounds is not None:
                    x = x.clamp(*bounds)
    return Ascent(images, best, torch.stack(history))

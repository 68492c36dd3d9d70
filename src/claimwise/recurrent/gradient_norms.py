r"""How a gradient grows or vanishes on its way back through time, for any recurrent network.

S. Hochreiter, *Untersuchungen zu dynamischen neuronalen Netzen*, 1991; Y. Bengio, P. Simard, P. Frasconi, *Learning
Long-Term Dependencies with Gradient Descent is Difficult*, IEEE Transactions on Neural Networks 5 (1994); R. Pascanu,
T. Mikolov, Y. Bengio, *On the difficulty of training recurrent neural networks*, ICML 2013, section 2,
https://arxiv.org/abs/1211.5063.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.doors import check_batch
from claimwise.undisturbed import Mode, undisturbed


def gradient_norms(
    model: Callable[..., Any],
    input: Tensor,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    batch_first: bool | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, " time"]:
    r"""Norm of the gradient of the loss at the last step with respect to the state at every step.

    .. math:: n_t = \left\| \frac{\partial L_T}{\partial h_t} \right\|_2, \qquad t = 1 \ldots T

    with :math:`h_t` all that step t hands to the next one: of a stack the states of all layers, of an LSTM h and c
    together, of a batch all sequences. The network is run one step at a time. At t = T, where no step follows, h is
    what the output is made of and c is held: :math:`n_T` is the norm of the loss's gradient by the output.

    Args:
        model: A recurrent network (input, state) -> (output, state) that looks forward: of this package, of
            ``torch.nn``, or another callable of that form. State None is the first.
        input: The sequences.
        loss: L_T from the output at the last step, (batch, features) -> a number; by default the sum of all outputs.
        batch_first: Whether ``input`` is (batch, time, features), not (time, batch, features); by default as the
            model's own ``batch_first`` says, else False.
        mode: ``"eval"`` runs the model in eval mode and leaves it as it was; ``"as-is"`` does neither.

    Shape:
        ``input`` (time, batch, features) or (batch, time, features) -> (time)

    Raises:
        TypeError: an input of another type, or a model that does not return output and state.
        ValueError: an input of another shape or not finite, no steps, ``batch_first`` that contradicts the model's, a
            model that looks both ways, a loss that is no number or does not depend on the output.

    Differences from the paper:
        Pascanu et al. look at the Jacobian :math:`\partial h_T / \partial h_t`; here it is applied to one gradient,
        :math:`\partial L_T / \partial h_T`, as in training.

    Example:
        >>> import torch
        >>> model = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight_ih_l0.fill_(1.0), model.weight_hh_l0.fill_(0.5)
        >>> gradient_norms(model, torch.ones(4, 1, 1))  # halved by each step back
        tensor([0.1250, 0.2500, 0.5000, 1.0000])
    """
    check_batch("gradient_norms", input, None)
    if input.ndim != 3 or 0 in input.shape[:2]:
        raise ValueError(
            "gradient_norms: input must be (time, batch, features), or batch first, with at least one step and one "
            f"sequence, got shape {tuple(input.shape)}"
        )
    own = getattr(model, "batch_first", None)
    if batch_first is not None and own is not None and batch_first != own:
        raise ValueError(f"gradient_norms: batch_first={batch_first} contradicts the model's {own}; leave it out")
    if getattr(model, "bidirectional", False):
        raise ValueError("gradient_norms: the model must look forward only, got a bidirectional one")
    time_axis = int(bool(own if batch_first is None else batch_first))
    # cuDNN has no way back in eval mode.
    with undisturbed(model, mode), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        state: Any = None
        handed: list[tuple[Tensor, ...]] = []
        for x in torch.split(input, 1, time_axis):
            output, raw = _step(model, x, state)
            # Aliases: what flows through one of them is exactly what the next step took from it.
            state = tuple(map(_alias, raw)) if isinstance(raw, tuple) else _alias(raw)
            handed.append(state if isinstance(state, tuple) else (state,))
        output = _alias(output)
        last = output.select(time_axis, 0)  # (batch, features)
        value = last.sum() if loss is None else loss(last)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError(
                "gradient_norms: loss must return one number as a tensor, got "
                f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}; sum over the batch"
            )
        if not value.requires_grad:
            raise ValueError(
                "gradient_norms: loss does not depend on the output; build it with torch from its argument"
            )
        taken = [part for parts in handed[:-1] for part in parts]
        gradients = torch.autograd.grad(value, [*taken, output], allow_unused=True)
    squares = [input.new_zeros((), dtype=output.dtype) if g is None else g.square().sum() for g in gradients]
    parts = len(handed[0])
    norms = [torch.stack(squares[t * parts : (t + 1) * parts]).sum().sqrt() for t in range(len(handed) - 1)]
    return torch.stack([*norms, squares[-1].sqrt()])


def _step(model: Callable[..., Any], x: Tensor, state: Any) -> tuple[Tensor, Any]:
    found = model(x, state)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        raise TypeError(
            f"gradient_norms: the model must return (output, state), got {type(found).__name__}; wrap it, so that it "
            "takes (input, state)"
        )
    return found


def _alias(part: Tensor) -> Tensor:
    return part.view_as(part) if part.requires_grad else part.detach().requires_grad_()


class DecayRate(NamedTuple):
    """What :func:`decay_rate` returns."""

    rate: float
    """Exponent a step back: positive where gradients vanish, negative where they explode."""
    r_squared: float
    """Share of the variance of the logarithms that the fit explains, 1 for an exact exponential."""

    @property
    def factor(self) -> float:
        """What one step back multiplies the norm by, exp(-rate): below 1 gradients vanish, above 1 they explode."""
        return math.exp(-self.rate)


def decay_rate(norms: Float[Tensor, " time"]) -> DecayRate:
    r"""The exponential that fits norms of gradients over the distance from the last step.

    .. math:: \log n_t \approx a - \lambda\, (T - t), \qquad R^2 = 1 - \frac{\sum_t (\log n_t - \hat{y}_t)^2}
        {\sum_t (\log n_t - \overline{\log n})^2}

    by least squares; :math:`\lambda` is the rate.

    Args:
        norms: As :func:`gradient_norms` returns them, the last step last. Leave out steps that should not count, for
            instance the last few, where the direction of the gradient still settles.

    Shape:
        (time) -> two numbers

    Raises:
        TypeError: norms of another type.
        ValueError: fewer than 3 steps, or norms that are not positive and finite: too far back a gradient of single
            precision is 0.

    Differences from the paper:
        none; the papers give bounds, not a fit.

    Example:
        >>> import torch
        >>> fit = decay_rate(torch.tensor([0.125, 0.25, 0.5, 1.0]))
        >>> round(fit.factor, 6), round(fit.r_squared, 6)
        (0.5, 1.0)
    """
    if not isinstance(norms, Tensor) or not norms.is_floating_point():
        found = norms.dtype if isinstance(norms, Tensor) else type(norms).__name__
        raise TypeError(f"decay_rate: norms must be a tensor of floating-point numbers, got {found}")
    if norms.ndim != 1 or len(norms) < 3:
        raise ValueError(f"decay_rate: norms must be (time) with at least 3 steps, got shape {tuple(norms.shape)}")
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise ValueError(
            f"decay_rate: norms must be positive and finite, got from {norms.min().item():.6g} to "
            f"{norms.max().item():.6g}; take fewer steps, or run the model in double precision"
        )
    y = norms.detach().double().log()
    distance = torch.arange(len(y) - 1, -1, -1, dtype=torch.float64, device=y.device)
    distance, y = distance - distance.mean(), y - y.mean()
    slope = (distance @ y) / (distance @ distance)
    left, total = (y - slope * distance).square().sum(), y.square().sum()
    exact = left <= 1e-24 * len(y)  # also where all norms are equal and nothing is to explain
    return DecayRate(-slope.item(), 1.0 if exact else 1 - (left / total).item())

r"""Backpropagation through time in closed form, for a plain recurrent network.

The formulas are those of the notes on recurrent networks, as in I. Goodfellow, Y. Bengio, A. Courville, *Deep
Learning*, 2016, section 10.2.2, https://www.deeplearningbook.org; the method is that of P. J. Werbos, *Backpropagation
Through Time: What It Does and How to Do It*, Proceedings of the IEEE 78 (1990), https://doi.org/10.1109/5.58337.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from claimwise.recurrent.sequence_lengths import checked_sequences

Loss = Literal["cross-entropy", "squared", "squared-softmax"]
LOSSES: tuple[Loss, ...] = ("cross-entropy", "squared", "squared-softmax")


class Gradients(NamedTuple):
    """What :func:`bptt` returns: the loss and its gradients, in the shapes of the parameters."""

    loss: Float[Tensor, ""]
    U: Float[Tensor, "hidden inputs"]
    W: Float[Tensor, "hidden hidden"]
    V: Float[Tensor, "outputs hidden"]
    b: Float[Tensor, " hidden"]
    c: Float[Tensor, " outputs"]


@torch.no_grad()
def bptt(
    x: Float[Tensor, "batch time inputs"],
    y: Tensor,
    U: Float[Tensor, "hidden inputs"],
    W: Float[Tensor, "hidden hidden"],
    V: Float[Tensor, "outputs hidden"],
    b: Float[Tensor, " hidden"],
    c: Float[Tensor, " outputs"],
    *,
    initial: Float[Tensor, "batch hidden"] | None = None,
    loss: Loss = "cross-entropy",
) -> Gradients:
    r"""Loss of a plain recurrent network over all steps and sequences, and its gradients, without autograd.

    .. math:: h_t = \tanh(U x_t + W h_{t-1} + b), \qquad o_t = V h_t + c, \qquad L = \sum_t L_t

    With :math:`\hat y_t` the output after its activation and :math:`e_t = \partial L_t / \partial o_t`, backwards from
    the last step :math:`\tau`,

    .. math::
        \delta_\tau &= V^\top e_\tau, \qquad
        \delta_t = V^\top e_t + W^\top \operatorname{diag}(1 - h_{t+1}^2)\, \delta_{t+1} \\
        \frac{\partial L}{\partial V} &= \sum_t e_t h_t^\top, \qquad
        \frac{\partial L}{\partial c} = \sum_t e_t, \qquad
        \frac{\partial L}{\partial W} = \sum_t \operatorname{diag}(1 - h_t^2)\, \delta_t h_{t-1}^\top \\
        \frac{\partial L}{\partial U} &= \sum_t \operatorname{diag}(1 - h_t^2)\, \delta_t x_t^\top, \qquad
        \frac{\partial L}{\partial b} = \sum_t \operatorname{diag}(1 - h_t^2)\, \delta_t

    summed over sequences too. The losses of a step are

    - ``"cross-entropy"``: :math:`\hat y = \operatorname{softmax}(o)`, :math:`L_t = -\log \hat y_y`,
      :math:`e_t = \hat y - y` with y one-hot;
    - ``"squared"``: :math:`\hat y = \sigma(o)`, logistic, :math:`L_t = \frac12 \|\hat y - y\|^2`,
      :math:`e_t = \operatorname{diag}(\sigma'(o))(\hat y - y)`;
    - ``"squared-softmax"``: :math:`\hat y = \operatorname{softmax}(o)`, :math:`L_t = \frac12 \|\hat y - y\|^2`,
      :math:`e_t = (\operatorname{diag}(\hat y) - \hat y \hat y^\top)(\hat y - y)`.

    Products that do not wait for the step before are gathered over time: one for each of U, V and all gradients; only W
    goes step by step.

    Args:
        x: Inputs.
        y: Class numbers for ``"cross-entropy"``, else target vectors.
        U: From input to hidden.
        W: From hidden to hidden.
        V: From hidden to output.
        b: Offset of the hidden units.
        c: Offset of the outputs.
        initial: :math:`h_0`; 0 by default.
        loss: Which.

    Shape:
        ``x`` (batch, time, inputs), ``y`` (batch, time) integers or (batch, time, outputs), ``U`` (hidden, inputs),
        ``W`` (hidden, hidden), ``V`` (outputs, hidden), ``b`` (hidden), ``c`` (outputs), ``initial`` (batch, hidden)
        -> the loss () and gradients of the parameters' shapes

    Raises:
        TypeError: inputs that are not floating point or parameters of another type than they are; labels that are not
            integers, targets that are.
        ValueError: shapes that do not fit, no steps, values that are not finite, labels out of range, an unknown loss.

    Differences from the paper:
        The notes' Jacobian :math:`\partial h_{t+1} / \partial h_t = \operatorname{diag}(1 - h^2)` lacks the factor W:
        it is :math:`\operatorname{diag}(1 - h_{t+1}^2) W`, as their recursion for δ has it. What is accumulated over
        time is :math:`\delta_t`, where they write :math:`\sigma^{(t)}`. Their gradient of the squared loss,
        :math:`\operatorname{diag}(\sigma'(o))(\hat y - y)`, belongs to a logistic output, which ``"squared"`` has; with
        their softmax it would be wrong, since each output depends on all o: ``"squared-softmax"`` has the full
        Jacobian.

    Example:
        >>> import torch
        >>> x, y = torch.ones(1, 2, 1), torch.tensor([[0, 1]])
        >>> U, W, V = torch.zeros(3, 1), torch.zeros(3, 3), torch.zeros(2, 3)
        >>> found = bptt(x, y, U, W, V, torch.zeros(3), torch.zeros(2))
        >>> round(found.loss.item(), 4), found.c  # 2 log 2; the two errors cancel
        (1.3863, tensor([0., 0.]))
    """
    x = _checked(x, y, U, W, V, b, c, initial, loss)
    batch, time, _ = x.shape
    inputs = x.transpose(0, 1).reshape(time * batch, -1)  # time first: each step is one block of rows
    hidden = torch.addmm(b, inputs, U.t()).view(time, batch, -1)
    before = torch.empty_like(hidden)  # h of the step before
    h = x.new_zeros(batch, len(W)) if initial is None else initial
    for step, earlier in zip(hidden, before, strict=True):
        earlier.copy_(h)
        h = step.addmm_(h, W.t()).tanh_()
    rows = hidden.flatten(0, 1)  # (time x batch, hidden)
    o = torch.addmm(c, rows, V.t())
    total, e = _losses(o, y.transpose(0, 1).flatten(0, 1), loss)
    delta = (e @ V).view_as(hidden)
    slope = 1 - hidden.square()
    a = torch.empty_like(delta)  # diag(1 - h²) δ, the gradient before tanh
    for t in reversed(range(time)):
        torch.mul(slope[t], delta[t], out=a[t])
        if t:
            delta[t - 1].addmm_(a[t], W)
    a = a.flatten(0, 1)
    return Gradients(total, a.t() @ inputs, a.t() @ before.flatten(0, 1), e.t() @ rows, a.sum(0), e.sum(0))


def _losses(o: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Sum of the losses, and their gradient by o."""
    if loss == "cross-entropy":
        e = o.softmax(1)
        e[torch.arange(len(y), device=y.device), y.long()] -= 1
        return F.cross_entropy(o, y.long(), reduction="sum"), e
    made = o.sigmoid() if loss == "squared" else o.softmax(1)
    away = made - y
    if loss == "squared":
        e = made * (1 - made) * away
    else:
        e = made * (away - (made * away).sum(1, keepdim=True))
    return away.square().sum() / 2, e


def _checked(
    x: Tensor, y: Tensor, U: Tensor, W: Tensor, V: Tensor, b: Tensor, c: Tensor, initial: Tensor | None, loss: str
) -> Tensor:
    if loss not in LOSSES:
        raise ValueError(f"bptt: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if U.ndim != 2 or V.ndim != 2:
        raise ValueError(
            "bptt: U must be (hidden, inputs) and V (outputs, hidden), got shapes "
            f"{tuple(U.shape)} and {tuple(V.shape)}"
        )
    (hidden, features), outputs = U.shape, len(V)
    x, _ = checked_sequences("bptt", "x", x, features)
    batch, time, _ = x.shape
    expected = {
        "W": (W, (hidden, hidden)),
        "V": (V, (outputs, hidden)),
        "b": (b, (hidden,)),
        "c": (c, (outputs,)),
        "initial": (initial, (batch, hidden)),
        "U": (U, (hidden, features)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"bptt: {name} must be {shape}, got shape {tuple(tensor.shape)}")
        if tensor.dtype != x.dtype:
            raise TypeError(f"bptt: {name} must be {x.dtype} as x is, got {tensor.dtype}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"bptt: {name} must be finite, got NaN or infinite values")
    if loss == "cross-entropy":
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise TypeError(f"bptt: y must hold integer class numbers for loss='cross-entropy', got {y.dtype}")
        if y.shape != (batch, time):
            raise ValueError(f"bptt: y must be one class number a step, ({batch}, {time}), got shape {tuple(y.shape)}")
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < outputs:
            raise ValueError(
                f"bptt: labels must be in 0..{outputs - 1}, got labels from {int(y.min())} to {int(y.max())}"
            )
    else:
        if y.dtype != x.dtype:
            raise TypeError(f"bptt: y must be {x.dtype} as x is for loss={loss!r}, got {y.dtype}")
        if y.shape != (batch, time, outputs):
            raise ValueError(f"bptt: y must be ({batch}, {time}, {outputs}), got shape {tuple(y.shape)}")
        if not bool(y.isfinite().all()):
            raise ValueError("bptt: y must be finite, got NaN or infinite values")
    return x

"""Saliency by gradients: how a unit changes with every pixel, plain and guided.

Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013, https://arxiv.org/abs/1312.6034, section 3;
Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", 2014,
https://arxiv.org/abs/1412.6806, section 3.4 and figure 1. How the three ways back differ is one table,
:data:`claimwise.explain.backward_rules.RULES`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from claimwise.explain.backward_rules import send_back
from claimwise.explain.layers_by_name import Layer
from claimwise.undisturbed import Mode


def gradient_saliency(
    model: nn.Module,
    layer: Layer | int | Tensor,
    x: Float[Tensor, "batch *image"],
    *,
    unit: int | Tensor | None = None,
    position: str | tuple[int, ...] | Tensor = "maximum",
    call: int | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *result"]:
    r"""The gradient of a unit, or of a class score, with respect to the pixels.

    .. math:: G = \frac{\partial a_p}{\partial x}

    with :math:`a_p` the unit at its position; the gradient of the map's sum for ``position="all"``. Signs are kept:
    the paper's map of a colour image is ``G.abs().amax(1)``.

    Args:
        model: Any module. It runs once, in eval mode, and is left as it was.
        layer: Name of a layer or the layer itself; or a target class of the model's output, a number or one an image.
        x: Images, floating point, as the model takes them.
        unit: As in :func:`~claimwise.explain.deconvnet`.
        position: As in :func:`~claimwise.explain.deconvnet`.
        call: Which call of a layer that runs several times, from 0.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (batch, ...) to the same shape, or (batch, k, ...) for ``unit`` of shape (batch, k).

    Raises:
        TypeError: As :func:`~claimwise.explain.deconvnet`.
        ValueError: As :func:`~claimwise.explain.deconvnet`, but any differentiable operation is taken.

    Differences from the paper:
        The paper takes the absolute value and the largest channel; this returns what both are taken of.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 2, bias=False)
        >>> torch.equal(gradient_saliency(model, 1, torch.ones(1, 3)), model.weight[1:])
        True
    """
    return send_back(
        "gradient_saliency", "gradient", model, layer, x, unit=unit, position=position, call=call, mode=mode
    )


def guided_backpropagation(
    model: nn.Module,
    layer: Layer | int | Tensor,
    x: Float[Tensor, "batch *image"],
    *,
    unit: int | Tensor | None = None,
    position: str | tuple[int, ...] | Tensor = "maximum",
    call: int | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *result"]:
    r"""Backpropagation that lets a rectifier pass only what is positive, both on the way in and on the way back.

    .. math:: R_{l} = [f_l > 0]\,[R_{l+1} > 0]\, R_{l+1}

    at every rectifier, with :math:`f_l` its input and :math:`R_{l+1}` what comes from above, from 1 at the unit.
    Everything else goes back as in backpropagation.

    Args:
        model: Any module. It runs once, in eval mode, and is left as it was.
        layer: Name of a layer or the layer itself; or a target class of the model's output, a number or one an image.
        x: Images, floating point, as the model takes them.
        unit: As in :func:`~claimwise.explain.deconvnet`.
        position: As in :func:`~claimwise.explain.deconvnet`.
        call: Which call of a layer that runs several times, from 0.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (batch, ...) to the same shape, or (batch, k, ...) for ``unit`` of shape (batch, k).

    Raises:
        TypeError: As :func:`~claimwise.explain.deconvnet`.
        ValueError: As :func:`~claimwise.explain.deconvnet`, but only parts that hide their rectifiers are refused
            (a custom ``autograd.Function``, compiled or checkpointed parts).

    Differences from the paper:
        Activations that are no rectifiers (GELU, sigmoid, leaky ones) go back as in backpropagation; the paper has
        none.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        >>> model[0].weight.data, model[2].weight.data = torch.eye(2), torch.tensor([[1.0, -1.0]])
        >>> guided_backpropagation(model, 0, torch.ones(1, 2)).tolist()  # the gradient is [1, -1]
        [[1.0, 0.0]]
    """
    return send_back(
        "guided_backpropagation", "guided", model, layer, x, unit=unit, position=position, call=call, mode=mode
    )

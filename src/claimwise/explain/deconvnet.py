"""Deconvnet: which pixels excite a unit, by running the network backwards with the switches of one image.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013 (ECCV 2014),
https://arxiv.org/abs/1311.2901, section 2.1 and figure 1.
"""

from jaxtyping import Float
from torch import Tensor, nn

from claimwise.explain.backward_rules import send_back
from claimwise.explain.layers_by_name import Layer
from claimwise.undisturbed import Mode


def deconvnet(
    model: nn.Module,
    layer: Layer | int | Tensor,
    x: Float[Tensor, "batch *image"],
    *,
    unit: int | Tensor | None = None,
    position: str | tuple[int, ...] | Tensor = "maximum",
    call: int | None = None,
    mode: Mode = "eval",
) -> Float[Tensor, "batch *result"]:
    r"""Projects an activation back to the pixels: unpool, rectify, filter with the transposed filters, layer by layer.

    .. math::
        R_L = a_p\, e_p, \qquad R_{l-1} = W_l^\top \max\big(0,\; U_{s_l}(R_l)\big)

    with :math:`a_p` the activation kept and :math:`e_p` zero everywhere but there; :math:`U_{s_l}` the unpooling, which
    puts each value where the switches :math:`s_l` say that the maximum of this image's forward pass was;
    :math:`W_l^\top` the transposed filters (of a dense layer, the transposed matrix), without a bias. The rectifier
    acts on the *reconstruction*: not on where the input was positive, as in backpropagation
    (:func:`~claimwise.explain.gradient_saliency`), nor on both (:func:`~claimwise.explain.guided_backpropagation`).

    It works on autograd's graph of one forward pass, so that functional and in-place rectifiers and pooling, modules
    used several times, and grouped, strided and dilated convolutions need no care. What comes out for an image does not
    depend on its neighbours. :math:`R` scales with :math:`a_p`: divide by it to compare units.

    Args:
        model: Any module. It runs once, in eval mode, and is left as it was.
        layer: Name of a layer or the layer itself; or a target class of the model's output, a number or one an image.
        x: Images, floating point, as the model takes them.
        unit: Which map of a convolutional layer or unit of a dense one: one number, (batch,) for one an image, or
            (batch, k) for k an image. By default the one with the image's largest activation.
        position: What of the map is kept: ``"maximum"`` (the place of the largest activation), ``"all"`` (the whole
            map), or a place, (row, column), also of shape (batch, 2) or (batch, k, 2).
        call: Which call of a layer that runs several times, from 0.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        ``x`` (batch, ...) to the same shape, or (batch, k, ...) for ``unit`` of shape (batch, k).

    Raises:
        TypeError: ``x`` not floating point, units or positions not integers, a layer that is neither name nor module.
        ValueError: No layer of that name, or no convolution in front of it; unit, position or class out of range; a
            layer that puts out sparse or complex numbers, or does not depend on ``x``; an operation on the way that has
            no way back here (a sigmoid, attention, normalisation by the batch's statistics, compiled parts); NaN.

    Differences from the paper:
        Where poolings overlap and two windows have the same maximum, what they send back adds up; the paper *places*
        values and does not say which wins. Contrast normalisation, any division by a measure of the image itself, is
        passed unchanged, as in the paper. Batch normalisation, younger than the paper, counts as part of the filter
        before it (its scale is kept). A rectifier with a ceiling (ReLU6) goes back as a rectifier. A rectifier written
        as a product with a mask of ones and zeros cannot be told from a filter; a mask of truth values is refused.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2, bias=False), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        >>> _ = torch.nn.init.ones_(model[0].weight)
        >>> x = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]]])
        >>> deconvnet(model, "2", x, unit=0)[0, 0]  # the activation 3, under the 2x2 patch that gave it
        tensor([[0., 0., 0.],
                [0., 3., 3.],
                [0., 3., 3.]])
    """
    return send_back("deconvnet", "deconvnet", model, layer, x, unit=unit, position=position, call=call, mode=mode)

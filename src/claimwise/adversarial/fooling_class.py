"""Retraining with a class for fooling images.

A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled*, CVPR 2015, section 3.6,
https://arxiv.org/abs/1412.1897: train DNN_1 on the data, evolve images that fool it, train DNN_2 from scratch on the
data and these images as class n + 1, evolve images that fool DNN_2, train DNN_3 with those too, and so on.
"""

import copy
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from claimwise.adversarial.genomes import check_count
from claimwise.doors import check_batch, check_labels


def add_fooling_class(
    x: Float[Tensor, "examples *shape"],
    y: Int[Tensor, " examples"],
    fooling: Float[Tensor, "fooling *shape"],
    classes: int,
    share: float | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""A training set with fooling images as one more class, as large as the other classes are on average.

    .. math:: m = \operatorname{round}\Bigl(\frac{s}{1 - s} N\Bigr), \qquad s = \frac{1}{n + 1}

    with :math:`N` examples, :math:`n` classes, :math:`s` the new class's share of the result and :math:`m` its
    images. Of more than :math:`m` fooling images some are drawn without replacement; fewer are repeated equally often,
    and the rest is drawn.

    Args:
        x: Examples.
        y: Their classes, in 0..classes - 1.
        fooling: Images that fool earlier networks; those of all rounds so far, as the paper does.
        classes: n; the new class has this number.
        share: s, in (0, 1); by default balanced.
        generator: Source of the draws; not needed where ``fooling`` goes into m without a rest.

    Shape:
        ``x`` (N, \*shape), ``fooling`` (any, \*shape); result (N + m, \*shape) and (N + m,), fooling images last.

    Raises:
        TypeError: Inputs not floating point, labels not integer.
        ValueError: No examples or fooling images, shapes that differ, labels out of range, a share outside (0, 1) or
            so small that no image is left, draws without a generator.

    Differences from the paper:
        none; the paper says "balanced" and adds as many images as a class has.

    Example:
        >>> x, y = torch.zeros(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        >>> images, labels = add_fooling_class(x, y, torch.ones(2, 1, 4, 4), classes=3)
        >>> images.shape, labels.tolist()
        (torch.Size([8, 1, 4, 4]), [0, 1, 2, 0, 1, 2, 3, 3])
    """
    name = "add_fooling_class"
    check_count(name, classes, "classes")
    check_batch(name, x, None)
    check_batch(f"{name} (fooling)", fooling, None)
    check_labels(name, y, len(x), classes)
    if len(x) == 0 or len(fooling) == 0:
        raise ValueError(f"{name}: give examples and fooling images, got {len(x)} and {len(fooling)}")
    if fooling.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"{name}: fooling images must have the examples' shape {tuple(x.shape[1:])}, got {tuple(fooling.shape[1:])}"
        )
    share = 1 / (classes + 1) if share is None else share
    if not 0 < share < 1:
        raise ValueError(f"{name}: share must be in (0, 1), or None for 1 / (classes + 1), got {share}")
    wanted = round(share / (1 - share) * len(x))
    if wanted == 0:
        raise ValueError(f"{name}: a share of {share} of {len(x)} examples leaves no fooling image; give a larger one")
    whole, rest = divmod(wanted, len(fooling))
    index = torch.arange(len(fooling)).repeat(whole)
    if rest:
        if generator is None:
            raise ValueError(
                f"{name}: {wanted} images are to be drawn from {len(fooling)}; give generator=, or a share that fits"
            )
        drawn = torch.randperm(len(fooling), generator=generator, device=generator.device)[:rest].cpu()
        index = torch.cat([index, drawn])
    images = fooling[index.to(fooling.device)].to(x)
    return torch.cat([x, images]), torch.cat([y, torch.full((wanted,), classes, dtype=y.dtype, device=y.device)])


def with_extra_class(model: nn.Module, *, generator: torch.Generator | None = None) -> nn.Module:
    r"""A copy of a classifier that has one output more, for a head start where training from scratch is too dear.

    .. math:: W' = \begin{pmatrix} W \\ w \end{pmatrix}, \quad b' = \begin{pmatrix} b \\ 0 \end{pmatrix}, \qquad
              w_j \sim U(-1/\sqrt{d}, 1/\sqrt{d})

    with :math:`W, b` the last ``nn.Linear`` or ``nn.Conv2d`` in the order of ``model.modules()`` and :math:`d` its
    inputs a unit.

    Args:
        model: Ends in that layer, as far as what has weights goes; not changed.
        generator: Source of :math:`w`; the global one by default.

    Shape:
        None.

    Raises:
        ValueError: No such layer, or its convolution has groups.

    Differences from the paper:
        The paper trains DNN_2 from scratch; give its n + 1 outputs to a new network for that.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> with_extra_class(model)(torch.zeros(1, 4)).shape
        torch.Size([1, 4])
    """
    layers = [(key, layer) for key, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ValueError(f"with_extra_class: model must have an nn.Linear or nn.Conv2d, got {type(model).__name__}")
    key, last = layers[-1]
    if isinstance(last, nn.Conv2d) and last.groups != 1:
        raise ValueError(f"with_extra_class: the last convolution must have groups=1, got {last.groups}")
    wider = copy.deepcopy(model)
    layer = wider.get_submodule(key)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    weight = layer.weight.detach()
    row = torch.rand(1, *weight.shape[1:], generator=generator, device=generator.device if generator else None)
    bound = 1 / math.sqrt(weight[0].numel())
    layer.weight = nn.Parameter(
        torch.cat([weight, ((2 * row - 1) * bound).to(weight)]), requires_grad=layer.weight.requires_grad
    )
    if layer.bias is not None:
        bias = layer.bias.detach()
        layer.bias = nn.Parameter(torch.cat([bias, bias.new_zeros(1)]), requires_grad=layer.bias.requires_grad)
    if isinstance(layer, nn.Linear):
        layer.out_features += 1
    else:
        layer.out_channels += 1
    return wider

"""Dense evaluation: a classifier run over a whole image as a fully convolutional network.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, section 3.2; after Sermanet et al., "OverFeat", ICLR 2014.
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from claimwise.vision.vgg import VGG


class DenseVGG(nn.Module):
    """What :func:`dense` returns: the same network and the same parameters, read as convolutions throughout."""

    def __init__(self, model: VGG) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        model = self.model
        _check_size("dense", model, images)
        return _convolved(model, model.features(model.arrange(images)), model.classifier)


def _check_size(name: str, model: VGG, images: Tensor) -> None:
    if min(images.shape[-2:]) < model.image_size:
        raise ValueError(
            f"{name}: the image must be at least {model.image_size} pixels high and wide, the size the network was "
            f"built for, got {images.shape[-2]}x{images.shape[-1]}; rescale it first"
        )


def _convolved(
    model: VGG, maps: Float[Tensor, "batch channels height width"], layers: Iterable[nn.Module]
) -> Float[Tensor, "batch units rows columns"]:
    """FC layers of a model as convolutions over its feature maps."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            # the first FC layer covers its whole map, the others are 1x1; a view: no weight is copied
            side = model.map_size if layer is model.classifier[0] else 1
            maps = F.conv2d(maps, layer.weight.view(layer.out_features, -1, side, side), layer.bias)
        else:
            maps = layer(maps)
    return maps


def dense(model: VGG) -> DenseVGG:
    r"""The fully convolutional reading of a VGG network: a score for every position of a larger image.

    The first FC layer becomes a convolution with the side of its map (7 at 224 pixels) *without padding*, the other
    two become convolutions of 1x1:

    .. math:: z_{c, i, j} = \mathrm{FC}_c(F_{:,\, i : i + s,\, j : j + s})

    with :math:`F` the feature map of the whole image and :math:`s` the side of the map in training. Neighbouring
    scores lie ``2 ** pools`` pixels apart. The parameters are the model's own, not copies: what is trained further is
    evaluated further, and the result is part of ``model`` for ``state_dict`` and devices.

    Args:
        model: A VGG network, in the mode (training or evaluation) in which it is to run.

    Shape:
        The result maps images ``(batch, channels, height, width)`` to scores ``(batch, classes, rows, columns)``,
        ``rows = height // 2**pools - s + 1``; for the training size that is one row and column with the model's scores.

    Raises:
        ValueError: The image is smaller than the training image.

    Differences from the paper:
        None. Note what the paper notes: a score differs from that of the crop at its place, since the crop's
        convolutions are padded with zeros and here with the image around.

    Example:
        >>> import torch
        >>> from claimwise.vision import VGG, dense
        >>> model = VGG("A", width=1 / 32, image_size=32, classes=10, pools=3).eval()
        >>> dense(model)(torch.zeros(1, 3, 48, 32)).shape
        torch.Size([1, 10, 3, 1])
    """
    return DenseVGG(model)


def dense_scores(model: VGG, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
    r"""Class scores of whole images: the dense score map, averaged over its positions.

    .. math:: \bar z_c = \frac{1}{IJ} \sum_{i=1}^{I} \sum_{j=1}^{J} z_{c, i, j}

    with :math:`z` the map of :func:`dense`.

    Args:
        model: A VGG network, in the mode in which it is to run.
        images: Images of at least the training size.

    Shape:
        images ``(batch, channels, height, width)`` -> scores ``(batch, classes)``.

    Raises:
        ValueError: The images are smaller than the training images.

    Differences from the paper:
        None ("spatially averaged (sum-pooled)": the mean, since a sum would sharpen the softmax of larger images).

    Example:
        >>> import torch
        >>> from claimwise.vision import VGG, dense_scores
        >>> model = VGG("A", width=1 / 32, image_size=32, classes=10, pools=3).eval()
        >>> x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(dense_scores(model, x), model(x), atol=1e-6)
        True
    """
    return dense(model)(images).mean((2, 3))


def dense_posteriors(
    model: VGG, images: Float[Tensor, "batch channels height width"], *, flip: bool = True
) -> Float[Tensor, "batch classes"]:
    r"""Class probabilities of whole images, averaged over the image and its mirror image.

    .. math:: p = \tfrac{1}{2} (\mathrm{softmax}(\bar z(x)) + \mathrm{softmax}(\bar z(\overleftarrow{x})))

    with :math:`\bar z` as in :func:`dense_scores` and :math:`\overleftarrow{x}` the image flipped left to right.

    Args:
        model: A VGG network, in the mode in which it is to run.
        images: Images of at least the training size.
        flip: Whether to average with the mirror image.

    Shape:
        images ``(batch, channels, height, width)`` -> probabilities ``(batch, classes)``.

    Raises:
        ValueError: The images are smaller than the training images.

    Differences from the paper:
        None.

    Example:
        >>> import torch
        >>> from claimwise.vision import VGG, dense_posteriors
        >>> model = VGG("A", width=1 / 32, image_size=32, classes=10, pools=3).eval()
        >>> x = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(dense_posteriors(model, x), dense_posteriors(model, x.flip(3)))
        True
    """
    posteriors = dense_scores(model, images).softmax(1)
    return (posteriors + dense_scores(model, images.flip(3)).softmax(1)) / 2 if flip else posteriors


def dense_features(
    model: VGG, images: Float[Tensor, "batch channels height width"], *, flip: bool = True
) -> Float[Tensor, "batch units"]:
    r"""Image descriptors for another task: the last hidden layer over whole images (appendix B of the paper).

    .. math:: f = \frac{g}{\lVert g \rVert_2}, \quad g = \frac{1}{IJ} \sum_{i, j} h_{:, i, j}

    with :math:`h` the activations of the second hidden FC layer at each position, as in :func:`dense`; :math:`g` is
    also averaged over the mirror image.

    Args:
        model: A VGG network, in the mode in which it is to run.
        images: Images of at least the training size.
        flip: Whether to average with the mirror image.

    Shape:
        images ``(batch, channels, height, width)`` -> descriptors ``(batch, fc_width)``, each of length 1 (or 0 where
        no unit is active).

    Raises:
        ValueError: The images are smaller than the training images.

    Differences from the paper:
        None at one scale; for several, stack or average the descriptors of rescaled images, as the paper compares.

    Example:
        >>> import torch
        >>> from claimwise.vision import VGG, dense_features
        >>> model = VGG("A", width=1 / 32, image_size=32, classes=10, pools=3).eval()
        >>> dense_features(model, torch.rand(2, 3, 40, 40)).shape
        torch.Size([2, 128])
    """
    _check_size("dense_features", model, images)
    hidden = list(model.classifier)[:5]  # without the last dropout and the scores
    views = [images, images.flip(3)] if flip else [images]
    activity = [_convolved(model, model.features(model.arrange(view)), hidden).mean((2, 3)) for view in views]
    return F.normalize(sum(activity[1:], activity[0]))

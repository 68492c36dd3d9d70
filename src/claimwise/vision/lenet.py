"""LeNet as Caffe trains it on MNIST, and the weights of that network which Nguyen et al. 2015 attack.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998, section
II.B (LeNet-5); the version here is Caffe's ``examples/mnist/lenet.prototxt``, which most papers of the 2010s mean by
"LeNet": Jia et al., "Caffe: Convolutional architecture for fast feature embedding", 2014,
https://arxiv.org/abs/1408.5093. The weights: https://github.com/Evolving-AI-Lab/fooling, ``model/lenet``.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LeNet(nn.Module):
    r"""Caffe's LeNet: two convolutions with max-pooling and *no rectifier*, then two fully connected layers.

    .. math::
        x_0 = s\,(x - \mu), \quad x_1 = p(W_1 * x_0 + b_1), \quad x_2 = p(W_2 * x_1 + b_2), \quad
        z = W_4 \max(0, W_3 \operatorname{vec}(x_2) + b_3) + b_4

    with :math:`s` the input's scale, :math:`\mu` the mean image (none by default), :math:`*` a convolution without
    padding, :math:`p` the max-pooling of 2x2, stride 2, and :math:`z` the class scores before the softmax. The only
    other non-linearity is the rectifier between the two fully connected layers. Not to be confused with LeNet-5, which
    has trainable average pooling, squashing units, a partly connected second convolution and radial outputs, nor with
    versions of PyTorch tutorials, which rectify after each convolution.

    Layers bear Caffe's names (``conv1``, ``conv2``, ``ip1``, ``ip2``); weights start by Caffe's "xavier" filler
    (uniform within plus or minus the square root of 3 over the number of inputs), biases at 0.

    Args:
        classes: Number of classes.
        channels: Channels of the image.
        image_size: Side of the square image in pixels.
        filters: Filters of the two convolutions.
        kernel: Side of their kernels; 3 suits images of 8 pixels.
        hidden: Units of the first fully connected layer.
        scale: What images are multiplied by. Caffe multiplies bytes by 1/256, so that 1 here becomes 255/256.
        mean: Image that is subtracted before, on the scale of the images; none by default.
        generator: Source of the initial weights; torch's global one by default, as for torch's own layers.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        images ``(batch, channels, image_size, image_size)`` in [0, 1] -> scores ``(batch, classes)``.

    Raises:
        ValueError: A number that is not positive, an image too small for the kernels, a mean of another shape.

    Differences from the paper:
        From LeCun et al.: all of the above. From Caffe: none; a pooling window that does not fit at the border counts
        what it covers, as Caffe's does.

    Example:
        >>> import torch
        >>> from claimwise.vision import LeNet
        >>> model = LeNet()
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in model.parameters())
        431080
    """

    mean: Tensor | None

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 1,
        image_size: int = 28,
        filters: tuple[int, int] = (20, 50),
        kernel: int = 5,
        hidden: int = 500,
        scale: float = 255 / 256,
        mean: Float[Tensor, "channels height width"] | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in {
            "classes": classes,
            "channels": channels,
            "image_size": image_size,
            "filters": min(filters),
            "kernel": kernel,
            "hidden": hidden,
        }.items():
            if value < 1:
                raise ValueError(f"LeNet: {name} must be at least 1, got {value}")
        if not 0 < scale < math.inf:
            raise ValueError(f"LeNet: scale must be positive, got {scale}")
        side = image_size
        for _ in filters:
            side = -(-(side - kernel + 1) // 2)
            if side < 1:
                raise ValueError(
                    f"LeNet: an image of {image_size} pixels is too small for two convolutions of {kernel}x{kernel} "
                    f"with pooling; give a smaller kernel"
                )
        shape = (channels, image_size, image_size)
        if mean is not None and mean.shape != shape:
            raise ValueError(f"LeNet: mean must have the shape of an image, {shape}, got {tuple(mean.shape)}")
        if mean is not None and not bool(mean.isfinite().all()):
            raise ValueError("LeNet: mean holds numbers that are not finite")
        self.image_shape = shape
        self.scale = scale
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        # The mean belongs to how images are prepared, not to what is learned: it is no part of the state dict.
        self.register_buffer("mean", None if mean is None else mean.detach().clone().to(**made), persistent=False)
        self.conv1 = nn.Conv2d(channels, filters[0], kernel, **made)
        self.conv2 = nn.Conv2d(filters[0], filters[1], kernel, **made)
        self.ip1 = nn.Linear(filters[1] * side * side, hidden, **made)
        self.ip2 = nn.Linear(hidden, classes, **made)
        for layer in (self.conv1, self.conv2, self.ip1, self.ip2):
            bound = math.sqrt(3 / layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"LeNet: images must be (batch, *{self.image_shape}), got {tuple(images.shape)}")
        x = self.scale * (images if self.mean is None else images - self.mean)
        x = F.max_pool2d(self.conv1(x), 2, ceil_mode=True)  # (batch, 20, 12, 12) of 28 pixels
        x = F.max_pool2d(self.conv2(x), 2, ceil_mode=True)  # (batch, 50, 4, 4)
        return self.ip2(F.relu(self.ip1(x.flatten(1))))


def load_nguyen_lenet(arrays: Mapping[str, Any], *, subtract_mean: bool = False) -> LeNet:
    """The LeNet that Nguyen et al. 2015 attack, from the arrays of the data set ``nguyen_lenet``.

    Args:
        arrays: ``conv1.weight`` ... ``ip2.bias`` and ``mean`` by name, as arrays or tensors: a split of the data set,
            or ``numpy.load`` of its file. The mean image is on the scale of bytes.
        subtract_mean: Whether images lose the mean image first, as they do in the paper's evolution (its file
            ``lenet.prototxt`` names a mean file). The weights err less without it, hence were trained so.

    Returns:
        The network in evaluation mode, on images in [0, 1].

    Raises:
        ValueError: Arrays that are missing, of another shape, or not finite.

    Differences from the paper:
        None.

    Example:
        >>> import torch
        >>> from claimwise.vision import LeNet, load_nguyen_lenet
        >>> arrays = {**LeNet().state_dict(), "mean": torch.zeros(28, 28)}
        >>> load_nguyen_lenet(arrays)(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
    """
    state = {name: torch.tensor(array).float() for name, array in _plain(arrays).items()}
    mean = state.pop("mean", None)
    if mean is None or mean.shape != (28, 28):
        raise ValueError(
            f"load_nguyen_lenet: mean must be there, with shape (28, 28), got "
            f"{'none' if mean is None else tuple(mean.shape)}"
        )
    model = LeNet(mean=mean[None] / 255 if subtract_mean else None)
    wanted = model.state_dict()
    if missing := sorted(wanted.keys() - state.keys()):
        raise ValueError(f"load_nguyen_lenet: no {missing[0]} among {', '.join(sorted(state)) or 'no arrays'}")
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"load_nguyen_lenet: {name} must have shape {tuple(value.shape)}, got {tuple(state[name].shape)}"
            )
        if not bool(state[name].isfinite().all()):
            raise ValueError(f"load_nguyen_lenet: {name} holds numbers that are not finite")
    model.load_state_dict({name: state[name] for name in wanted})
    return model.eval()


def _plain(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays and tensors as NumPy arrays."""
    return {name: a.detach().cpu().numpy() if isinstance(a, Tensor) else a for name, a in arrays.items()}

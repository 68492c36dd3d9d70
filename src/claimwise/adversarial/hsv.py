"""Hue, saturation and value to red, green and blue: the colours that the fooling paper's genomes are written in.

A. R. Smith, *Color Gamut Transform Pairs*, SIGGRAPH 1978, https://doi.org/10.1145/965139.807361
"""

import torch
from jaxtyping import Float
from torch import Tensor


def hsv_to_rgb(hsv: Float[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
    r"""Convert images from hue, saturation, value to red, green, blue.

    .. math:: c_n = v - v s \max(0, \min(k_n, 4 - k_n, 1)), \qquad k_n = (n + 6 h) \bmod 6

    with :math:`h, s, v` hue, saturation and value in [0, 1] and :math:`n = 5, 3, 1` for red, green, blue.

    Args:
        hsv: Images, channels third from last, in [0, 1]. Hue 1 is hue 0: red.

    Shape:
        ``hsv`` and the result (\*, 3, height, width).

    Raises:
        ValueError: Not three channels; values outside [0, 1] or NaN.

    Differences from the paper:
        none.

    Example:
        >>> green = torch.tensor([1 / 3, 1.0, 1.0]).reshape(3, 1, 1)
        >>> hsv_to_rgb(green).flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    if hsv.ndim < 3 or hsv.shape[-3] != 3:
        raise ValueError(f"hsv_to_rgb: hsv must have shape (..., 3, height, width), got {tuple(hsv.shape)}")
    if hsv.numel() and not bool(((hsv >= 0) & (hsv <= 1)).all()):
        raise ValueError("hsv_to_rgb: hsv must lie in [0, 1]; clip or scale it first")
    hue, saturation, value = hsv.unsqueeze(-4).unbind(-3)  # (..., 1, height, width)
    n = torch.tensor([5.0, 3.0, 1.0], dtype=hsv.dtype, device=hsv.device).reshape(3, 1, 1)
    k = (n + 6 * hue).remainder(6)
    return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

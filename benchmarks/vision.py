"""VGG networks against pytorchcv's, and whole images against what one would do without these functions.

``pip install --no-deps pytorchcv`` (it needs no torchvision), then ``python benchmarks/vision.py``. Weights are
copied across and outputs compared before anything is timed.
"""

import torch
from pytorchcv.models import vgg as pytorchcv_vgg
from torch import Tensor, nn
from torch.nn import functional as F

from claimwise.vision import CONFIGURATIONS, VGG, LocalResponseNormalisation, dense, scale_jitter
from timing import Row, compare, max_difference, write_table


def images(count: int, side: int) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def both(configuration: str, width: float) -> tuple[VGG, nn.Module]:
    """The same network in our implementation and pytorchcv's, with the same weights."""
    ours = VGG(
        configuration, width=width, fc_width=4096, initialisation="he", generator=torch.Generator().manual_seed(0)
    )
    channels = [
        [round(outputs * width)] * len(block)
        for outputs, block in zip((64, 128, 256, 512, 512), CONFIGURATIONS[configuration].kernels, strict=True)
    ]
    theirs = pytorchcv_vgg.VGG(channels)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    return ours.eval(), theirs.eval()


def forward(configuration: str, width: float, count: int, repeats: int) -> Row:
    ours, theirs = both(configuration, width)
    x = images(count, 224)

    def run(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model(x)

    scale = float(run(theirs).abs().max())
    return compare(
        f"forward, {configuration}, width {width:g}, {count} images of 224",
        lambda: run(ours),
        lambda: run(theirs),
        peer_name="pytorchcv",
        repeats=repeats,
        difference=lambda a, b: max_difference(a, b) / scale,
        tolerance=1e-5,
        note="difference relative to the largest score",
    )


def training_step(configuration: str, width: float, count: int, repeats: int) -> Row:
    ours, theirs = both(configuration, width)

    def run(model: nn.Module, x: Tensor) -> list[Tensor]:
        for parameter in model.parameters():
            parameter.grad = None
        F.cross_entropy(model(x), torch.arange(len(x))).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    def relative(a: list[Tensor], b: list[Tensor]) -> float:
        return max(float((p - q).norm() / q.norm()) for p, q in zip(a, b, strict=True))

    # In single precision a rounding moves some of the millions of units across the rectifier's corner, which changes
    # gradients by about 1e-3. That both compute the same is shown in double precision; for the timing 1e-2 will do.
    exact = [run(model.double(), images(1, 224).double()) for model in (ours, theirs)]
    if relative(*exact) > 1e-9:
        raise AssertionError(f"gradients of {configuration} differ by {relative(*exact):.2g} in double precision")
    x = images(count, 224)
    ours.float(), theirs.float()

    return compare(
        f"forward and backward, {configuration}, width {width:g}, {count} images of 224",
        lambda: run(ours, x),
        lambda: run(theirs, x),
        peer_name="pytorchcv",
        repeats=repeats,
        difference=relative,
        tolerance=1e-2,
        note="relative difference of gradients in single precision (double precision: below 1e-9)",
    )


def dense_against_crops() -> Row:
    """Without padding the two are the same numbers, so that they can be compared; the work is that of any network."""
    model = VGG(
        "A", width=1 / 4, image_size=32, pools=5, initialisation="he", generator=torch.Generator().manual_seed(0)
    )
    model.eval()
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    crop, stride, grid = 150, 32, 5  # 150 pixels shrink to the one unit that the FC layers want
    network, x = dense(model), images(1, crop + stride * (grid - 1))

    def sliding() -> Tensor:
        windows = x.unfold(2, crop, stride).unfold(3, crop, stride)  # (1, 3, 5, 5, crop, crop)
        crops = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, crop, crop)
        with torch.no_grad():
            return model.classifier(model.flatten(model.features(model.arrange(crops)))).T.reshape(1, -1, grid, grid)

    def whole() -> Tensor:
        with torch.no_grad():
            return network(x)

    scale = float(whole().abs().max())
    return compare(
        "25 scores of an image of 278, A, width 0.25",
        whole,
        sliding,
        peer_name="25 crops in one batch",
        difference=lambda a, b: max_difference(a, b) / scale,
        tolerance=1e-5,
        note="dense evaluation; no padding, so that both are equal",
    )


def normalisation() -> Row:
    ours, theirs = LocalResponseNormalisation(), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    x = images(1, 224).repeat(1, 22, 1, 1)[:, :64]
    return compare(
        "response normalisation of 64 maps of 224",
        lambda: ours(x),
        lambda: theirs(x),
        peer_name="torch",
        difference=max_difference,
        tolerance=1e-5,
        note="forward; torch divides alpha by the window",
    )


def jitter() -> Row:
    x = torch.rand(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def one_by_one() -> Tensor:
        draw = torch.Generator().manual_seed(1)
        scales = torch.randint(32, 49, (len(x),), generator=draw).tolist()
        corners = torch.rand(len(x), 2, generator=draw, dtype=torch.float64).tolist()
        crops = []
        for image, scale, corner in zip(x, scales, corners, strict=True):
            large = F.interpolate(image[None], size=(scale, scale), mode="bilinear", align_corners=False)[0]
            top, left = (int(c * (scale - 31)) for c in corner)
            crops.append(large[:, top : top + 32, left : left + 32])
        return torch.stack(crops)

    return compare(
        "scale jitter, 128 images of 32, S in 32..48",
        lambda: scale_jitter(x, 32, 48, 32, generator=torch.Generator().manual_seed(1)),
        one_by_one,
        peer_name="one image at a time",
        difference=max_difference,
        tolerance=1e-5,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [
        forward("D", 1.0, 1, repeats=11),
        forward("D", 1 / 4, 8, repeats=11),
        training_step("D", 1 / 4, 8, repeats=9),
        training_step("D", 1.0, 1, repeats=7),
        dense_against_crops(),
        normalisation(),
        jitter(),
    ]
    for row in rows:
        print(f"{row.name}: {row.ours_seconds * 1e3:.3g} ms, {row.ratio:.2f} times faster than {row.peer}")
    print(write_table("vision", rows, peers=["pytorchcv"]))

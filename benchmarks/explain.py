"""Deconvnet, guided backpropagation and gradients against captum: equal results, then times in turn.

``python benchmarks/explain.py`` writes ``results/benchmarks/explain.json`` and ``.md``. Needs captum (the ``[oracle]``
extra). One thread. Every rectifier is a module, so that captum's results are right; the exception, functional
rectifiers, is in ``tests/explain/test_deconvnet.py``.
"""

import warnings
from collections.abc import Callable, Iterator

import torch
from captum.attr import Deconvolution, GuidedBackprop, NeuronDeconvolution, Saliency
from torch import Tensor, nn

from claimwise.explain import deconvnet, gradient_saliency, guided_backpropagation
from claimwise.vision import VGG, SqueezeNet
from timing import Row, compare, max_difference, write_table

UNITS = 16


def models() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Name, model, images: from one where a method's own bookkeeping shows to one where it does not."""
    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    yield "LeNet-like, 1 image 28x28", small, torch.rand(1, 1, 28, 28)
    yield "LeNet-like, 64 images 28x28", small, torch.rand(64, 1, 28, 28)
    yield (
        "VGG-D at a quarter of its width, 4 images 64x64",
        VGG("D", width=0.25, image_size=64),
        torch.rand(4, 3, 64, 64),
    )
    yield "SqueezeNet 1.1, 4 images 128x128", SqueezeNet(), torch.rand(4, 3, 128, 128)


def relative(scale: Callable[[], Tensor]) -> Callable[[Tensor, Tensor], float]:
    """Largest difference as a share of the peer's largest number, ours divided by ``scale()``.

    captum starts its deconvolution from 1, the paper from the activation kept; both scale with what they start from.
    """
    return lambda ours, theirs: max_difference(ours / scale(), theirs) / float(theirs.abs().max())


def one_class(name: str, model: nn.Module, x: Tensor) -> list[Row]:
    """The map of one class, for every image of the batch."""
    with torch.no_grad():
        score = model(x)
        chosen = int((score.amin(0)).argmax())  # positive for every image: then the scaling is no matter of sign
        factor = score[:, chosen].reshape(-1, 1, 1, 1)
    assert (factor > 0).all()
    rows = []
    for method, peer in (
        (deconvnet, Deconvolution(model)),
        (guided_backpropagation, GuidedBackprop(model)),
        (gradient_saliency, Saliency(model)),
    ):
        extra = {"abs": False} if isinstance(peer, Saliency) else {}
        rows.append(
            compare(
                f"{method.__name__}: {name}",
                lambda method=method: method(model, chosen, x),
                lambda peer=peer, extra=extra: peer.attribute(x, target=chosen, **extra).detach(),
                repeats=21,
                peer_name="captum",
                difference=relative(lambda method=method: factor if method is deconvnet else torch.ones(())),
                tolerance=1e-4,
                clock="processor",
            )
        )
    return rows


def many_units(name: str, model: nn.Module, x: Tensor, layer: str) -> Row:
    """The middle of the first maps of a layer, for every image of the batch."""
    parts: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: parts.append(output))
    with torch.no_grad():
        model(x)
    handle.remove()
    place = tuple(side // 2 for side in parts[0].shape[2:])
    units = torch.arange(UNITS).expand(len(x), UNITS)
    factor = parts[0][:, :UNITS, place[0], place[1]]
    peer = NeuronDeconvolution(model, model.get_submodule(layer))

    def theirs() -> Tensor:
        return torch.stack([peer.attribute(x, (unit, *place)).detach() for unit in range(UNITS)], 1)

    # as captum starts from 1 also where the unit is silent, its maps are scaled up to ours, not ours down to its
    return compare(
        f"deconvnet of {UNITS} units: {name}",
        lambda: deconvnet(model, layer, x, unit=units, position=place),
        theirs,
        repeats=11,
        peer_name="captum",
        difference=lambda ours, their: (
            max_difference(ours, their * factor[..., None, None, None]) / float(ours.abs().max())
        ),
        tolerance=1e-4,
        clock="processor",
        note="ours: one forward pass for all units",
    )


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="captum")
    rows: list[Row] = []
    for name, model, x in models():
        model.eval()
        with torch.no_grad():
            last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1]
            last.bias.add_(1)  # some class then has a positive score for every image
        rows += one_class(name, model, x)
        if name.startswith("LeNet-like, 64"):
            rows.append(many_units(name, model, x, "4"))
        if name.startswith("SqueezeNet"):
            rows.append(many_units(name, model, x, "fire5.expand3x3_relu"))
    path = write_table("explain", rows, peers=["captum"])
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()

"""A layer by its name, and what it puts out: the door through which everything of this package reads a model.

Layers are named as ``model.named_modules()`` names them (``"features.3"``), or given as the module itself. Reading
uses forward hooks that are gone when the call returns, also after an exception.
"""

import difflib
from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from claimwise.undisturbed import Mode, undisturbed

Layer = str | nn.Module


def find_layer(model: nn.Module, layer: Layer) -> nn.Module:
    r"""The layer of that name, or the module itself if it is part of the model.

    In formulas: none.

    Args:
        model: Any module.
        layer: A name as ``model.named_modules()`` gives it, ``""`` for the model itself; or a module of the model.

    Shape:
        None.

    Raises:
        TypeError: ``model`` no module; ``layer`` neither a name nor a module.
        ValueError: No layer of that name (the names nearest to it are listed), or a module that is not in the model.

    Differences from the paper:
        none; no paper describes it.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> find_layer(model, "1")
        ReLU()
    """
    return _find("find_layer", model, layer)[1]


def record(
    model: nn.Module,
    layers: Layer | Sequence[Layer],
    x: Tensor,
    *,
    call: int | None = None,
    mode: Mode = "eval",
) -> dict[str, Tensor]:
    r"""What layers put out while ``model`` reads ``x``.

    In formulas: :math:`\phi_k(x)`, the output of layer :math:`k`, for every layer asked for.

    Args:
        model: Any module, run once on ``x`` in eval mode and left as it was.
        layers: One layer or several, as :func:`find_layer` takes them.
        x: The model's input.
        call: Which call of a layer that runs more than once in a pass, from 0 (a rectifier that is used again and
            again); by default a layer must run exactly once, because taking one of its calls silently would be a
            guess.
        mode: ``"as-is"`` runs the model in the modes it has, and restores nothing.

    Shape:
        Whatever the layers put out. Results are copies, so that a later in-place rectifier does not change them. They
        carry a graph if gradients are enabled where you call.

    Raises:
        TypeError: As :func:`find_layer`; a layer that puts out something other than one tensor.
        ValueError: As :func:`find_layer`; a layer that does not run, or runs several times without ``call``.

    Differences from the paper:
        none; no paper describes it.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> {name: tuple(a.shape) for name, a in record(model, ["0", "2"], torch.ones(5, 2)).items()}
        {'0': (5, 3), '2': (5, 1)}
    """
    wanted = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    found = dict(_find("record", model, layer) for layer in wanted)
    if not found:
        raise ValueError("record: layers must name at least one layer, got none")
    if call is not None and call < 0:
        raise ValueError(f"record: call must be >= 0 (the first call is 0), got {call}")
    calls = dict.fromkeys(found, 0)
    activations: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        seen = calls[name]
        calls[name] += 1
        if seen != (call or 0):
            return
        if not isinstance(output, Tensor):
            raise TypeError(
                f"record: layer {name!r} must put out one tensor, got {type(output).__name__}; name a layer within it"
            )
        activations[name] = output.clone()

    handles: list[RemovableHandle] = []
    try:
        for name, module in found.items():
            handles.append(module.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output)))
        with undisturbed(model, mode):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    for name, times in calls.items():
        if times == 0:
            raise ValueError(
                f"record: layer {name!r} ({type(found[name]).__name__}) did not run; name one that the model calls"
            )
        if call is None and times > 1:
            raise ValueError(
                f"record: layer {name!r} ({type(found[name]).__name__}) ran {times} times in one pass; say which of "
                f"them with call=0..{times - 1}"
            )
        if call is not None and call >= times:
            raise ValueError(f"record: layer {name!r} ran {times} times in one pass, got call={call}; count from 0")
    return {name: activations[name] for name in found}


def _find(asker: str, model: nn.Module, layer: Layer) -> tuple[str, nn.Module]:
    """Name and module of ``layer``; ``asker`` is whom an error names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{asker}: model must be an nn.Module to have layers, got {type(model).__name__}")
    names = dict(model.named_modules(remove_duplicate=False))  # a module that stands in two places has both names
    if isinstance(layer, nn.Module):
        for name, module in names.items():
            if module is layer:
                return name, module
        raise ValueError(
            f"{asker}: this {type(layer).__name__} is not a module of the {type(model).__name__}; "
            "give a module of model.modules() (not of a copy), or its name"
        )
    if not isinstance(layer, str):
        raise TypeError(f"{asker}: a layer must be a name or a module, got {type(layer).__name__}")
    if layer in names:
        return layer, names[layer]
    known = [name for name in names if name]
    near = difflib.get_close_matches(layer, known, n=5, cutoff=0.5)
    listed = near or known[:10]
    more = "" if near or len(known) <= len(listed) else f", ... ({len(known)} in all)"
    hint = (
        f"{'nearest' if near else 'its layers'}: {', '.join(map(repr, listed))}{more}" if known else "it has no layers"
    )
    raise ValueError(f"{asker}: {type(model).__name__} has no layer {layer!r}; {hint}")

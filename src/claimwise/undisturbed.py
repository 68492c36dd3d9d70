"""Leave a model as it was found.

Attacks, explanations and measurements ask a model for outputs and gradients; they must not change it.
:func:`undisturbed` puts every module in eval mode and gives modes and buffers back on leaving, also after an
exception. Parameters and their ``.grad`` need no restoring: such functions call ``torch.autograd.grad``, which fills
none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

Mode = Literal["eval", "as-is"]


@contextmanager
def undisturbed(model: Callable[..., Any], mode: Mode = "eval") -> Iterator[None]:
    r"""Run a block with ``model`` in eval mode, then restore its modes and buffers.

    In formulas: none.

    Args:
        model: Any module. Another callable has no mode to set and is left alone; a function that closes over a
            module has to see to its mode itself.
        mode: ``"eval"`` for the above; ``"as-is"`` runs the model in the modes it has and restores nothing (dropout
            drops, batch-norm statistics move).

    Shape:
        None.

    Raises:
        ValueError: ``mode`` is neither of the two.

    Differences from the paper:
        none; no paper describes it.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
        >>> with undisturbed(model):
        ...     model[1].training
        False
        >>> model[1].training
        True
    """
    if mode not in ("eval", "as-is"):
        raise ValueError(f"undisturbed: mode must be 'eval' or 'as-is', got {mode!r}")
    if mode == "as-is" or not isinstance(model, nn.Module):
        yield
        return
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [
        (module, name, buffer, _version(buffer), buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        if any(modes):
            model.eval()
        yield
    finally:
        if any(modes):
            model.train(modes[0])  # through the module's own train(), which may do more than set a flag
            for module, training in zip(modules, modes, strict=True):
                module.training = training
        for module, name, buffer, version, value in buffers:
            module._buffers[name] = buffer
            # Writing back an unchanged buffer would invalidate graphs that saved it.
            if version is None or buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


def _version(buffer: Tensor) -> int | None:
    return None if buffer.is_inference() else buffer._version

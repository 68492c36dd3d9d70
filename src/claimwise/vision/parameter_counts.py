"""Parameters of a network, counted layer by layer.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, table 2 and section 2.3 count their networks so.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerParameters:
    """The parameters that one layer holds itself (not those of the layers inside it)."""

    name: str
    """Where the layer is in the network, as in ``named_modules``; empty for the network itself."""
    kind: str
    """Class of the layer."""
    weights: int
    biases: int

    @property
    def total(self) -> int:
        return self.weights + self.biases


@dataclass(frozen=True)
class ParameterCounts:
    """What :func:`parameter_counts` returns. Prints as a table."""

    layers: tuple[LayerParameters, ...]
    """The layers that hold parameters, in order."""

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def biases(self) -> int:
        return sum(layer.biases for layer in self.layers)

    @property
    def total(self) -> int:
        return self.weights + self.biases

    def __str__(self) -> str:
        rows = [(layer.name, layer.kind, layer.weights, layer.biases) for layer in self.layers]
        rows.append(("total", "", self.weights, self.biases))
        name, kind = (max(len(str(row[column])) for row in rows) for column in (0, 1))
        return "\n".join(f"{row[0]:<{name}}  {row[1]:<{kind}}  {row[2]:>13,}  {row[3]:>9,}" for row in rows)


def parameter_counts(model: nn.Module) -> ParameterCounts:
    """Counts the parameters of any network by layer, weights and biases apart.

    A layer of ``n`` filters of size ``k x k`` over ``c`` channels has ``n c k k`` weights and ``n`` biases. A
    parameter that several layers share counts once, where it first occurs. Biases are the parameters whose name ends
    in ``bias``, or that a recurrent layer calls ``bias_...``; buffers are not counted.

    Args:
        model: Any module; on the meta device it takes no memory. It is only read.

    Raises:
        ValueError: A lazy layer that does not know its shapes yet.

    Differences from the paper:
        None; the paper gives millions, rounded.

    Example:
        >>> from torch import nn
        >>> from claimwise.vision import parameter_counts
        >>> counts = parameter_counts(nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Linear(10, 2, bias=False)))
        >>> print(counts)
        0      Conv2d          1,728         64
        2      Linear             20          0
        total                  1,748         64
        >>> counts.total
        1812
    """
    seen: set[int] = set()
    layers = []
    for name, layer in model.named_modules():
        counts = {"weights": 0, "biases": 0}
        for own, parameter in layer.named_parameters(recurse=False):
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ValueError(
                    f"parameter_counts: {name}.{own} has no shape yet; run the model on one batch before counting"
                )
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            counts["biases" if own.endswith("bias") or own.startswith("bias_") else "weights"] += parameter.numel()
        if any(counts.values()):
            layers.append(LayerParameters(name, type(layer).__name__, **counts))
    return ParameterCounts(tuple(layers))

"""The nine LSTM architectures of the search space odyssey, as a table of switches over one cell.

K. Greff, R. K. Srivastava, J. Koutník, B. R. Steunebrink, J. Schmidhuber, *LSTM: A Search Space Odyssey*, IEEE
Transactions on Neural Networks and Learning Systems 28 (2017), section II (vanilla) and section III (the variants),
https://arxiv.org/abs/1503.04069.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True)
class LSTMVariant:
    """Which parts of the vanilla LSTM a cell has. What is left out saves its parameters too.

    Raises:
        TypeError: a switch that is no bool.
        ValueError: ``coupled`` without an input and a forget gate to couple; ``gate_recurrence`` without any gate.

    Example:
        >>> own = LSTMVariant("no peepholes, coupled", peepholes=False, coupled=True)
        >>> own.own_gates
        ('input', 'output')
    """

    name: str
    """What the variant is called."""
    input_gate: bool = True
    """Off: i = 1."""
    forget_gate: bool = True
    """Off: f = 1."""
    output_gate: bool = True
    """Off: o = 1."""
    input_activation: bool = True
    """Off: g(x) = x, where z = g(...) is the candidate."""
    output_activation: bool = True
    """Off: h(x) = x, where y = h(c) o is the output."""
    peepholes: bool = True
    """Gates see the cell: those of input and forgetting its last state, that of output its new one."""
    coupled: bool = False
    """f = 1 - i, so that the forget gate has no parameters of its own."""
    gate_recurrence: bool = False
    """Every gate sees all gates of the step before."""

    def __post_init__(self) -> None:
        for field in fields(self)[1:]:
            if not isinstance(value := getattr(self, field.name), bool):
                raise TypeError(f"LSTMVariant: {field.name} must be True or False, got {value!r}")
        if self.coupled and not (self.input_gate and self.forget_gate):
            raise ValueError(
                "LSTMVariant: coupled=True means f = 1 - i and needs both gates, got "
                f"input_gate={self.input_gate}, forget_gate={self.forget_gate}; leave both True"
            )
        if self.gate_recurrence and not self.own_gates:
            raise ValueError("LSTMVariant: gate_recurrence=True needs a gate, got none; leave one of the gates True")

    @property
    def own_gates(self) -> tuple[str, ...]:
        """The gates that have parameters of their own, in the order of the parameters' rows."""
        present = {
            "input": self.input_gate,
            "forget": self.forget_gate and not self.coupled,
            "output": self.output_gate,
        }
        return tuple(gate for gate, here in present.items() if here)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of rows in ``weight_ih`` and ``weight_hh``: torch's order i, f, g, o without those left out."""
        gates = self.own_gates
        before = tuple(gate for gate in gates if gate != "output")
        return (*before, "candidate", *(gate for gate in gates if gate == "output"))


LSTM_VARIANTS: Mapping[str, LSTMVariant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            LSTMVariant("vanilla"),
            LSTMVariant("NIG", input_gate=False),
            LSTMVariant("NFG", forget_gate=False),
            LSTMVariant("NOG", output_gate=False),
            LSTMVariant("NIAF", input_activation=False),
            LSTMVariant("NOAF", output_activation=False),
            LSTMVariant("NP", peepholes=False),
            LSTMVariant("CIFG", coupled=True),
            LSTMVariant("FGR", gate_recurrence=True),
        )
    }
)
"""The vanilla LSTM and its eight variants: no input, forget or output gate, no input or output activation function,
no peepholes, coupled input and forget gate, full gate recurrence."""


def find_variant(variant: str | LSTMVariant) -> LSTMVariant:
    """The variant of a name, or the variant itself."""
    if isinstance(variant, LSTMVariant):
        return variant
    if variant not in LSTM_VARIANTS:
        raise ValueError(
            f"LSTM: variant must be one of {', '.join(LSTM_VARIANTS)} or an LSTMVariant of your own, got {variant!r}"
        )
    return LSTM_VARIANTS[variant]

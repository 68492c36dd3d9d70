"""Random binary models, and a twin of the library that evaluates them one unit at a time with dictionaries."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from claimwise.causal import SCM, Bernoulli, Variable

PARENTS = {"X": (), "W": ("X",), "Z": ("X", "W"), "Y": ("X", "W", "Z")}
"""A complete graph on four variables."""


@dataclass
class BinaryModel:
    """Truth tables over (parents, own coin, shared coin), as a library model and for the twin."""

    model: SCM
    tables: dict[str, torch.Tensor]
    chances: dict[str, float]

    def value(self, name: str, u: dict[str, int], do: dict[str, int]) -> int:
        """Y_do(u) by recursion."""
        if name in do:
            return do[name]
        inputs = [self.value(parent, u, do) for parent in PARENTS[name]]
        return int(self.tables[name][(*inputs, u[f"U_{name}"], u["C"])])

    def expectation(self, per_unit: Callable[[dict[str, int]], float]) -> float:
        """Sum over every u of P(u) times per_unit(u)."""
        total = 0.0
        for bits in itertools.product((0, 1), repeat=len(self.chances)):
            u = dict(zip(self.chances, bits, strict=True))
            p = 1.0
            for name, bit in u.items():
                p *= self.chances[name] if bit else 1 - self.chances[name]
            total += p * per_unit(u)
        return total


@pytest.fixture
def binary_model() -> Callable[[int], BinaryModel]:
    """A random model by seed: every variable reads its own coin and a coin C that all share."""

    def build(seed: int) -> BinaryModel:
        generator = torch.Generator().manual_seed(seed)
        tables = {
            name: torch.randint(2, (2,) * (len(parents) + 2), generator=generator) for name, parents in PARENTS.items()
        }
        chances = {
            name: float(torch.rand((), generator=generator, dtype=torch.float64))
            for name in ("C", *(f"U_{n}" for n in PARENTS))
        }
        variables = {
            name: Variable(lambda *bits, table=tables[name]: table[bits], parents=parents, noise=(f"U_{name}", "C"))
            for name, parents in PARENTS.items()
        }
        model = SCM(variables, noise={name: Bernoulli(p) for name, p in chances.items()})
        return BinaryModel(model, tables, chances)

    return build


@pytest.fixture
def and_gate() -> SCM:
    """The paper's Y = X and Z, Z = X."""
    return SCM(
        {
            "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
            "Z": Variable(lambda x: x, parents=("X",)),
            "Y": Variable(lambda x, z: x & z, parents=("X", "Z")),
        }
    )

"""Structural causal models, interventions and nested counterfactuals.

Pearl, *Direct and Indirect Effects*, UAI 2001, https://arxiv.org/abs/1301.2300, section 2; *Causality*, 2009,
definitions 7.1.1 (model), 7.1.2 (submodel M_x) and 7.1.4 (counterfactual Y_x(u)).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import prod
from typing import Any, Union

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from claimwise.causal.causal_graph import CausalGraph, check_known, topological_order
from claimwise.causal.noise import Finite, Noise


@dataclass(frozen=True)
class Variable:
    """One structural equation.

    Args:
        function: ``function(*parents, *noise)`` with one tensor ``(units, ...)`` each, in the order named below;
            returns the variable's values ``(units, ...)``. It must be deterministic: chance comes from ``noise`` alone.
        parents: Names of the variables it reads.
        noise: What exogenous noise it reads: a :class:`Noise` of its own, the name of a source of the model (which
            other variables may read too), several names, or nothing.
    """

    function: Callable[..., Any]
    parents: tuple[str, ...] = ()
    noise: Noise | str | tuple[str, ...] = ()


@dataclass(frozen=True)
class Counterfactual:
    """The value that ``variable`` would take, had the variables in ``do`` been set: Y_{x, Z_{x*}}(u) is

    ``Counterfactual("Y", {"X": x, "Z": Counterfactual("Z", {"X": reference})})``.

    Args:
        variable: The variable asked for.
        do: What each intervened variable is set to: a number, a tensor with one value per unit, or another
            counterfactual, evaluated on the same units.
    """

    variable: str
    do: Mapping[str, Union[float, Tensor, "Counterfactual"]] = field(default_factory=dict)


Setting = float | Tensor | Counterfactual
"""What a variable may be set to."""


@dataclass(frozen=True)
class Units:
    """Background states u: the same ones drive every counterfactual world, which makes a contrast a unit's own.

    Made by :meth:`SCM.enumerate` (every state with its probability) or :meth:`SCM.sample` (independent draws).
    """

    noise: Mapping[str, Tensor]
    """By source: values, one row a unit."""
    weights: Float[Tensor, "units"] | None
    """P(u) of each unit; None for draws, which weigh the same."""
    count: int
    """How many units."""

    @property
    def exact(self) -> bool:
        """Whether these are all states (an expectation is then a sum, not an estimate)."""
        return self.weights is not None

    def mean(self, values: Shaped[Tensor, "units *value"]) -> Float[Tensor, "*value"]:
        """E over units: the probability-weighted sum over states, or the mean over draws."""
        real = values if values.is_floating_point() else values.to(torch.float64)
        if self.weights is None:
            return real.mean(0)
        weights = self.weights if self.weights.dtype == real.dtype else self.weights.to(real)
        return weights @ real if real.ndim == 1 else torch.tensordot(weights, real, dims=1)


class SCM:
    r"""A structural causal model.

    .. math:: v_i = f_i(pa_i, u_i), \qquad u \sim P(u)

    :math:`v_i` is a variable, :math:`pa_i` its parents' values, :math:`f_i` its function, and :math:`u_i` the part of
    the background :math:`u` that it reads. Two variables that read one source are confounded (a semi-Markovian
    model); when each reads its own, the model is Markovian.

    Args:
        variables: Name to :class:`Variable`, or such pairs; the order does not matter.
        noise: Named sources that several variables may read.

    Raises:
        ValueError: A cycle (named), an unknown parent or source, a name or a parent given twice, a source that no
            variable reads.

    Differences from the paper:
        none.

    Example:
        Two variables that read the same noise:

        >>> from claimwise.causal import SCM, Bernoulli, Counterfactual, Variable
        >>> model = SCM(
        ...     {
        ...         "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
        ...         "Z": Variable(lambda x, u: x ^ u, parents=("X",), noise="U"),
        ...         "Y": Variable(lambda x, z, u: (x & z) | u, parents=("X", "Z"), noise="U"),
        ...     },
        ...     noise={"U": Bernoulli(0.2)},
        ... )
        >>> model.graph
        CausalGraph(X -> Z, X -> Y, Z -> Y, Y <-> Z)
        >>> units = model.enumerate()
        >>> units.count
        4
        >>> nested = Counterfactual("Y", {"X": 1, "Z": Counterfactual("Z", {"X": 0})})
        >>> model.evaluate(nested, units).tolist()
        [0, 0, 1, 1]
    """

    def __init__(
        self,
        variables: Mapping[str, Variable] | Iterable[tuple[str, Variable]],
        noise: Mapping[str, Noise] | None = None,
    ) -> None:
        pairs = list(variables.items()) if isinstance(variables, Mapping) else list(variables)
        names = [name for name, _ in pairs]
        sources = dict(noise or {})
        if not names:
            raise ValueError("SCM: variables must name at least one variable, got none")
        for name in names:
            if names.count(name) > 1 or name in sources:
                raise ValueError(f"SCM: each name must be used once, got {name!r} twice; rename one")
        self.variables: dict[str, Variable] = dict(pairs)
        self.readings: dict[str, tuple[str, ...]] = {}
        """By variable: the sources that it reads."""
        for name, variable in pairs:
            for parent in variable.parents:
                check_known([parent], names, f"SCM: a parent of {name!r}")
                if variable.parents.count(parent) > 1:
                    raise ValueError(f"SCM: each parent must be named once, got {parent!r} twice for {name!r}")
            if isinstance(variable.noise, Noise):
                own = f"U_{name}"
                if own in sources or own in names:
                    raise ValueError(
                        f"SCM: {own!r} is the own noise of {name!r}, but the name is used; rename that one"
                    )
                sources[own] = variable.noise
                self.readings[name] = (own,)
            else:
                self.readings[name] = (variable.noise,) if isinstance(variable.noise, str) else tuple(variable.noise)
        for name, read in self.readings.items():
            check_known(read, tuple(sources), f"SCM: the noise of {name!r}")
        self.sources = sources
        for source in sources:
            if not any(source in read for read in self.readings.values()):
                raise ValueError(
                    f"SCM: every noise source must be read by a variable, got {source!r} unread; remove it"
                )
        self.order = topological_order({n: v.parents for n, v in pairs}, "SCM", "parents")

    @property
    def graph(self) -> CausalGraph:
        """The model's causal graph; variables that read one source are joined by a two-headed arrow."""
        edges = [(parent, name) for name in self.order for parent in self.variables[name].parents]
        readers = [[n for n in self.order if source in self.readings[n]] for source in self.sources]
        return CausalGraph(edges, self.order, {frozenset(group) for group in readers if len(group) > 1})

    @property
    def markovian(self) -> bool:
        """Whether no two variables read one source (sources are independent of each other)."""
        return all(set(self.readings[a]).isdisjoint(self.readings[b]) for a, b in combinations(self.order, 2))

    def enumerate(self, *, limit: int = 2**22, device: torch.device | str = "cpu") -> Units:
        """Every state of the background with its probability: the product of all sources' values.

        Args:
            limit: Largest number of states to build.
            device: Where.

        Raises:
            ValueError: A source that is not :class:`Finite`, or more states than ``limit``.
        """
        finite = {name: source for name, source in self.sources.items() if isinstance(source, Finite)}
        if others := [name for name in self.sources if name not in finite]:
            raise ValueError(
                f"SCM.enumerate: every noise source must be Finite, got {others[0]} of type "
                f"{type(self.sources[others[0]]).__name__}; use sample(draws, generator=...)"
            )
        sizes = [len(source.values) for source in finite.values()]
        count = prod(sizes)
        if count > limit:
            raise ValueError(
                f"SCM.enumerate: at most {limit} states (limit), got {count}; raise limit or use "
                "sample(draws, generator=...)"
            )
        weights = torch.ones(1, dtype=torch.float64, device=device)
        noise = {}
        for axis, (name, source) in enumerate(finite.items()):  # one axis a source, the last varies fastest
            weights = torch.outer(weights, source.probabilities.to(device)).flatten()
            values = source.values.to(device)
            rest = values.shape[1:]
            values = values.reshape(*(-1 if other == axis else 1 for other in range(len(sizes))), *rest)
            noise[name] = values.expand(*sizes, *rest).reshape(count, *rest)  # (units, *value)
        return Units(noise, weights, count)

    def sample(self, draws: int, *, generator: torch.Generator) -> Units:
        """``draws`` independent background states, on the generator's device.

        Raises:
            ValueError: ``draws`` below 1.
        """
        if draws < 1:
            raise ValueError(f"SCM.sample: draws must be >= 1, got {draws}")
        return Units({name: source.draw(draws, generator) for name, source in self.sources.items()}, None, draws)

    def solve(self, units: Units, do: Mapping[str, Setting] | None = None) -> dict[str, Shaped[Tensor, "units ..."]]:
        """Every variable's values in the submodel M_do, for each unit.

        Args:
            units: The background states.
            do: Variables that are set, each to a number, one value per unit, or a :class:`Counterfactual`.

        Shape:
            each value ``(units, ...)``.

        Raises:
            ValueError: An unknown variable, a value of the wrong length, a function that returns another number of
                rows or non-finite values.
        """
        fixed = self._settings(units, do)
        values: dict[str, Tensor] = {}
        for name in self.order:
            if name in fixed:
                values[name] = fixed[name]
            else:
                values[name] = self.respond(name, [values[parent] for parent in self.variables[name].parents], units)
        return values

    def evaluate(self, counterfactual: Counterfactual, units: Units) -> Shaped[Tensor, "units ..."]:
        """The counterfactual's value for each unit.

        Shape:
            ``(units, ...)``.

        Raises:
            ValueError: As :meth:`solve`.
        """
        check_known([counterfactual.variable], self.order, "SCM")
        return self.solve(units, counterfactual.do)[counterfactual.variable]

    def respond(self, name: str, parents: list[Tensor], units: Units) -> Shaped[Tensor, "units ..."]:
        """f_i(pa_i, u_i): the values of one variable when its parents take the given values."""
        returned = self.variables[name].function(*parents, *(units.noise[source] for source in self.readings[name]))
        return self._column(returned, units, f"the function of {name!r}")

    def _settings(self, units: Units, do: Mapping[str, Setting] | None) -> dict[str, Tensor]:
        do = do or {}
        check_known(do, self.order, "SCM: do")
        return {
            name: self._column(
                self.evaluate(value, units) if isinstance(value, Counterfactual) else value, units, f"do({name})"
            )
            for name, value in do.items()
        }

    def _column(self, value: Any, units: Units, where: str) -> Tensor:
        """``value`` with one row per unit, finite."""
        if not isinstance(value, Tensor):
            if isinstance(value, bool | int):
                value = torch.tensor(value)
            elif isinstance(value, float):
                value = torch.tensor(value, dtype=torch.float64)
            else:
                raise ValueError(f"SCM: {where} must be a number or a tensor, got {type(value).__name__}")
        device = next((noise.device for noise in units.noise.values()), value.device)
        if value.device != device:
            value = value.to(device)
        if value.ndim == 0:
            value = value.expand(units.count)
        if len(value) != units.count:
            raise ValueError(
                f"SCM: {where} must have one row for each of the {units.count} units, got shape {tuple(value.shape)}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"SCM: {where} must be finite, got {value[~torch.isfinite(value)][0].item()}")
        return value

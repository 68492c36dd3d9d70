"""Causal graphs and d-separation.

Pearl, *Causality: Models, Reasoning, and Inference*, 2nd edition, 2009, definition 1.2.3; the test is the
moralisation criterion of Lauritzen, Dawid, Larsen and Leimer, *Independence properties of directed Markov fields*,
Networks 20, 1990, https://doi.org/10.1002/net.3230200503.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches


class CausalGraph:
    r"""A directed acyclic graph of named variables, with two-headed arrows for shared unobserved causes.

    .. math:: G = (V, E, B), \quad E \subseteq V \times V \text{ acyclic}, \quad B \subseteq \{\{a, b\} : a \ne b\}

    :math:`V` are the variables, an edge :math:`(a, b) \in E` says that :math:`a` is a parent of :math:`b`, and
    :math:`\{a, b\} \in B` that an unobserved cause points into both.

    Args:
        edges: Pairs (parent, child).
        variables: Further variables, needed for those without any edge.
        confounded: Pairs of variables that share an unobserved cause (two-headed arrows). A group of three or more
            variables is one cause that points into each of them.

    Raises:
        ValueError: A cycle (named in the message), an edge or a group given twice, or a self-loop.

    Differences from the paper:
        none.

    Example:
        >>> from claimwise.causal import CausalGraph
        >>> graph = CausalGraph([("X", "Z"), ("Z", "Y"), ("X", "Y")])
        >>> graph.order
        ('X', 'Z', 'Y')
        >>> graph.without_arrows_from("X", "Z").d_separated("Y", "Z")
        True
        >>> CausalGraph([("X", "Z"), ("Z", "X")])
        Traceback (most recent call last):
            ...
        ValueError: CausalGraph: edges must form no cycle, got X -> Z -> X; remove one of these edges
    """

    variables: tuple[str, ...]
    edges: frozenset[tuple[str, str]]
    confounded: frozenset[frozenset[str]]
    order: tuple[str, ...]
    """The variables, each after its parents (ties as given)."""

    def __init__(
        self,
        edges: Iterable[tuple[str, str]],
        variables: Iterable[str] = (),
        confounded: Iterable[Iterable[str]] = (),
    ) -> None:
        pairs = [(parent, child) for parent, child in edges]
        groups = [frozenset(group) for group in confounded]
        for pair in pairs:
            if pairs.count(pair) > 1:
                raise ValueError(f"CausalGraph: each edge must be given once, got {pair[0]} -> {pair[1]} twice")
        for group in groups:
            if len(group) < 2:
                raise ValueError(f"CausalGraph: confounded must name two variables or more, got {sorted(group)}")
        named = [
            *variables,
            *(name for pair in pairs for name in pair),
            *(n for group in groups for n in sorted(group)),
        ]
        self.variables = tuple(dict.fromkeys(named))
        self.edges = frozenset(pairs)
        self.confounded = frozenset(groups)
        self._parents: dict[str, tuple[str, ...]] = {
            name: tuple(parent for parent, child in pairs if child == name) for name in self.variables
        }
        self.order = topological_order(self._parents, "CausalGraph", "edges")

    def __repr__(self) -> str:
        arrows = ", ".join(f"{a} -> {b}" for b in self.order for a in self._parents[b])
        arcs = "".join(f", {' <-> '.join(sorted(group))}" for group in sorted(self.confounded, key=sorted))
        return f"CausalGraph({arrows}{arcs})"

    def parents(self, name: str) -> tuple[str, ...]:
        """The variables with an arrow into ``name``, in the order their edges were given."""
        self._check([name])
        return self._parents[name]

    def ancestors(self, *names: str) -> frozenset[str]:
        """The variables from which an arrow path leads to one of ``names``; ``names`` themselves included."""
        self._check(names)
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self._parents[name])
        return frozenset(found)

    def descendants(self, *names: str) -> frozenset[str]:
        """The variables to which an arrow path leads from one of ``names``; ``names`` themselves included."""
        self._check(names)
        found = set(names)
        for name in self.order:
            if not found.isdisjoint(self._parents[name]):
                found.add(name)
        return frozenset(found)

    def between(self, source: str, target: str) -> tuple[str, ...]:
        """The variables on arrow paths from ``source`` to ``target``, both excluded, in :attr:`order`."""
        on_path = self.descendants(source) & self.ancestors(target) - {source, target}
        return tuple(name for name in self.order if name in on_path)

    def without_arrows_from(self, *names: str) -> "CausalGraph":
        r"""The graph :math:`G_{\underline{names}}`: every arrow that leaves one of ``names`` is removed.

        Two-headed arrows point into their variables, so they stay.
        """
        self._check(names)
        kept = [(a, b) for b in self.order for a in self._parents[b] if a not in names]
        return CausalGraph(kept, self.variables, self.confounded)

    def d_separated(self, a: str | Iterable[str], b: str | Iterable[str], given: str | Iterable[str] = ()) -> bool:
        r"""Whether ``given`` blocks every path between ``a`` and ``b``.

        .. math:: (A \perp\!\!\!\perp B \mid W)_G \iff A \text{ and } B \text{ are not connected in }
            \big(G_{\mathrm{An}(A \cup B \cup W)}\big)^{\mathrm{moral}} \setminus W

        :math:`G_{\mathrm{An}(S)}` is the graph on the ancestors of :math:`S`, moral means that parents of a common
        child are joined and directions dropped. Shared unobserved causes enter as parents that are never observed.

        Args:
            a: Variable or variables :math:`A`.
            b: Variable or variables :math:`B`.
            given: The conditioning set :math:`W`.

        Raises:
            ValueError: A variable that the graph does not have, an empty ``a`` or ``b``, or sets that overlap.

        Differences from the paper:
            none.

        Example:
            >>> from claimwise.causal import CausalGraph
            >>> collider = CausalGraph([("A", "C"), ("B", "C"), ("C", "D")])
            >>> from claimwise.causal import CausalGraph
            >>> collider.d_separated("A", "B"), collider.d_separated("A", "B", given="D")
            (True, False)
        """
        left, right, blocked = _names(a), _names(b), _names(given)
        self._check(left | right | blocked)
        if not left or not right:
            raise ValueError(f"d_separated: both sides must name a variable, got {sorted(left)} and {sorted(right)}")
        if overlap := (left & right) | (left & blocked) | (right & blocked):
            raise ValueError(f"d_separated: the three sets must be disjoint, got {sorted(overlap)} in two of them")

        relevant = self.ancestors(*left, *right, *blocked)
        neighbours: dict[object, set[object]] = {name: set() for name in relevant}
        latent: dict[str, list[object]] = {name: [] for name in relevant}
        for group in self.confounded:
            if members := group & relevant:  # the cause is an ancestor of each of its relevant children
                neighbours[group] = set()
                for name in members:
                    latent[name].append(group)
        for child in relevant:
            family: list[object] = [*self._parents[child], *latent[child], child]
            for i, one in enumerate(family):  # joins parents with the child and with each other
                for other in family[:i]:
                    neighbours[one].add(other)
                    neighbours[other].add(one)
        reached: set[object] = set()
        waiting: list[object] = list(left)
        while waiting:
            node = waiting.pop()
            if node not in reached and node not in blocked:
                reached.add(node)
                waiting.extend(neighbours[node])
        return reached.isdisjoint(right)

    def _check(self, names: Iterable[str]) -> None:
        check_known(names, self.variables, "CausalGraph")


def topological_order(parents: Mapping[str, Sequence[str]], where: str, what: str) -> tuple[str, ...]:
    """The keys of ``parents``, each after its parents.

    Raises:
        ValueError: A cycle, which the message names.
    """
    order: list[str] = []
    done: set[str] = set()
    for start in parents:
        path: list[str] = []  # start, one of its unfinished parents, one of that one's, ...
        waiting = [start]
        while waiting:
            name = waiting[-1]
            if name in done:
                waiting.pop()
                continue
            unfinished = [parent for parent in parents[name] if parent not in done]
            if path[-1:] != [name]:
                path.append(name)
            for parent in unfinished:
                if parent in path:
                    cycle = [*reversed(path[path.index(parent) :]), path[-1]]
                    arrows = " -> ".join(_rotated(cycle))
                    raise ValueError(f"{where}: {what} must form no cycle, got {arrows}; remove one of these edges")
            if unfinished:
                waiting.append(unfinished[0])
            else:
                done.add(name)
                order.append(name)
                path.pop()
                waiting.pop()
    return tuple(order)


def _rotated(cycle: list[str]) -> list[str]:
    """The closed walk ``cycle`` from its alphabetically first variable, so that a message does not depend on chance."""
    ring = cycle[:-1]
    first = ring.index(min(ring))
    return [*ring[first:], *ring[:first], ring[first]]


def check_known(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise a ValueError with the nearest match for the first of ``names`` that is not ``known``."""
    for name in names:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(map(str, known))}"
            raise ValueError(f"{where}: unknown variable {name!r}; {hint}")


def _names(names: str | Iterable[str]) -> frozenset[str]:
    return frozenset([names] if isinstance(names, str) else names)

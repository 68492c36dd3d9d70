import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwise.causal import CausalGraph


def test_order_puts_parents_first_and_keeps_lone_variables():
    graph = CausalGraph([("Z", "Y"), ("X", "Z"), ("X", "Y")], variables=["lone"])
    assert set(graph.order) == {"X", "Y", "Z", "lone"}
    for parent, child in graph.edges:
        assert graph.order.index(parent) < graph.order.index(child)


def test_relatives():
    graph = CausalGraph([("A", "B"), ("B", "C"), ("B", "D"), ("E", "D")])
    assert graph.parents("D") == ("B", "E")
    assert graph.ancestors("C") == {"A", "B", "C"}
    assert graph.descendants("B", "E") == {"B", "C", "D", "E"}
    assert graph.between("A", "D") == ("B",)
    assert graph.without_arrows_from("B").edges == {("A", "B"), ("E", "D")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CausalGraph([("B", "C"), ("C", "A"), ("A", "B"), ("A", "D")]), r"got A -> B -> C -> A; remove one"),
        (lambda: CausalGraph([("D", "A"), ("A", "A")]), r"got A -> A; remove"),
        (lambda: CausalGraph([("A", "B"), ("A", "B")]), r"given once, got A -> B twice"),
        (lambda: CausalGraph([], confounded=[("A",)]), r"two variables or more, got \['A'\]"),
        (lambda: CausalGraph([("income", "Y")]).parents("incme"), r"unknown variable 'incme'; did you mean 'income'"),
        (lambda: CausalGraph([("A", "B")]).d_separated("A", "B", given="A"), r"disjoint, got \['A'\]"),
        (lambda: CausalGraph([("A", "B")]).d_separated([], "B"), r"both sides must name"),
    ],
)
def test_bad_graphs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(st.integers(0, 10_000), st.integers(2, 7))
def test_a_graph_with_one_arrow_turned_back_has_a_cycle_or_an_order(seed, size):
    """Whatever the edges: either every edge goes forward in the order, or the error names edges of the graph."""
    rng = random.Random(seed)
    pairs = [(a, b) for a, b in itertools.permutations("ABCDEFG"[:size], 2) if rng.random() < 0.25]
    try:
        order = CausalGraph(pairs).order
    except ValueError as error:
        walk = str(error).split("got ")[1].split(";")[0].split(" -> ")
        assert walk[0] == walk[-1]
        assert set(itertools.pairwise(walk)) <= set(pairs)
    else:
        assert all(order.index(a) < order.index(b) for a, b in pairs)


def test_a_long_chain_needs_no_recursion():
    names = [str(i) for i in range(3000)]
    assert CausalGraph(list(itertools.pairwise(reversed(names)))).order == tuple(reversed(names))


@pytest.mark.parametrize("seed", range(150))
def test_d_separation_equals_networkx(seed):
    networkx = pytest.importorskip("networkx")
    rng = random.Random(seed)
    names = "ABCDEFG"
    edges = [(a, b) for a, b in itertools.combinations(names, 2) if rng.random() < 0.3]
    arcs = [pair for pair in itertools.combinations(names, 2) if rng.random() < 0.08]
    arcs += [tuple(rng.sample(names, 3))] if seed % 5 == 0 else []
    graph = CausalGraph(edges, variables=names, confounded=arcs)
    # The oracle has no two-headed arrows: each becomes a parent outside every set.
    peer = networkx.DiGraph()
    peer.add_nodes_from(names)
    peer.add_edges_from(edges)
    for arc in graph.confounded:
        peer.add_edges_from((arc, name) for name in arc)
    for _ in range(6):
        shuffled = rng.sample(names, len(names))
        a, b, w = set(shuffled[: rng.choice((1, 2))]), {shuffled[2]}, set(shuffled[3 : rng.choice((3, 4, 5))])
        assert graph.d_separated(a, b, w) == networkx.is_d_separator(peer, a, b, w)

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.adversarial import CPPNEncoding, CPPNGenomes, hsv_to_rgb
from claimwise.adversarial.cppn import INPUTS

FUNCTIONS = (
    math.sin,
    lambda p: 2 / (1 + math.exp(-p)) - 1,
    lambda p: math.exp(-p * p),
    lambda p: min(max(p, -3.0), 3.0) / 3,
)


def evolved(encoding, count, generations, seed=0):
    generator = torch.Generator().manual_seed(seed)
    genomes = encoding.initial(count, generator=generator)
    for _ in range(generations):
        genomes = encoding.mutate(genomes, generator=generator)
    return genomes


def node_by_node(encoding, genomes, individual, height, width):
    """The outputs of one network, pixel by pixel and node by node, in double precision; (outputs, height, width)."""
    weights, connected = genomes.weights[individual].double(), genomes.connected[individual]
    activation = genomes.activation[individual].tolist()
    hidden = encoding.hidden
    images = torch.zeros(encoding.outputs, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            x = -1 + 2 * column / (width - 1) if width > 1 else 0.0
            y = -1 + 2 * row / (height - 1) if height > 1 else 0.0
            known = dict(enumerate((x, y, math.hypot(x, y), 1.0)))

            def value(target, known=known):
                total = 0.0
                for source in range(len(INPUTS) + hidden):
                    if connected[source, target]:
                        if source not in known:
                            known[source] = value(source - len(INPUTS))
                        total += (2 * weights[source, target].item() - 1) * encoding.max_weight * known[source]
                return FUNCTIONS[activation[target]](total)

            for output in range(encoding.outputs):
                images[output, row, column] = abs(value(hidden + output))
    return images


def closes_a_cycle(genomes, individual):
    """Depth-first search with colours."""
    inner = genomes.connected[individual, len(INPUTS) :]
    colour = {}

    def visit(node):
        colour[node] = "open"
        if node < inner.shape[0]:
            for target in inner[node].nonzero().squeeze(1).tolist():
                if colour.get(target) == "open" or (target not in colour and visit(target)):
                    return True
        colour[node] = "done"
        return False

    return any(visit(node) for node in range(inner.shape[0]) if node not in colour)


@pytest.mark.parametrize("shape", [(7, 5), (1, 5, 7), (3, 5, 5)])
def test_population_is_rendered_as_genome_by_genome(shape):
    encoding = CPPNEncoding(shape, max_hidden=12, max_weight=2.0)
    genomes = evolved(encoding, 12, 15)
    assert genomes.alive.sum(1).max() >= 4
    images = encoding.render(genomes)
    for individual in range(12):
        expected = node_by_node(encoding, genomes, individual, *shape[-2:])
        expected = hsv_to_rgb(expected) if shape[0] == 3 else expected.reshape(shape)
        # single precision, in sums of a dozen terms of up to 2 through several nodes
        torch.testing.assert_close(images[individual].double(), expected, rtol=0, atol=2e-4)


def test_any_resolution_and_any_block_of_pixels_is_the_same_picture(monkeypatch):
    encoding = CPPNEncoding((9, 9), max_weight=2.0)
    genomes = evolved(encoding, 6, 10)
    small, large = encoding.render(genomes), encoding.render(genomes, size=(25, 17))
    assert large.shape == (6, 25, 17)
    # every third row and second column of the finer grid lie on the coarse one
    torch.testing.assert_close(large[:, ::3, ::2], small, rtol=0, atol=1e-4)
    monkeypatch.setattr("claimwise.adversarial.cppn._BLOCK", 1)
    torch.testing.assert_close(encoding.render(genomes, size=(25, 17)), large, rtol=0, atol=1e-5)


def test_an_individual_alone_is_rendered_as_among_others():
    encoding = CPPNEncoding((8, 8))
    genomes = evolved(encoding, 20, 12)
    images = encoding.render(genomes)
    for individual in range(20):
        alone = encoding.render(genomes.take(torch.tensor([individual])))
        torch.testing.assert_close(alone[0], images[individual], rtol=0, atol=1e-5)


def test_known_networks():
    encoding = CPPNEncoding((1, 3), max_hidden=1, max_weight=1.0)

    def network(activation, sources):
        weights = torch.zeros(1, 5, 2)
        for source, gene in sources.items():
            weights[0, source, 1] = gene
        return CPPNGenomes(weights, weights > 0, torch.zeros(1, 1, dtype=torch.bool), torch.tensor([[0, activation]]))

    x = [-1.0, 0.0, 1.0]
    for kind, function in enumerate(FUNCTIONS):
        pixels = encoding.render(network(kind, {0: 1.0})).flatten().tolist()
        assert pixels == pytest.approx([abs(function(value)) for value in x], abs=1e-6)
    # an output that nothing leads to is its activation of 0
    assert encoding.render(network(2, {})).flatten().tolist() == [1.0] * 3
    assert encoding.render(network(0, {})).flatten().tolist() == [0.0] * 3


def test_starts_without_hidden_nodes_and_fully_connected():
    encoding = CPPNEncoding((3, 8, 8), max_hidden=5)
    genomes = encoding.initial(50, generator=torch.Generator().manual_seed(0))
    assert not genomes.alive.any()
    assert genomes.connected[:, :4, 5:].all()
    assert genomes.connected.sum() == 50 * 12
    assert ((genomes.weights > 0) == genomes.connected).all()
    assert genomes.activation[:, 5:].unique().tolist() == [0, 1, 2, 3]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(4, 4), (3, 4, 4)]),
    st.integers(1, 6),
    st.tuples(*[st.sampled_from([0.0, 0.3, 1.0])] * 5),
)
def test_networks_stay_sound(seed, shape, max_hidden, rates):
    names = ("add_connection", "delete_connection", "change_connection", "add_neuron", "delete_neuron")
    encoding = CPPNEncoding(shape, max_hidden=max_hidden, **dict(zip(names, rates, strict=True)))
    generator = torch.Generator().manual_seed(seed)
    genomes = encoding.initial(6, generator=generator)
    for _ in range(12):
        genomes = encoding.mutate(genomes, generator=generator)
        weights, connected, alive, activation = genomes
        assert not any(closes_a_cycle(genomes, individual) for individual in range(6))
        assert ((weights >= 0) & (weights <= 1)).all()
        assert (weights[~connected] == 0).all()
        dead = ~alive
        assert not connected[:, len(INPUTS) :].any(2)[dead].any()  # nothing leaves or enters a free slot
        assert not connected[:, :, :max_hidden].any(1)[dead].any()
        assert ((activation >= 0) & (activation < 4)).all()
        images = encoding.render(genomes)
        assert images.isfinite().all()
        assert ((images >= 0) & (images <= 1)).all()


OFF = {
    "mutation_rate": 0.0,
    "add_connection": 0.0,
    "delete_connection": 0.0,
    "change_connection": 0.0,
    "add_neuron": 0.0,
    "delete_neuron": 0.0,
}


@pytest.mark.parametrize("name", list(OFF))
def test_each_mutation_does_its_own_thing_at_its_own_rate(name):
    genomes = evolved(CPPNEncoding((6, 6), max_hidden=20), 3000, 8)
    only = CPPNEncoding((6, 6), max_hidden=20, **(OFF | {name: 0.4}))
    mutated = only.mutate(genomes, generator=torch.Generator().manual_seed(1))
    nodes = (mutated.alive.sum(1) - genomes.alive.sum(1)).tolist()
    added = (mutated.connected & ~genomes.connected).flatten(1).sum(1).tolist()
    removed = (genomes.connected & ~mutated.connected).flatten(1).sum(1).tolist()
    kinds = set(zip(nodes, added, removed, strict=True))
    changed = sum(kind != (0, 0, 0) for kind in zip(nodes, added, removed, strict=True)) / 3000
    if name == "mutation_rate":
        assert kinds == {(0, 0, 0)}
        on = genomes.connected
        assert (mutated.weights != genomes.weights)[on].double().mean().item() == pytest.approx(0.4, abs=0.02)
        node = torch.cat([genomes.alive, genomes.alive.new_ones(3000, 1)], 1)
        # a new activation is the old one in a quarter of the draws
        share = (mutated.activation != genomes.activation)[node].double().mean().item()
        assert share == pytest.approx(0.4 * 3 / 4, abs=0.02)
        return
    if name == "delete_neuron":
        assert {kind[:2] for kind in kinds} == {(0, 0), (-1, 0)}
        changed /= genomes.alive.any(1).double().mean().item()
    else:
        expected = {
            "add_connection": (0, 1, 0),
            "delete_connection": (0, 0, 1),
            "change_connection": (0, 1, 1),
            "add_neuron": (1, 2, 1),
        }[name]
        assert kinds == {(0, 0, 0), expected}
    # some networks have no room for a change (a source that leads everywhere already), which lowers the share
    least = 0.25 if name in ("add_connection", "change_connection") else 0.37
    assert least < changed < 0.43
    if name in ("add_neuron", "change_connection"):  # the gene goes with the connection
        at = [index for index, kind in enumerate(zip(nodes, added, removed, strict=True)) if kind != (0, 0, 0)]
        for index in at[:200]:
            gone = genomes.connected[index] & ~mutated.connected[index]
            new = mutated.connected[index] & ~genomes.connected[index]
            assert set(mutated.weights[index][new].tolist()) == set(genomes.weights[index][gone].tolist())


def test_an_added_connection_may_lead_to_any_node_that_is_no_ancestor():
    # 4 inputs and hidden node 0 -> hidden node 1 -> output; from node 1 only the output is ahead, and it is connected
    weights = torch.zeros(1, 6, 3)
    for source, target in ((0, 0), (4, 1), (5, 2)):
        weights[0, source, target] = 0.5
    genomes = CPPNGenomes(
        weights, weights > 0, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)
    )
    only = CPPNEncoding((4, 4), max_hidden=2, **(OFF | {"add_connection": 1.0}))
    many = genomes.take(torch.zeros(4000, dtype=torch.int64))
    mutated = only.mutate(many, generator=torch.Generator().manual_seed(0))
    new = (mutated.connected & ~many.connected).sum(0)
    # input 0 has nodes 1 and 2 left, inputs 1-3 have 0, 1, 2; node 0 has the output left, node 1 nothing
    possible = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert torch.equal(new > 0, possible)
    expected = torch.tensor([0.5, 0.5, *[1 / 3] * 9, 1.0]) * 4000 / 6
    # 4 standard deviations of a count
    assert ((new[possible] - expected).abs() < 4 * expected.sqrt()).all()


def test_a_moved_end_may_go_wherever_no_cycle_closes():
    # input 0 -> node 0 -> node 1 -> output
    weights = torch.zeros(1, 6, 3)
    for source, target in ((0, 0), (4, 1), (5, 2)):
        weights[0, source, target] = 0.5
    genomes = CPPNGenomes(
        weights, weights > 0, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)
    )
    only = CPPNEncoding((4, 4), max_hidden=2, **(OFF | {"change_connection": 1.0}))
    many = genomes.take(torch.zeros(3000, dtype=torch.int64))
    mutated = only.mutate(many, generator=torch.Generator().manual_seed(0))
    moves = set()
    for old, new in zip(many.connected, mutated.connected, strict=True):
        moves.add((*(old & ~new).nonzero().flatten().tolist(), *(new & ~old).nonzero().flatten().tolist()))
    # sources 0-3 are inputs, 4 and 5 the nodes; targets 0 and 1 are the nodes, 2 the output
    from_input = {(0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 1, 0), (0, 0, 2, 0), (0, 0, 3, 0)}
    from_node_0 = {(4, 1, 4, 2), (4, 1, 0, 1), (4, 1, 1, 1), (4, 1, 2, 1), (4, 1, 3, 1)}
    # the last connection's target has nowhere else to go: node 1's ancestors are all the others
    from_node_1 = {(5, 2, 0, 2), (5, 2, 1, 2), (5, 2, 2, 2), (5, 2, 3, 2), (5, 2, 4, 2)}
    assert moves - {()} == from_input | from_node_0 | from_node_1


def test_a_network_without_a_free_slot_gains_no_node():
    encoding = CPPNEncoding((4, 4), max_hidden=2, **(OFF | {"add_neuron": 1.0}))
    genomes = evolved(encoding, 5, 6)
    assert genomes.alive.all()
    again = encoding.mutate(genomes, generator=torch.Generator())
    assert all(torch.equal(*pair) for pair in zip(genomes, again, strict=True))


def test_offspring_are_mutated_copies_in_order_and_parents_stay():
    encoding = CPPNEncoding((4, 4), **OFF)
    parents = evolved(CPPNEncoding((4, 4)), 6, 5)
    before = [part.clone() for part in parents]
    first, second = parents.take(torch.arange(3)), parents.take(torch.arange(3, 6))
    children = encoding.offspring(first, second, generation=0, generator=torch.Generator())
    assert all(torch.equal(*pair) for pair in zip(children, parents, strict=True))
    CPPNEncoding((4, 4)).mutate(parents, generator=torch.Generator())
    assert all(torch.equal(*pair) for pair in zip(before, parents, strict=True))


def test_draws_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    runs = [evolved(CPPNEncoding((4, 4)), 10, 5, seed=3) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_neat_python_evaluates_networks_alike():
    neat = pytest.importorskip("neat")
    encoding = CPPNEncoding((5, 5), max_hidden=10, max_weight=2.0)
    genomes = evolved(encoding, 8, 12)
    images = encoding.render(genomes)
    for individual in range(8):
        network = neat_network(neat, encoding, genomes, individual)
        for row in range(5):
            for column in range(5):
                x, y = -1 + 0.5 * column, -1 + 0.5 * row
                (output,) = network.activate((x, y, math.hypot(x, y), 1.0))
                assert images[individual, row, column].item() == pytest.approx(abs(output), abs=2e-4)


def neat_network(neat, encoding, genomes, individual):
    """The same network as a neat.nn.FeedForwardNetwork: inputs -1..-4, hidden nodes and outputs by slot."""
    connected, weights = genomes.connected[individual], genomes.weights[individual]
    inputs = len(INPUTS)
    ready, order = set(range(inputs)), []
    waiting = [node for node in range(encoding.hidden) if genomes.alive[individual, node]]
    waiting += range(encoding.hidden, encoding.hidden + encoding.outputs)
    while waiting:
        for node in waiting:
            sources = connected[:, node].nonzero().squeeze(1).tolist()
            if ready.issuperset(sources):
                links = [
                    (
                        -1 - source if source < inputs else source - inputs,
                        (2 * weights[source, node].item() - 1) * encoding.max_weight,
                    )
                    for source in sources
                ]
                order.append((node, FUNCTIONS[genomes.activation[individual, node]], sum, 0.0, 1.0, links))
                ready.add(inputs + node)
                waiting.remove(node)
                break
    outputs = list(range(encoding.hidden, encoding.hidden + encoding.outputs))
    return neat.nn.FeedForwardNetwork([-1, -2, -3, -4], outputs, order)


def test_a_cycle_is_refused():
    encoding = CPPNEncoding((4, 4), max_hidden=2)
    weights = torch.zeros(1, 6, 3)
    for source, target in ((4, 1), (5, 0), (5, 2)):
        weights[0, source, target] = 0.5
    genomes = CPPNGenomes(
        weights, weights > 0, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64)
    )
    with pytest.raises(ValueError, match="must be feed-forward, got a network with a cycle"):
        encoding.render(genomes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CPPNEncoding((28,)), r"shape must be \(height, width\), .* got \(28,\)"),
        (lambda: CPPNEncoding((2, 28, 28)), r"shape must be .* got \(2, 28, 28\)"),
        (lambda: CPPNEncoding((4, 4), max_hidden=0), "max_hidden must be a whole number of at least 1, got 0"),
        (lambda: CPPNEncoding((4, 4), max_weight=0.0), "max_weight must be finite and > 0, got 0"),
        (lambda: CPPNEncoding((4, 4), add_neuron=1.5), r"add_neuron must be a probability in \[0, 1\], got 1.5"),
        (lambda: CPPNEncoding((4, 4), delete_connection=-1), "delete_connection must be a probability"),
        (lambda: CPPNEncoding((4, 4), mutation_rate=float("nan")), "mutation_rate must be a probability"),
        (lambda: CPPNEncoding((4, 4)).initial(0, generator=torch.Generator()), "count must be"),
        (lambda: CPPNEncoding((4, 4)).render(torch.zeros(1, 4, 4)), "genomes must be CPPNGenomes .* got Tensor"),
        (
            lambda: CPPNEncoding((4, 4)).render(evolved(CPPNEncoding((4, 4), max_hidden=3), 2, 1)),
            r"genomes must be CPPNGenomes with weights \(n, 68, 65\), got \(2, 7, 4\)",
        ),
        (lambda: CPPNEncoding((4, 4)).render(evolved(CPPNEncoding((4, 4)), 2, 1), size=(0, 3)), "height must be"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"CPPNEncoding: {message}"):
        call()

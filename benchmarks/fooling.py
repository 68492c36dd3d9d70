"""Evolving fooling images: whole populations as tensors against genomes one at a time, neat-python and pyribs.

``python benchmarks/fooling.py`` writes ``results/benchmarks/fooling.json`` and ``.md``. Needs neat-python and ribs
(``benchmarks/oracles.txt``). One thread.

The genome-at-a-time evolution is what one writes without tensors of populations: it draws a pair, crosses and mutates
it, and renders, scores and places each child before the next. It stands here in two depths: NumPy over a genome's
pixels, and (direct encoding) gene by gene, as the authors' C++ reads. Its draws differ from ours, so that its results
are not compared; rendering and replacement are.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import neat
import numpy as np
import torch
from ribs.archives import GridArchive
from torch import Tensor, nn

from claimwise.adversarial import CPPNEncoding, CPPNGenomes, DirectEncoding, MapElites, class_probabilities
from timing import Row, compare, write_table

CLASSES, POPULATION, SIDE = 10, 200, 28
NUMPY = (
    np.sin,
    lambda p: np.tanh(p / 2),
    lambda p: np.exp(-p * p),
    lambda p: np.clip(p, -3, 3) / 3,
)
PLAIN = (
    math.sin,
    lambda p: math.tanh(p / 2),
    lambda p: math.exp(-p * p),
    lambda p: min(max(p, -3.0), 3.0) / 3,
)


def softmax_regression() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))


def lenet() -> nn.Module:
    """Caffe's, which the paper fools."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, CLASSES),
    )


# --- genome at a time: direct encoding ---------------------------------------------------------------------------


def mutate_pixels(genome: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r = rng.random(genome.shape)
    step = np.where(r < 0.5, (2 * r) ** (1 / 16) - 1, 1 - (2 * (1 - r)) ** (1 / 16))
    return np.where(rng.random(genome.shape) < 0.1, np.clip(genome + step, 0, 1), genome)


def cross_pixels(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if rng.random() >= 0.5:
        return first, second
    a, b = np.minimum(first, second), np.maximum(first, second)
    alike = b - a <= np.finfo(np.float32).eps
    gap, u, coin = np.where(alike, 1, b - a), rng.random(a.shape), rng.random(a.shape) < 0.5
    children = []
    for room, sign in ((a, -1), (1 - b, 1)):
        alpha = 2 - (1 + 2 * room / gap) ** -11.0
        spread = np.where(u * alpha <= 1, u * alpha, 1 / (2 - u * alpha)) ** (1 / 11)
        children.append(np.where(alike, first, np.clip(0.5 * (a + b + sign * spread * gap), 0, 1)))
    return np.where(coin, *children), np.where(coin, *children[::-1])


def mutate_gene_by_gene(genome: list[float]) -> list[float]:
    mutated = list(genome)
    for gene in range(len(genome)):
        if random.random() < 0.1:
            r = random.random()
            step = (2 * r) ** (1 / 16) - 1 if r < 0.5 else 1 - (2 * (1 - r)) ** (1 / 16)
            mutated[gene] = min(max(genome[gene] + step, 0.0), 1.0)
    return mutated


def cross_gene_by_gene(first: list[float], second: list[float]) -> tuple[list[float], list[float]]:
    if random.random() >= 0.5:
        return first, second
    one, other = list(first), list(second)
    for gene in range(len(first)):
        a, b = min(first[gene], second[gene]), max(first[gene], second[gene])
        if b - a > 1.2e-7:
            u = random.random()
            children = []
            for room, sign in ((a, -1), (1 - b, 1)):
                alpha = 2 - (1 + 2 * room / (b - a)) ** -11
                spread = (u * alpha if u * alpha <= 1 else 1 / (2 - u * alpha)) ** (1 / 11)
                children.append(min(max(0.5 * (a + b + sign * spread * (b - a)), 0.0), 1.0))
            if random.random() < 0.5:
                children.reverse()
            one[gene], other[gene] = children
    return one, other


# --- genome at a time: networks ----------------------------------------------------------------------------------


class Network:
    """One CPPN: ``links[target][source]`` is a gene; sources -4..-1 are the inputs, node 0 is the output."""

    def __init__(self, links: dict[int, dict[int, float]], activation: dict[int, int]) -> None:
        self.links, self.activation = links, activation

    def copy(self) -> "Network":
        return Network({node: dict(sources) for node, sources in self.links.items()}, dict(self.activation))

    def image(self, coordinates: list[np.ndarray]) -> np.ndarray:
        known = dict(enumerate(coordinates, -4))

        def value(node: int) -> np.ndarray:
            if node not in known:
                total = np.zeros_like(coordinates[0])
                for source, gene in self.links[node].items():
                    total += (2 * gene - 1) * 10 * value(source)
                known[node] = NUMPY[self.activation[node]](total)
            return known[node]

        return np.minimum(np.abs(value(0)), 1)

    def ancestors(self, node: int) -> set[int]:
        seen, waiting = {node}, [node]
        while waiting:
            for source in self.links.get(waiting.pop(), {}):
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return seen

    def mutate(self) -> None:
        for sources in self.links.values():
            for source in sources:
                if random.random() < 0.1:
                    (sources[source],) = mutated_once([sources[source]])
        for node in self.activation:
            if random.random() < 0.1:
                self.activation[node] = random.randrange(4)
        if random.random() < 0.5 and (edges := self.edges()):
            source, target = random.choice(edges)
            if random.random() < 0.5:
                no = self.ancestors(source) | {node for node in self.links if source in self.links[node]}
                if choice := [node for node in self.links if node not in no]:
                    self.links[random.choice(choice)][source] = self.links[target].pop(source)
            else:
                choice = [
                    node
                    for node in [-4, -3, -2, -1, *self.links]
                    if node != 0 and node not in self.links[target] and target not in self.ancestors(node)
                ]
                if choice:
                    self.links[target][random.choice(choice)] = self.links[target].pop(source)
        if random.random() < 0.5:
            source = random.choice([-4, -3, -2, -1, *(node for node in self.links if node)])
            no = self.ancestors(source)
            if choice := [node for node in self.links if node not in no and source not in self.links[node]]:
                self.links[random.choice(choice)][source] = random.random()
        if random.random() < 0.3 and (edges := self.edges()):
            source, target = random.choice(edges)
            del self.links[target][source]
        if random.random() < 0.5 and (edges := self.edges()):
            source, target = random.choice(edges)
            new = max(self.links) + 1
            gene = self.links[target].pop(source)
            self.links[new], self.links[target][new] = {source: gene}, gene
            self.activation[new] = random.randrange(4)
        if random.random() < 0.2 and len(self.links) > 1:
            gone = random.choice([node for node in self.links if node])
            del self.links[gone], self.activation[gone]
            for sources in self.links.values():
                sources.pop(gone, None)

    def edges(self) -> list[tuple[int, int]]:
        return [(source, target) for target, sources in self.links.items() for source in sources]


def mutated_once(genome: list[float]) -> list[float]:
    r = random.random()
    step = (2 * r) ** (1 / 16) - 1 if r < 0.5 else 1 - (2 * (1 - r)) ** (1 / 16)
    return [min(max(gene + step, 0.0), 1.0) for gene in genome]


def as_networks(encoding: CPPNEncoding, genomes: CPPNGenomes) -> list[Network]:
    """Our genomes in the other form: our slot s becomes node s + 1."""
    networks = []
    for weights, connected, alive, activation in zip(*genomes, strict=True):
        nodes = {slot: slot + 1 for slot in alive.nonzero().flatten().tolist()} | {encoding.hidden: 0}
        links: dict[int, dict[int, float]] = {node: {} for node in nodes.values()}
        for source, target in connected.nonzero().tolist():
            links[nodes[target]][source - 4 if source < 4 else nodes[source - 4]] = float(weights[source, target])
        networks.append(Network(links, {node: int(activation[slot]) for slot, node in nodes.items()}))
    return networks


def as_neat(network: Network) -> neat.nn.FeedForwardNetwork:
    """The nodes that the output depends on, in order, as neat-python makes them."""
    order: list[int] = []

    def visit(node: int) -> None:
        if node >= 0 and node not in order:
            for source in network.links[node]:
                visit(source)
            order.append(node)

    visit(0)
    evaluations = [
        (
            node,
            PLAIN[network.activation[node]],
            sum,
            0.0,
            1.0,
            [(source, (2 * gene - 1) * 10) for source, gene in network.links[node].items()],
        )
        for node in order
    ]
    return neat.nn.FeedForwardNetwork([-4, -3, -2, -1], [0], evaluations)


def pixels() -> list[np.ndarray]:
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    y, x = (part.ravel() for part in np.meshgrid(axis, axis, indexing="ij"))
    return [x, y, np.sqrt(x * x + y * y), np.ones_like(x)]


# --- the comparisons ---------------------------------------------------------------------------------------------


def share_of_other_pixels(a: Tensor, b: Any) -> float:
    """Weights reach 10, so that rounding may grow tenfold a layer: a few pixels of deep networks differ visibly."""
    return float(((a.double() - torch.as_tensor(np.asarray(b), dtype=torch.float64)).abs() > 1e-3).double().mean())


def rendering() -> list[Row]:
    encoding = CPPNEncoding((SIDE, SIDE))
    generator = torch.Generator().manual_seed(0)
    genomes = encoding.initial(POPULATION, generator=generator)
    for _ in range(20):
        genomes = encoding.mutate(genomes, generator=generator)
    networks, coordinates = as_networks(encoding, genomes), pixels()
    peers = [as_neat(network) for network in networks]
    places = list(zip(*(part.tolist() for part in coordinates), strict=True))

    def one_by_one() -> np.ndarray:
        return np.stack([network.image(coordinates).reshape(SIDE, SIDE) for network in networks])

    def neat_python() -> np.ndarray:
        images = [[min(abs(peer.activate(place)[0]), 1.0) for place in places] for peer in peers]
        return np.array(images).reshape(-1, SIDE, SIDE)

    name = f"Render {POPULATION} CPPNs after 20 mutations, {SIDE}x{SIDE}"
    checked: dict[str, Any] = {"difference": share_of_other_pixels, "tolerance": 0.01, "clock": "processor"}
    note = "difference: share of pixels that differ by over .001"
    return [
        compare(
            name,
            lambda: encoding.render(genomes),
            neat_python,
            repeats=5,
            peer_name="neat-python",
            note=f"genome by genome and pixel by pixel; its networks are built beforehand; {note}",
            **checked,
        ),
        compare(
            name,
            lambda: encoding.render(genomes),
            one_by_one,
            repeats=21,
            peer_name="genome at a time, NumPy over pixels",
            note=note,
            **checked,
        ),
    ]


def one_at_a_time(
    first: list[Any],
    score: Callable[[Tensor], Tensor],
    pair: Callable[[Any, Any], tuple[Any, Any]],
    image: Callable[[Any], np.ndarray],
) -> Callable[[], None]:
    """A generation of MAP-Elites, child after child."""
    champions: list[Any] = [None] * CLASSES
    best = [-1.0] * CLASSES

    def place(child: Any) -> None:
        picture = torch.from_numpy(np.asarray(image(child), dtype=np.float32)).reshape(1, 1, SIDE, SIDE)
        for label, value in enumerate(score(picture)[0].tolist()):
            if value > best[label]:
                best[label], champions[label] = value, child

    for genome in first:
        place(genome)

    def generation() -> None:
        for _ in range(POPULATION // 2):
            for child in pair(random.choice(champions), random.choice(champions)):
                place(child)

    return generation


def neat_image(network: Network, places: list[tuple[float, ...]]) -> np.ndarray:
    """What neat-python makes of a network, pixel by pixel."""
    peer = as_neat(network)
    return np.array([min(abs(peer.activate(place)[0]), 1.0) for place in places]).reshape(SIDE, SIDE)


def generations() -> list[Row]:
    rows = []
    coordinates = pixels()
    places = list(zip(*(part.tolist() for part in coordinates), strict=True))
    for model_name, model in (("softmax regression", softmax_regression()), ("LeNet", lenet())):
        model.eval()
        score = class_probabilities(model)
        rng = np.random.default_rng(0)

        def numpy_pair(a: np.ndarray, b: np.ndarray, rng: np.random.Generator = rng) -> tuple[np.ndarray, np.ndarray]:
            one, other = cross_pixels(a, b, rng)
            return mutate_pixels(one, rng), mutate_pixels(other, rng)

        def gene_pair(a: list[float], b: list[float]) -> tuple[list[float], list[float]]:
            one, other = cross_gene_by_gene(a, b)
            return mutate_gene_by_gene(one), mutate_gene_by_gene(other)

        def network_pair(a: Network, b: Network) -> tuple[Network, Network]:
            children = a.copy(), b.copy()
            for child in children:
                child.mutate()
            return children

        cppn = CPPNEncoding((1, SIDE, SIDE))
        networks = as_networks(cppn, cppn.initial(POPULATION, generator=torch.Generator().manual_seed(0)))
        noise = list(rng.random((POPULATION, SIDE * SIDE), dtype=np.float32))
        direct = DirectEncoding((1, SIDE, SIDE))
        peers: list[tuple[str, Any, str, Callable[[], None]]] = [
            (
                "direct",
                direct,
                "genome at a time, NumPy over pixels",
                one_at_a_time(noise, score, numpy_pair, np.asarray),
            ),
            (
                "direct",
                direct,
                "genome at a time, gene by gene",
                one_at_a_time([genome.tolist() for genome in noise], score, gene_pair, np.asarray),
            ),
            (
                "CPPN",
                cppn,
                "genome at a time, NumPy over pixels",
                one_at_a_time(networks, score, network_pair, lambda network: network.image(coordinates)),
            ),
            (
                "CPPN",
                cppn,
                "genome at a time, rendered by neat-python",
                one_at_a_time(networks, score, network_pair, lambda network: neat_image(network, places)),
            ),
        ]
        for encoding_name, encoding, peer_name, theirs in peers:
            ours = MapElites(score, encoding, classes=CLASSES, generator=torch.Generator().manual_seed(0))
            for _ in range(20):  # both past the first generations, where networks are still small
                ours.step()
                theirs()
            rows.append(
                compare(
                    f"One generation of {POPULATION}, {encoding_name} encoding, {model_name}",
                    ours.step,
                    theirs,
                    repeats=9,
                    peer_name=peer_name,
                    clock="processor",
                    note="other draws, so other results",
                )
            )
    return rows


def replacement() -> list[Row]:
    """Twenty generations of given genomes and scores into an archive of one champion a class."""
    generator = torch.Generator().manual_seed(0)
    batches = torch.rand(21, POPULATION, SIDE * SIDE, generator=generator)
    scores = torch.rand(21, POPULATION, CLASSES, generator=generator)

    class Given(DirectEncoding):
        """Offspring that stand in ``batches``."""

        def initial(self, count: int, *, generator: torch.Generator, device: Any = None) -> Tensor:
            return batches[0]

        def offspring(self, first: Tensor, second: Tensor, *, generation: int, generator: torch.Generator) -> Tensor:
            return batches[generation + 1]

    def ours() -> tuple[np.ndarray, np.ndarray]:
        rows = iter(scores)
        found = MapElites(lambda images: next(rows), Given((SIDE * SIDE,)), classes=CLASSES, generator=generator)
        for _ in range(20):
            found.step()
        return found.confidence.numpy(), found.genomes.numpy()

    solutions, objectives = batches.numpy(), scores.numpy()
    measures = np.tile(np.arange(CLASSES) + 0.5, POPULATION)[:, None]

    def pyribs() -> tuple[np.ndarray, np.ndarray]:
        archive = GridArchive(
            solution_dim=SIDE * SIDE, dims=[CLASSES], ranges=[(0, CLASSES)], dtype=np.float32, qd_score_offset=0
        )
        for batch, objective in zip(solutions, objectives, strict=True):
            archive.add(np.repeat(batch, CLASSES, 0), objective.ravel(), measures)
        _, data = archive.retrieve(np.arange(CLASSES)[:, None] + 0.5)
        return data["objective"], data["solution"]

    return [
        compare(
            f"Replacement: 21 x {POPULATION} genomes of {SIDE * SIDE} genes, {CLASSES} classes",
            ours,
            pyribs,
            repeats=21,
            peer_name="ribs",
            difference=lambda a, b: max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)),
            tolerance=0.0,
            clock="processor",
            note="its archive has one cell a solution: each genome is added once a class; ours draws parents too",
        )
    ]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    rows = [*rendering(), *generations(), *replacement()]
    path = write_table("fooling", rows, peers=["neat-python", "ribs"])
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()

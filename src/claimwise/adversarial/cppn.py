"""Compositional pattern-producing networks: the indirect encoding whose images are regular.

K. O. Stanley, *Compositional pattern producing networks: A novel abstraction of development*, Genetic Programming and
Evolvable Machines 2007, https://doi.org/10.1007/s10710-007-9028-8, as used by A. Nguyen, J. Yosinski, J. Clune, *Deep
Neural Networks are Easily Fooled*, CVPR 2015, section 2.2, https://arxiv.org/abs/1412.1897. Rates and ranges are those
of the authors' code (https://github.com/Evolving-AI-Lab/fooling) on Sferes2's feed-forward networks
(https://github.com/sferes2/nn2).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimwise.adversarial.genomes import check_count, check_eta, check_rate, polynomial_step, uniform
from claimwise.adversarial.hsv import hsv_to_rgb

ACTIVATIONS = ("sine", "sigmoid", "gaussian", "linear")
INPUTS = ("x", "y", "distance", "bias")
_BLOCK = 1 << 20
"""Node values that are held at once while rendering: 4 MB stay in the cache."""


class CPPNGenomes(NamedTuple):
    """A population of networks. Sources are the inputs and the hidden nodes, targets the hidden nodes and the outputs.

    Slots of hidden nodes that are not alive hold nothing: they are not connected.
    """

    weights: Float[Tensor, "n sources targets"]
    """Genes in [0, 1]; 0 where nothing is connected."""
    connected: Bool[Tensor, "n sources targets"]
    alive: Bool[Tensor, "n hidden"]
    activation: Int[Tensor, "n targets"]
    """Numbers into ``ACTIVATIONS``: sine, sigmoid, gaussian, linear."""

    def take(self, index: Tensor) -> "CPPNGenomes":
        """The individuals that ``index`` names."""
        return CPPNGenomes(*(part[index] for part in self))


class CPPNEncoding:
    r"""Genomes that are small networks from a pixel's place to its colour, with structural mutation.

    .. math:: v_t = f_t\Bigl(\sum_{s \to t} w_{s t} v_s\Bigr), \qquad
              (v_1, \dots, v_4) = (x, y, \sqrt{x^2 + y^2}, 1), \qquad \text{pixel} = |v_{\text{output}}|

    with :math:`x, y \in [-1, 1]` the pixel's column and row, :math:`w = (2 g - 1) w_{\max}` the weight of gene
    :math:`g \in [0, 1]`, and :math:`f` one of :math:`\sin p`, :math:`2 \sigma(p) - 1`, :math:`e^{-p^2}` and
    :math:`\operatorname{clip}(p, -3, 3) / 3`. Three outputs are hue, saturation and value.

    Networks start with every input connected to every output and no hidden node. A child is a mutated copy of its
    parent: each weight gene and each node's activation changes with probability ``mutation_rate`` (polynomial step,
    and a new activation at random); then, with a probability each, one connection has one end moved
    (``change_connection``), one is added (``add_connection``), one removed (``delete_connection``), one is split by a
    new node that gets its weight on both sides (``add_neuron``), and one hidden node goes with its connections
    (``delete_neuron``). A connection that would close a cycle is never made, so that networks stay feed-forward;
    where there is no room for a change, there is none.

    A whole population is rendered at once: the nodes that an output depends on, of all networks, are sorted by depth
    and activation; a level's weighted sums are one sparse product, and each activation runs over one piece of memory.

    Args:
        shape: (height, width), (1, height, width) or (3, height, width) of an image.
        max_hidden: Room for hidden nodes in one network.
        max_weight: :math:`w_{\max}`.
        mutation_rate: Of each weight and of each activation.
        eta_mutation: Index of the polynomial step; see :class:`~claimwise.adversarial.DirectEncoding`.
        add_connection: Probability.
        delete_connection: Probability.
        change_connection: Probability.
        add_neuron: Probability.
        delete_neuron: Probability.

    Shape:
        Genomes: :class:`CPPNGenomes`; images (n, \*shape), float32 in [0, 1].

    Raises:
        ValueError: A shape of another kind, a count below 1, a probability outside [0, 1], ``max_weight`` not above 0.

    Differences from the paper:
        The authors' networks grow without bound, these have ``max_hidden`` slots: a network without a free one gains
        no node. Their feed-forward code names a rate for changing connections and does not use it
        (``change_connection=0.0``); here it does what Sferes2's general networks do. Theirs can lay a second
        connection beside an existing one, which equals one connection of another weight; here there is one. Neither
        paper nor published listing says how a network's output becomes a pixel: the absolute value is Picbreeder's
        way (Secretan et al. 2008). Networks are not crossed, here as there.

    Example:
        >>> encoding = CPPNEncoding((1, 28, 28))
        >>> generator = torch.Generator().manual_seed(0)
        >>> genomes = encoding.initial(10, generator=generator)
        >>> for generation in range(5):
        ...     genomes = encoding.mutate(genomes, generator=generator)
        >>> encoding.render(genomes).shape, encoding.render(genomes, size=(256, 256)).shape
        (torch.Size([10, 1, 28, 28]), torch.Size([10, 1, 256, 256]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        max_hidden: int = 64,
        max_weight: float = 10.0,
        mutation_rate: float = 0.1,
        eta_mutation: float = 15.0,
        add_connection: float = 0.5,
        delete_connection: float = 0.3,
        change_connection: float = 0.5,
        add_neuron: float = 0.5,
        delete_neuron: float = 0.2,
    ) -> None:
        self.shape = tuple(check_count("CPPNEncoding", size, "sizes of shape") for size in shape)
        if len(self.shape) not in (2, 3) or (len(self.shape) == 3 and self.shape[0] not in (1, 3)):
            raise ValueError(
                "CPPNEncoding: shape must be (height, width), (1, height, width) or (3, height, width), "
                f"got {self.shape}"
            )
        self.outputs = self.shape[0] if len(self.shape) == 3 else 1
        self.hidden = check_count("CPPNEncoding", max_hidden, "max_hidden")
        if isinstance(max_weight, bool) or not 0 < max_weight < float("inf"):
            raise ValueError(f"CPPNEncoding: max_weight must be finite and > 0, got {max_weight}")
        self.max_weight = float(max_weight)
        self.mutation_rate = check_rate("CPPNEncoding", mutation_rate, "mutation_rate")
        self.eta_mutation = check_eta("CPPNEncoding", eta_mutation, "eta_mutation")
        self.add_connection = check_rate("CPPNEncoding", add_connection, "add_connection")
        self.delete_connection = check_rate("CPPNEncoding", delete_connection, "delete_connection")
        self.change_connection = check_rate("CPPNEncoding", change_connection, "change_connection")
        self.add_neuron = check_rate("CPPNEncoding", add_neuron, "add_neuron")
        self.delete_neuron = check_rate("CPPNEncoding", delete_neuron, "delete_neuron")

    def initial(
        self, count: int, *, generator: torch.Generator, device: torch.device | str | None = None
    ) -> CPPNGenomes:
        """``count`` networks without hidden nodes, inputs to outputs connected with random weights."""
        check_count("CPPNEncoding", count, "count")
        sources, targets = len(INPUTS) + self.hidden, self.hidden + self.outputs
        device = generator.device if device is None else torch.device(device)
        connected = torch.zeros(count, sources, targets, dtype=torch.bool, device=device)
        connected[:, : len(INPUTS), self.hidden :] = True
        weights = torch.zeros(count, sources, targets, device=device)
        weights[connected] = uniform((count * len(INPUTS) * self.outputs,), generator, device)
        activation = torch.zeros(count, targets, dtype=torch.int64, device=device)
        activation[:, self.hidden :] = _below(uniform((count, self.outputs), generator, device), len(ACTIVATIONS))
        alive = torch.zeros(count, self.hidden, dtype=torch.bool, device=device)
        return CPPNGenomes(weights, connected, alive, activation)

    def offspring(
        self, first: CPPNGenomes, second: CPPNGenomes, *, generation: int, generator: torch.Generator
    ) -> CPPNGenomes:
        """Two children of each pair, a mutated copy of each parent; ``generation`` changes nothing."""
        both = CPPNGenomes(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
        return self.mutate(both, generator=generator)

    def mutate(self, genomes: CPPNGenomes, *, generator: torch.Generator) -> CPPNGenomes:
        """Mutated copies."""
        self._check(genomes)
        device = genomes.weights.device
        # Slots beyond the last one in use are left out of the work; one free slot more may be filled.
        used = genomes.alive.any(0).nonzero()
        room = min(self.hidden, int(used.max()) + 2 if len(used) else 1)
        sources = len(INPUTS) + room
        keep = torch.cat(
            [torch.arange(room, device=device), torch.arange(self.hidden, self.hidden + self.outputs, device=device)]
        )
        weights = genomes.weights[:, :sources].index_select(2, keep)
        connected = genomes.connected[:, :sources].index_select(2, keep)
        activation = genomes.activation.index_select(1, keep)
        alive = genomes.alive[:, :room].clone()
        n = len(weights)
        rows = torch.arange(n, device=device)
        inputs, targets = len(INPUTS), room + self.outputs
        # n draws for each of 5 decisions and 9 choices of the structural mutations, at once
        decide = uniform((5, n), generator, device)
        choose = uniform((9, n), generator, device)

        # Weights and activations.
        edge = connected.reshape(-1).nonzero().squeeze(1)
        edge = edge[uniform((len(edge),), generator, device) < self.mutation_rate]
        step = polynomial_step(uniform((len(edge),), generator, device), self.eta_mutation)
        flat = weights.view(-1)
        flat[edge] = (flat[edge] + step).clamp_(0, 1)
        draws = uniform((2, n, targets), generator, device)
        node = torch.cat([alive, alive.new_ones(n, self.outputs)], 1)
        redrawn = node & (draws[0] < self.mutation_rate)
        activation = torch.where(redrawn, _below(draws[1], len(ACTIVATIONS)), activation)

        # One end of one connection moved.
        found, (source, target) = self._edge(connected, choose[0])
        ahead = choose[1] < 0.5  # move the target, else the source
        as_source = torch.cat([alive.new_ones(n, inputs), alive], 1)
        start = torch.where(ahead, source - inputs, target)  # a hidden node, an output, or an input (negative)
        related = self._related(connected, start, ahead, room)  # ancestors of the source or descendants of the target
        may_be_target = node & ~connected[rows, source] & ~related
        may_be_source = as_source & ~connected[rows, :, target]
        may_be_source[:, inputs:] &= ~related[:, :room]
        to_target, new_target = _pick(may_be_target, choose[2])
        to_source, new_source = _pick(may_be_source, choose[2])
        done = found & (decide[0] < self.change_connection) & torch.where(ahead, to_target, to_source)
        at = done.nonzero().squeeze(1)
        gene = weights[at, source[at], target[at]]
        connected[at, source[at], target[at]] = False
        weights[at, source[at], target[at]] = 0
        moved_source = torch.where(ahead, source, new_source)[at]
        moved_target = torch.where(ahead, new_target, target)[at]
        connected[at, moved_source, moved_target] = True
        weights[at, moved_source, moved_target] = gene

        # A connection from any source to a node that is none of its ancestors.
        _, source = _pick(as_source, choose[3])
        related = self._related(connected, source - inputs, torch.ones_like(ahead), room)
        found, target = _pick(node & ~connected[rows, source] & ~related, choose[4])
        at = (found & (decide[1] < self.add_connection)).nonzero().squeeze(1)
        connected[at, source[at], target[at]] = True
        weights[at, source[at], target[at]] = choose[5][at]

        # A connection less.
        found, (source, target) = self._edge(connected, choose[6])
        at = (found & (decide[2] < self.delete_connection)).nonzero().squeeze(1)
        connected[at, source[at], target[at]] = False
        weights[at, source[at], target[at]] = 0

        # A node in the middle of a connection, in the first free slot.
        found, (source, target) = self._edge(connected, choose[7])
        free = ~alive
        slot = free.int().argmax(1)
        done = found & free[rows, slot] & (decide[3] < self.add_neuron)
        at = done.nonzero().squeeze(1)
        new, source, target = slot[at], source[at], target[at]
        gene = weights[at, source, target]
        connected[at, source, target] = False
        weights[at, source, target] = 0
        connected[at, source, new] = True
        connected[at, inputs + new, target] = True
        weights[at, source, new] = gene
        weights[at, inputs + new, target] = gene
        alive[at, new] = True
        kinds = _below(uniform((n,), generator, device), len(ACTIVATIONS))
        activation[at, new] = kinds[at]

        # A hidden node less.
        found, slot = _pick(alive, choose[8])
        at = (found & (decide[4] < self.delete_neuron)).nonzero().squeeze(1)
        gone = slot[at]
        alive[at, gone] = False
        activation[at, gone] = 0
        for part in (connected, weights):
            part[at, inputs + gone] = 0
            part[at, :, gone] = 0

        result = CPPNGenomes(*(torch.zeros_like(part) for part in genomes))
        result.alive[:, :room] = alive
        result.activation[:, keep] = activation
        result.weights[:, :sources, :room] = weights[:, :, :room]
        result.weights[:, :sources, self.hidden :] = weights[:, :, room:]
        result.connected[:, :sources, :room] = connected[:, :, :room]
        result.connected[:, :sources, self.hidden :] = connected[:, :, room:]
        return result

    def render(self, genomes: CPPNGenomes, size: tuple[int, int] | None = None) -> Tensor:
        """The networks' images, at their shape's height and width or at any other ``size``."""
        self._check(genomes)
        height, width = self.shape[-2:] if size is None else size
        check_count("CPPNEncoding", height, "height")
        check_count("CPPNEncoding", width, "width")
        coordinates = place(height, width, genomes.weights.device)  # (4, pixels)
        plan = self._plan(genomes)
        pixels = coordinates.shape[1]
        block = max(64, _BLOCK // (len(INPUTS) + plan.nodes))
        outputs = torch.empty(len(plan.outputs), pixels, device=coordinates.device)
        for start in range(0, pixels, block):
            outputs[:, start : start + block] = _run(plan, coordinates[:, start : start + block])
        images = outputs.abs_().clamp_(max=1).reshape(len(genomes.weights), self.outputs, height, width)
        if self.outputs == 3:
            return hsv_to_rgb(images)
        return images if len(self.shape) == 3 else images.squeeze(1)

    def _check(self, genomes: CPPNGenomes) -> None:
        expected = (len(INPUTS) + self.hidden, self.hidden + self.outputs)
        if not isinstance(genomes, CPPNGenomes) or tuple(genomes.weights.shape[1:]) != expected:
            found = tuple(genomes.weights.shape) if isinstance(genomes, CPPNGenomes) else type(genomes).__name__
            raise ValueError(
                f"CPPNEncoding: genomes must be CPPNGenomes with weights (n, {expected[0]}, {expected[1]}), "
                f"got {found}; use the encoding that made them"
            )

    def _edge(self, connected: Tensor, u: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One connection of each network: whether there is any, and its source and target."""
        found, index = _pick(connected.flatten(1), u)
        targets = connected.shape[2]
        return found, (torch.div(index, targets, rounding_mode="floor"), index % targets)

    def _related(self, connected: Tensor, start: Tensor, backwards: Tensor, room: int) -> Tensor:
        """Hidden nodes from which (``backwards``) or to which a path leads at ``start``, itself included; (n, targets).

        ``start`` is a target's number; a negative one is an input, which nothing leads to; outputs lead nowhere, and
        nothing asks for their ancestors.
        """
        n, _, targets = connected.shape
        within = connected[:, len(INPUTS) :, :room]  # (n, from, to) among hidden nodes
        step = torch.where(backwards[:, None, None], within, within.transpose(1, 2))
        reached = torch.zeros(n, targets, dtype=torch.bool, device=connected.device)
        rows = (start >= 0).nonzero().squeeze(1)
        reached[rows, start[rows]] = True
        hidden = reached[:, :room]
        while True:
            further = hidden | (step & hidden.unsqueeze(1)).any(2)
            if torch.equal(further, hidden):
                break
            hidden = further
        reached[:, :room] = hidden
        return reached

    def _plan(self, genomes: CPPNGenomes) -> "_Plan":
        """The population as one sparse network, its rows sorted by depth and activation."""
        device = genomes.weights.device
        n, _, targets = genomes.weights.shape
        inputs = len(INPUTS)
        genome, source, target = genomes.connected.nonzero(as_tuple=True)  # (edges,) each
        weight = (2 * genomes.weights[genome, source, target] - 1) * self.max_weight
        into = genome * targets + target  # nodes of all networks in one row
        inner = source >= inputs
        out_of = torch.where(inner, genome * targets + source - inputs, -1)
        tail, head = out_of[inner], into[inner]

        # Nodes an output depends on.
        needed = torch.zeros(n, targets, dtype=torch.bool, device=device)
        needed[:, self.hidden :] = True
        needed = needed.reshape(-1)
        reached = -1
        while reached != (reached := int(needed.sum())):
            needed[tail[needed[head]]] = True
        kept = needed[into]
        into, out_of, weight, inner, source = into[kept], out_of[kept], weight[kept], inner[kept], source[kept]
        tail, head = out_of[inner], into[inner]

        # Depth: the longest path of hidden nodes that leads to a node.
        depth = torch.zeros(n * targets, dtype=torch.int64, device=device)
        for _ in range(self.hidden + 2):
            deeper = depth.scatter_reduce(0, head, depth[tail] + 1, "amax")
            if torch.equal(deeper, depth):
                break
            depth = deeper
        else:
            raise ValueError("CPPNEncoding: genomes must be feed-forward, got a network with a cycle")

        node = needed.nonzero().squeeze(1)
        key = depth[node] * len(ACTIVATIONS) + genomes.activation.reshape(-1)[node]
        order = key.argsort(stable=True)
        row = torch.full((n * targets,), -1, dtype=torch.int64, device=device)
        row[node[order]] = inputs + torch.arange(len(node), device=device)
        into_row = row[into] - inputs
        by_row = into_row.argsort(stable=True)
        origin = torch.where(inner, row[out_of.clamp(min=0)], source)[by_row]
        offsets = torch.zeros(len(node) + 1, dtype=torch.int64, device=device)
        offsets[1:] = torch.bincount(into_row, minlength=len(node)).cumsum(0)
        sizes = torch.bincount(key, minlength=len(ACTIVATIONS)).tolist()
        sizes += [0] * (-len(sizes) % len(ACTIVATIONS))
        levels = [sizes[i : i + len(ACTIVATIONS)] for i in range(0, len(sizes), len(ACTIVATIONS))]
        outputs = row.reshape(n, targets)[:, self.hidden :].reshape(-1)
        return _Plan(len(node), levels, origin, weight[by_row], offsets, outputs)


class _Plan(NamedTuple):
    nodes: int
    levels: list[list[int]]
    """Level by level, how many nodes have each activation."""
    origin: Tensor
    """(edges,): row that a connection reads; rows 0..3 are the inputs. Sorted by the row it leads to."""
    weight: Tensor
    """(edges,)."""
    offsets: Tensor
    """(nodes + 1,): where each node's connections start."""
    outputs: Tensor
    """(n * outputs,): rows of the outputs."""


def place(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """What a network sees of each pixel: column, row, distance to the centre, bias; (4, height * width)."""
    x = torch.linspace(-1, 1, width, device=device) if width > 1 else torch.zeros(1, device=device)
    y = torch.linspace(-1, 1, height, device=device) if height > 1 else torch.zeros(1, device=device)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows, (columns**2 + rows**2).sqrt(), torch.ones_like(rows)]).flatten(1)


def _run(plan: _Plan, coordinates: Tensor) -> Tensor:
    """Values of the outputs, (n * outputs, pixels)."""
    inputs = len(INPUTS)
    values = torch.empty(inputs + plan.nodes, coordinates.shape[1], device=coordinates.device)
    values[:inputs] = coordinates
    bounds = [0]
    for counts in plan.levels:
        bounds.append(bounds[-1] + sum(counts))
    edges = plan.offsets[torch.tensor(bounds, device=plan.offsets.device)].tolist()
    for level, counts in enumerate(plan.levels):
        first, last = bounds[level], bounds[level + 1]
        begin, end = edges[level], edges[level + 1]
        sums = values[inputs + first : inputs + last]
        if begin == end:
            sums.zero_()
        else:
            sums.copy_(
                F.embedding_bag(
                    plan.origin[begin:end],
                    values[: inputs + first],
                    plan.offsets[first:last] - begin,
                    mode="sum",
                    per_sample_weights=plan.weight[begin:end],
                )
            )
        sine, sigmoid, gaussian, linear = torch.split(sums, counts)
        sine.sin_()
        sigmoid.mul_(0.5).tanh_()  # 2 sigma(p) - 1
        gaussian.square_().neg_().exp_()
        linear.clamp_(-3, 3).div_(3)
    return values[plan.outputs]


def _below(u: Tensor, number: int) -> Tensor:
    """Whole numbers 0..number - 1 from uniform draws."""
    return (u * number).long().clamp_(max=number - 1)


def _pick(mask: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """From each row one of the true places, uniformly: whether there is any, and its number."""
    up_to = mask.int().cumsum(1)
    total = up_to[:, -1]
    rank = torch.minimum((u * total).to(up_to.dtype), (total - 1).clamp(min=0))
    return total > 0, (up_to > rank[:, None]).int().argmax(1)

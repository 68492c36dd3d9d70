"""MAP-Elites over a classifier's classes: one champion a class, and every offspring is tried for all of them.

A. Nguyen, J. Yosinski, J. Clune, *Deep Neural Networks are Easily Fooled*, CVPR 2015, section 2.2,
https://arxiv.org/abs/1412.1897; the algorithm is J.-B. Mouret and J. Clune, *Illuminating search spaces by mapping
elites*, 2015, https://arxiv.org/abs/1504.04909, with one niche a class and a fitness for each niche.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from claimwise.adversarial.genomes import Encoding, Genomes, check_count, join, take, uniform
from claimwise.adversarial.mistakes import softmax
from claimwise.doors import check_logits
from claimwise.undisturbed import Mode, undisturbed

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Elites:
    """The champions, one a class."""

    genomes: Genomes
    """Class by class."""
    images: Tensor
    """``(classes, *shape)``."""
    confidence: Float[Tensor, " classes"]
    """What the score gives each champion for its own class."""
    history: Float[Tensor, "generations classes"]
    """The same after the initial population (row 0) and after each generation; double precision, on the CPU."""


def class_probabilities(
    model: Callable[[Tensor], Tensor],
    *,
    probabilities: Callable[[Tensor], Tensor] = softmax,
    batch_size: int | None = None,
    mode: Mode = "eval",
) -> Score:
    r"""The score that fools ``model``: what probability it gives each class.

    .. math:: s_c(x) = p(y = c \mid x)

    Args:
        model: Any module or callable that returns logits; run without gradients, left as it was.
        probabilities: From logits to probabilities.
        batch_size: Images at a time; all at once by default.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        The score takes (n, \*shape) and gives (n, classes).

    Raises:
        ValueError: A batch size below 1; later, an output that is not (batch, classes).

    Differences from the paper:
        none.

    Example:
        >>> class_probabilities(lambda x: x)(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    if batch_size is not None:
        check_count("class_probabilities", batch_size, "batch_size (or None)")

    def score(images: Tensor) -> Tensor:
        with undisturbed(model, mode), torch.no_grad():
            parts = []
            for batch in torch.split(images, batch_size or len(images)):
                logits = model(batch)
                check_logits("class_probabilities", logits, len(batch))
                parts.append(probabilities(logits))
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    return score


class MapElites:
    r"""Evolve one champion a class; an offspring takes the place of the champion of *every* class it scores higher in.

    .. math:: e_c \leftarrow \arg\max_{g \in \{e_c\} \cup O} s_c(\operatorname{render}(g))
              \qquad \text{for each class } c

    with :math:`e_c` the champion of class :math:`c`, :math:`s_c` its score and :math:`O` the generation's offspring:
    two of each pair of parents, and parents are drawn from the champions, uniformly and with replacement. So a
    lineage may win one class and go on in another ("goal switching"). Of equal scores the earlier stays.

    Args:
        score: From images (n, \*shape) to scores (n, classes), usually :func:`class_probabilities` of a model. Called
            without gradients, once a generation, with the whole population.
        encoding: :class:`~claimwise.adversarial.DirectEncoding`, :class:`~claimwise.adversarial.CPPNEncoding` or
            one's own :class:`~claimwise.adversarial.Encoding`.
        classes: How many, at least 1.
        population: Offspring a generation, an even number.
        initial: Random genomes to start with.
        generator: Source of every draw. Kept, and part of the state.
        goal_switching: False for one evolution a class, each on its own, at the same number of evaluations: pair i
            of parents and initial genome i belong to class i modulo ``classes``, parents are that class's champion,
            and offspring compete for that class alone.
        device: Where genomes and images live; the generator's by default.

    Shape:
        ``score``: (n, \*shape) to (n, classes).

    Raises:
        TypeError: A score that is no floating-point tensor.
        ValueError: A count out of range; without goal switching fewer pairs or initial genomes than classes; scores of
            another shape, or not finite.

    Differences from the paper:
        none: ``population=200`` and ``initial=200`` are the authors' settings for MNIST (400 for ImageNet). The
        authors' code tries offspring one after the other; trying them at once gives the same champions.

    Example:
        >>> from claimwise.adversarial import DirectEncoding
        >>> evolution = MapElites(lambda x: x, DirectEncoding((3,)), classes=3, population=20, initial=20,
        ...                       generator=torch.Generator().manual_seed(0))
        >>> before = evolution.confidence
        >>> for _ in range(10):
        ...     progress = evolution.step()
        >>> bool((evolution.confidence >= before).all()), evolution.evaluations
        (True, 220)
    """

    def __init__(
        self,
        score: Score,
        encoding: Encoding,
        *,
        classes: int,
        population: int = 200,
        initial: int = 200,
        generator: torch.Generator,
        goal_switching: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        self.classes = check_count("MapElites", classes, "classes")
        self.population = check_count("MapElites", population, "population", 2)
        if population % 2:
            raise ValueError(f"MapElites: population must be even (two children a pair), got {population}")
        check_count("MapElites", initial, "initial")
        if not goal_switching and min(population // 2, initial) < classes:
            raise ValueError(
                f"MapElites: without goal switching every class needs a pair of parents and an initial genome of its "
                f"own: population >= {2 * classes} and initial >= {classes}, got {population} and {initial}"
            )
        self.score = score
        self.encoding = encoding
        self.generator = generator
        self.goal_switching = goal_switching
        self.device = torch.device(generator.device if device is None else device)
        self.generation = 0
        self.evaluations = 0
        genomes = encoding.initial(initial, generator=generator, device=self.device)
        scores = self._evaluate(genomes, initial, torch.arange(initial) % classes)
        best = scores.amax(0)
        self.genomes: Genomes = take(genomes, _first(scores == best))
        self.confidence: Tensor = best
        self.history: list[Tensor] = [best.double().cpu()]

    def step(self) -> dict[str, float]:
        """One generation; the least, median and mean confidence of the champions after it."""
        pairs = self.population // 2
        if self.goal_switching:
            drawn = uniform((2, pairs), self.generator, self.device)
            parents = (drawn * self.classes).long().clamp_(max=self.classes - 1)
            of_class = None
        else:
            parents = (torch.arange(pairs, device=self.device) % self.classes).expand(2, -1)
            of_class = parents.reshape(-1)
        genomes = self.encoding.offspring(
            take(self.genomes, parents[0]),
            take(self.genomes, parents[1]),
            generation=self.generation,
            generator=self.generator,
        )
        scores = self._evaluate(genomes, self.population, of_class)  # (population, classes)
        best = scores.amax(0)
        better = best > self.confidence
        # champions and offspring in one row: class c keeps c or takes its first best offspring
        own = torch.arange(self.classes, device=self.device)
        chosen = torch.where(better, self.classes + _first(scores == best), own)
        self.genomes = take(join(self.genomes, genomes), chosen)
        self.confidence = torch.where(better, best, self.confidence)
        self.generation += 1
        row = self.confidence.double().cpu()
        self.history.append(row)
        return {"min": float(row.min()), "median": float(row.quantile(0.5)), "mean": float(row.mean())}

    @property
    def elites(self) -> Elites:
        """The champions as they stand."""
        images = self.encoding.render(self.genomes)
        return Elites(self.genomes, images, self.confidence, torch.stack(self.history))

    def state_dict(self) -> dict[str, Any]:
        """All that the next generation depends on, as tensors and numbers."""
        genomes = [self.genomes] if isinstance(self.genomes, Tensor) else list(self.genomes)
        return {
            "genomes": genomes,
            "confidence": self.confidence,
            "history": torch.stack(self.history),
            "generation": self.generation,
            "evaluations": self.evaluations,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            ValueError: Another number of classes, or genomes of another encoding.
        """
        live = [self.genomes] if isinstance(self.genomes, Tensor) else list(self.genomes)
        saved = list(state["genomes"])
        found, expected = [tuple(part.shape) for part in saved], [tuple(part.shape) for part in live]
        if found != expected:
            raise ValueError(
                f"MapElites: the saved champions have shapes {found}, this encoding's with {self.classes} classes "
                f"{expected}; make the object with the settings it was saved with"
            )
        parts = [part.to(device=old.device, dtype=old.dtype, copy=True) for part, old in zip(saved, live, strict=True)]
        self.genomes = parts[0] if isinstance(self.genomes, Tensor) else type(self.genomes)(*parts)
        self.confidence = state["confidence"].to(device=self.device, copy=True)
        self.history = list(state["history"].clone())
        self.generation = int(state["generation"])
        self.evaluations = int(state["evaluations"])
        self.generator.set_state(state["generator"].cpu())

    def _evaluate(self, genomes: Genomes, count: int, of_class: Tensor | None) -> Tensor:
        """Scores (count, classes); without goal switching minus infinity for all classes but a genome's own."""
        images = self.encoding.render(genomes)
        with torch.no_grad():
            scores = self.score(images)
        if not isinstance(scores, Tensor) or not scores.is_floating_point():
            kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
            raise TypeError(f"MapElites: score must return a floating-point tensor, got {kind}")
        if scores.shape != (count, self.classes):
            raise ValueError(
                f"MapElites: score must return (images, classes) = ({count}, {self.classes}), "
                f"got {tuple(scores.shape)}; is classes the model's number of outputs?"
            )
        scores = scores.detach().to(self.device)
        if not bool(scores.isfinite().all()):
            found = "NaN" if bool(scores.isnan().any()) else "infinite values"
            raise ValueError(f"MapElites: scores must be finite, got {found}; has the model diverged?")
        self.evaluations += count
        if self.goal_switching or of_class is None:
            return scores
        own = of_class.to(self.device)[:, None] == torch.arange(self.classes, device=self.device)
        return scores.masked_fill(~own, -torch.inf)


def fool(
    model: Callable[[Tensor], Tensor],
    encoding: Encoding,
    *,
    classes: int,
    generations: int,
    generator: torch.Generator,
    population: int = 200,
    initial: int = 200,
    goal_switching: bool = True,
    probabilities: Callable[[Tensor], Tensor] = softmax,
    device: torch.device | str | None = None,
    mode: Mode = "eval",
) -> Elites:
    r"""Images that ``model`` is sure of and nobody else recognises: :class:`MapElites` for some generations.

    .. math:: x_c = \operatorname{render}(e_c), \qquad e_c \approx \arg\max_g p(y = c \mid \operatorname{render}(g))

    Args:
        model: Any module or callable that returns logits; left as it was.
        encoding: As in :class:`MapElites`.
        classes: The model's outputs.
        generations: How many; 0 gives the best of the initial population.
        generator: As in :class:`MapElites`.
        population: As in :class:`MapElites`.
        initial: As in :class:`MapElites`.
        goal_switching: As in :class:`MapElites`.
        probabilities: From logits to probabilities.
        device: Where the model wants its images; the generator's by default.
        mode: ``"as-is"`` runs the model in the modes it has.

    Shape:
        The model's output (batch, classes); images of the result (classes, \*shape), history (generations + 1,
        classes).

    Raises:
        TypeError: As :class:`MapElites`.
        ValueError: As :class:`MapElites`; generations below 0.

    Differences from the paper:
        none beyond those of the encoding.

    Example:
        >>> from claimwise.adversarial import DirectEncoding
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> generator = torch.Generator().manual_seed(0)
        >>> elites = fool(model, DirectEncoding((4, 4)), classes=3, generations=5, generator=generator)
        >>> elites.images.shape, elites.history.shape
        (torch.Size([3, 4, 4]), torch.Size([6, 3]))
    """
    check_count("fool", generations, "generations", 0)
    evolution = MapElites(
        class_probabilities(model, probabilities=probabilities, mode=mode),
        encoding,
        classes=classes,
        population=population,
        initial=initial,
        generator=generator,
        goal_switching=goal_switching,
        device=device,
    )
    for _ in range(generations):
        evolution.step()
    return evolution.elites


def _first(mask: Tensor) -> Tensor:
    """Number of the first row that is true, column by column."""
    return mask.int().argmax(0)

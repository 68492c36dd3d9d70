"""Data sets made up from a seed: small, with known truth, at hand everywhere.

Each is a pure function of its arguments; the same seed gives the same data on the same version of numpy. Draws come
from ``numpy.random.default_rng(seed)`` in the order in which the docstring names them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from claimwise.data.dataset import Dataset


def spirals(
    n: int = 1200, *, classes: int = 2, turns: float = 1.25, noise: float = 0.04, test: float = 0.25, seed: int = 0
) -> Dataset:
    r"""Interleaved spiral arms in the plane, one a class.

    A point of class :math:`k` of :math:`K` at :math:`u \in [0, 1]` along its arm is
    :math:`r\,(\cos\theta, \sin\theta) + \sigma\varepsilon` with :math:`r = \sqrt{u}`,
    :math:`\theta = 2\pi\,(turns \cdot r + k/K)` and standard normal :math:`\varepsilon`; so the arms are evenly filled.

    Args:
        n: points in all, shared evenly among the classes (the first classes get what is over).
        classes: number of arms.
        turns: revolutions of each arm.
        noise: standard deviation of the noise, in units of the arms' reach (1).
        test: fraction of the points held out.
        seed: draws u, then the noise, then the order.

    Shape:
        ``train`` and ``test``: ``x`` float32 (n, 2), ``y`` int64 (n,).

    >>> spirals(8)["train"]["x"].shape
    (6, 2)
    """
    _at_least("spirals", n=(n, 2), classes=(classes, 1), noise=(noise, 0))
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    radius = np.sqrt(rng.random(n))
    angle = 2 * np.pi * (turns * radius + y / classes)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + noise * rng.standard_normal((n, 2))
    order = rng.permutation(n)
    return Dataset("spirals", _train_test(test, x=x[order].astype(np.float32), y=y[order]))


COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
    "grey": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle")


def shapes_with_questions(n: int = 1000, *, size: int = 24, test: float = 0.2, seed: int = 0) -> Dataset:
    """Pictures of one coloured shape on white, each with three questions and their answers.

    The questions, with answers that follow from the picture alone: "what shape is this", "what colour is this", and
    "is there a SHAPE" or "is there a COLOUR". As in easy-VQA, but with pictures of any size, and balanced: without the
    picture, all answers to a question are equally likely.

    Args:
        n: pictures in all.
        size: height and width in pixels, at least 12.
        test: fraction of the pictures held out, with their questions.
        seed: draws shapes, colours, radii, centres and then what the third questions ask.

    Shape:
        ``train`` and ``test``: ``image`` uint8 (n, size, size, 3); ``shape``, ``colour`` int64 (n,), the truth;
        ``question`` int64 (3 n, 4), words padded with 0; ``answer`` int64 (3 n,); ``image_of_question`` int64 (3 n,).
        ``all``: ``words``, ``answers``, ``shapes`` and ``colours``, the texts by number.

    >>> data = shapes_with_questions(10)
    >>> words = data["all"]["words"]
    >>> " ".join(words[data["train"]["question"][0]]).strip()
    'what shape is this'
    """
    _at_least("shapes_with_questions", n=(n, 2), size=(size, 12))
    rng = np.random.default_rng(seed)
    shape = rng.integers(len(SHAPES), size=n)
    colour = rng.integers(len(COLOURS), size=n)
    radius = rng.uniform(size / 6, size / 3, n)
    centre = rng.uniform(radius[:, None], size - radius[:, None], (n, 2))
    about_shape = rng.random(n) < 0.5
    truly = rng.random(n) < 0.5

    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    across = (column - centre[:, 0, None, None]) / radius[:, None, None]  # (n, size, size), the shape's own units
    down = (row - centre[:, 1, None, None]) / radius[:, None, None]
    inside = np.choose(
        shape[:, None, None],
        [
            across**2 + down**2 <= 1,
            np.maximum(np.abs(across), np.abs(down)) <= 0.85,
            (np.abs(across) <= (down + 1) / 2) & (down <= 1),  # point up
        ],
    )
    palette = np.array(list(COLOURS.values()), np.uint8)
    image = np.where(inside[..., None], palette[colour][:, None, None], np.uint8(255))

    words = ["", "what", "shape", "colour", "is", "this", "there", "a", *SHAPES, *COLOURS]
    answers = ["no", "yes", *SHAPES, *COLOURS]
    # What the third question asks for: the truth, or another drawn evenly among the rest.
    asked_shape = np.where(truly, shape, (shape + rng.integers(1, len(SHAPES), n)) % len(SHAPES))
    asked_colour = np.where(truly, colour, (colour + rng.integers(1, len(COLOURS), n)) % len(COLOURS))
    asked = np.where(about_shape, words.index(SHAPES[0]) + asked_shape, words.index("red") + asked_colour)
    number = {word: i for i, word in enumerate(words)}
    question = np.empty((n, 3, 4), np.int64)
    question[:, 0] = [number[w] for w in ("what", "shape", "is", "this")]
    question[:, 1] = [number[w] for w in ("what", "colour", "is", "this")]
    question[:, 2] = [number[w] for w in ("is", "there", "a", "")]
    question[:, 2, 3] = asked
    answer = np.stack([2 + shape, 2 + len(SHAPES) + colour, truly.astype(np.int64)], 1)

    arrays: dict[str, dict[str, np.ndarray]] = {}
    held_out = _held_out(n, test)
    for split, part in (("train", slice(0, n - held_out)), ("test", slice(n - held_out, n))):
        count = len(shape[part])
        arrays[split] = {
            "image": image[part],
            "shape": shape[part],
            "colour": colour[part],
            "question": question[part].reshape(-1, 4),
            "answer": answer[part].reshape(-1),
            "image_of_question": np.repeat(np.arange(count), 3),
        }
    arrays["all"] = {
        "words": np.array(words),
        "answers": np.array(answers),
        "shapes": np.array(SHAPES),
        "colours": np.array(list(COLOURS)),
    }
    return Dataset("shapes_with_questions", arrays)


_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_EINER = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
_ZEHN = ["zehn", "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"]
_ZEHNER = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
PAD, START, END = 0, 1, 2


def number_words(n: int = 2000, *, highest: int = 9999, test: float = 0.2, seed: int = 0) -> Dataset:
    """Numbers in English words and in German ones, cut into their parts, with the true alignment.

    German names the units before the tens, so a translation must reorder: "forty two" is "zwei und vierzig". Every
    target word stems from one source word, except "und", which stems from none; so what attention should look at is
    known. Numbers are drawn evenly from 1 to `highest`, each at most once: test numbers were never seen.

    Args:
        n: numbers in all, at most `highest`.
        highest: the largest number, at most 9999.
        test: fraction held out.
        seed: draws the numbers.

    Shape:
        ``train`` and ``test``: ``number`` int64 (n,); ``source`` int64 (n, s), words, end mark 2, padding 0;
        ``target`` int64 (n, t) likewise; ``alignment`` int64 (n, t), the position in the source of each target word,
        the end mark aligned to the end mark, -1 for "und" and padding.
        ``all``: ``source_words`` and ``target_words``, the texts by number (0 padding, 1 start, 2 end).

    >>> data = number_words(4, highest=42)
    >>> english, german, alignment = spell_number(42)
    >>> english, german, alignment
    (['forty', 'two'], ['zwei', 'und', 'vierzig'], [1, -1, 0])
    """
    if not 2 <= n <= highest <= 9999:
        raise ValueError(f"number_words: need 2 <= n <= highest <= 9999, got n={n}, highest={highest}")
    rng = np.random.default_rng(seed)
    number = rng.permutation(highest)[:n] + 1
    source_words = ["<pad>", "<start>", "<end>", *_UNITS, *_TEENS, *_TENS, "hundred", "thousand"]
    target_words = ["<pad>", "<start>", "<end>", *_EINER, "eins", *_ZEHN, *_ZEHNER, "hundert", "tausend", "und"]
    spelled = [spell_number(int(value)) for value in number]
    longest_source = 1 + max(len(english) for english, _, _ in spelled)
    longest_target = 1 + max(len(german) for _, german, _ in spelled)
    source = np.full((n, longest_source), PAD, np.int64)
    target = np.full((n, longest_target), PAD, np.int64)
    alignment = np.full((n, longest_target), -1, np.int64)
    by_source = {word: i for i, word in enumerate(source_words)}
    by_target = {word: i for i, word in enumerate(target_words)}
    for row, (english, german, aligned) in enumerate(spelled):
        source[row, : len(english) + 1] = [*(by_source[word] for word in english), END]
        target[row, : len(german) + 1] = [*(by_target[word] for word in german), END]
        alignment[row, : len(german) + 1] = [*aligned, len(english)]
    arrays = _train_test(test, number=number, source=source, target=target, alignment=alignment)
    arrays["all"] = {"source_words": np.array(source_words), "target_words": np.array(target_words)}
    return Dataset("number_words", arrays)


def spell_number(number: int) -> tuple[list[str], list[str], list[int]]:
    """A number from 1 to 9999 in English and in German parts, with the English position of each German part."""
    if not 1 <= number <= 9999:
        raise ValueError(f"spell_number: the number must lie between 1 and 9999, got {number}")
    english: list[str] = []
    german: list[str] = []
    aligned: list[int] = []
    for value, big, gross in ((number // 1000, "thousand", "tausend"), (number // 100 % 10, "hundred", "hundert")):
        if value:
            aligned += [len(english), len(english) + 1]
            english += [_UNITS[value - 1], big]
            german += [_EINER[value - 1], gross]
    rest, at = number % 100, len(english)
    tens, units = divmod(rest, 10)
    if tens == 1:
        english, german, aligned = [*english, _TEENS[units]], [*german, _ZEHN[units]], [*aligned, at]
    elif tens and units:
        english += [_TENS[tens - 2], _UNITS[units - 1]]
        german += [_EINER[units - 1], "und", _ZEHNER[tens - 2]]
        aligned += [at + 1, -1, at]
    elif tens:
        english, german, aligned = [*english, _TENS[tens - 2]], [*german, _ZEHNER[tens - 2]], [*aligned, at]
    elif units:
        last = "eins" if units == 1 else _EINER[units - 1]  # "ein" only before something
        english, german, aligned = [*english, _UNITS[units - 1]], [*german, last], [*aligned, at]
    return english, german, aligned


def linear_mediation(
    n: int = 1000,
    *,
    treatment_to_mediator: float = 0.8,
    mediator_to_outcome: float = 0.6,
    treatment_to_outcome: float = 0.5,
    interaction: float = 0.0,
    confounding: float = 0.7,
    noise: float = 1.0,
    seed: int = 0,
) -> Dataset:
    r"""A table from a linear model with one mediator, and its true effects.

    With an observed confounder :math:`c` and standard normal noises :math:`\varepsilon`,

    .. math::
        c &= \varepsilon_c, \qquad t = [\kappa c + \varepsilon_t > 0] \\
        m &= \alpha t + \kappa c + \sigma\varepsilon_m \\
        y &= \tau t + \beta m + \gamma t m + \kappa c + \sigma\varepsilon_y

    so that from t = 0 to t = 1 the natural direct effect is :math:`\tau` (:math:`\mathbb{E}[m] = 0` without
    treatment), the natural indirect effect :math:`\beta\alpha`, the total effect
    :math:`\tau + \beta\alpha + \gamma\alpha`, and the controlled direct effect at m = 0 :math:`\tau`.

    Args:
        n: rows.
        treatment_to_mediator: alpha.
        mediator_to_outcome: beta.
        treatment_to_outcome: tau.
        interaction: gamma; unless it is 0, total is not direct plus indirect.
        confounding: kappa, the pull of the confounder on all three; 0 for a randomised experiment.
        noise: sigma, in the outcome's units.
        seed: draws the noises of c, t, m, y.

    Shape:
        ``all``: ``confounder``, ``treatment``, ``mediator``, ``outcome`` float64 (n,).
        ``truth``: ``total``, ``natural_direct``, ``natural_indirect``, ``controlled_direct_at_0`` float64 ().

    >>> float(linear_mediation(10)["truth"]["natural_indirect"])
    0.48
    """
    _at_least("linear_mediation", n=(n, 1), noise=(noise, 0))
    rng = np.random.default_rng(seed)
    confounder, of_treatment, of_mediator, of_outcome = rng.standard_normal((4, n))
    treatment = (confounding * confounder + of_treatment > 0).astype(np.float64)
    mediator = treatment_to_mediator * treatment + confounding * confounder + noise * of_mediator
    outcome = (
        treatment_to_outcome * treatment
        + mediator_to_outcome * mediator
        + interaction * treatment * mediator
        + confounding * confounder
        + noise * of_outcome
    )
    indirect = mediator_to_outcome * treatment_to_mediator
    truth = {
        "total": treatment_to_outcome + indirect + interaction * treatment_to_mediator,
        "natural_direct": treatment_to_outcome,
        "natural_indirect": indirect,
        "controlled_direct_at_0": treatment_to_outcome,
    }
    table = {"confounder": confounder, "treatment": treatment, "mediator": mediator, "outcome": outcome}
    return Dataset(
        "linear_mediation", {"all": table, "truth": {name: np.array(value) for name, value in truth.items()}}
    )


def binary_mediation(
    n: int = 2000,
    *,
    confounder: float = 0.4,
    treatment: Sequence[float] = (0.3, 0.6),
    mediator: Sequence[Sequence[float]] = ((0.2, 0.4), (0.6, 0.8)),
    outcome: Sequence[Sequence[Sequence[float]]] = (((0.1, 0.3), (0.4, 0.5)), ((0.3, 0.4), (0.8, 0.9))),
    seed: int = 0,
) -> Dataset:
    r"""A table of binary variables with one mediator and one observed confounder, and its true effects.

    The true effects are enumerated from the tables by the mediation formula, with :math:`P(c)` the confounder's:

    .. math::
        TE &= \sum_{c,m} P(c)\,[\,E(y|1,m,c)\,P(m|1,c) - E(y|0,m,c)\,P(m|0,c)\,] \\
        NDE &= \sum_{c,m} P(c)\,[\,E(y|1,m,c) - E(y|0,m,c)\,]\,P(m|0,c) \\
        NIE &= \sum_{c,m} P(c)\,E(y|0,m,c)\,[\,P(m|1,c) - P(m|0,c)\,] \\
        CDE(m) &= \sum_c P(c)\,[\,E(y|1,m,c) - E(y|0,m,c)\,]

    Args:
        n: rows.
        confounder: P(c = 1).
        treatment: P(t = 1 | c), by c.
        mediator: P(m = 1 | t, c), by t, then c.
        outcome: P(y = 1 | t, m, c), by t, then m, then c.
        seed: draws c, t, m, y.

    Shape:
        ``all``: ``confounder``, ``treatment``, ``mediator``, ``outcome`` int64 (n,), 0 or 1.
        ``truth``: ``total``, ``natural_direct``, ``natural_indirect`` float64 (), ``controlled_direct`` (2,), by m.

    >>> truth = binary_mediation(10)["truth"]
    >>> round(float(truth["total"]), 3), round(float(truth["natural_direct"]), 3)
    (0.432, 0.232)
    """
    of_treatment, of_mediator, of_outcome = np.array(treatment), np.array(mediator), np.array(outcome)
    for name, table, shape in (
        ("confounder", np.array(confounder), ()),
        ("treatment", of_treatment, (2,)),
        ("mediator", of_mediator, (2, 2)),
        ("outcome", of_outcome, (2, 2, 2)),
    ):
        if table.shape != shape or not ((table >= 0) & (table <= 1)).all():
            raise ValueError(f"binary_mediation: {name} must be probabilities of shape {shape}, got {table.tolist()}")
    _at_least("binary_mediation", n=(n, 1))
    rng = np.random.default_rng(seed)
    uniform = rng.random((4, n))
    c = (uniform[0] < confounder).astype(np.int64)
    t = (uniform[1] < of_treatment[c]).astype(np.int64)
    m = (uniform[2] < of_mediator[t, c]).astype(np.int64)
    y = (uniform[3] < of_outcome[t, m, c]).astype(np.int64)

    total = direct = indirect = 0.0
    controlled = np.zeros(2)
    for value, middle in itertools.product((0, 1), (0, 1)):
        weight = confounder if value else 1 - confounder
        treated, untreated = of_outcome[1, middle, value], of_outcome[0, middle, value]
        under, without = (p if middle else 1 - p for p in (of_mediator[1, value], of_mediator[0, value]))
        total += weight * (treated * under - untreated * without)
        direct += weight * (treated - untreated) * without
        indirect += weight * untreated * (under - without)
        controlled[middle] += weight * (treated - untreated)
    truth = {"total": total, "natural_direct": direct, "natural_indirect": indirect, "controlled_direct": controlled}
    return Dataset(
        "binary_mediation",
        {
            "all": {"confounder": c, "treatment": t, "mediator": m, "outcome": y},
            "truth": {name: np.array(value) for name, value in truth.items()},
        },
    )


def voters(
    items: int = 500,
    *,
    workers: int = 20,
    classes: int = 3,
    votes: int = 5,
    skill: tuple[float, float] = (0.4, 0.95),
    seed: int = 0,
) -> Dataset:
    """Labels that workers of known skill give to items of known class.

    A worker of skill s names the true class with probability s on the average over classes; skill varies by class
    within a worker (by a uniform draw of up to 0.1 either way), and errors fall on the other classes by proportions
    drawn evenly from the simplex. Each item is labelled by `votes` workers, drawn without replacement.

    Args:
        items: number of items.
        workers: number of workers.
        classes: number of classes, at least 2, all equally likely.
        votes: labels an item, at most `workers`.
        skill: range from which each worker's skill is drawn evenly.
        seed: draws the truth, skills, their variation, the errors' proportions, who labels what, then the labels.

    Shape:
        ``all``: ``labels`` int64 (items, workers), -1 where a worker did not vote; ``truth`` int64 (items,);
        ``confusion`` float64 (workers, classes, classes), P(label | truth) by worker, truth, label.

    >>> (voters(10)["all"]["labels"] >= 0).sum(1).tolist()
    [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """
    _at_least("voters", items=(items, 1), classes=(classes, 2), votes=(votes, 1))
    if votes > workers:
        raise ValueError(f"voters: an item cannot get {votes} votes from {workers} workers")
    if not 0 <= skill[0] <= skill[1] <= 1:
        raise ValueError(f"voters: skill must be a range within [0, 1], got {skill}")
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=items)
    right = rng.uniform(*skill, workers)[:, None] + rng.uniform(-0.1, 0.1, (workers, classes))
    right = right.clip(0, 1)  # (worker, truth)
    wrong = rng.dirichlet(np.ones(classes - 1), (workers, classes))  # (worker, truth, other class)
    confusion = np.zeros((workers, classes, classes))
    for true in range(classes):
        others = [label for label in range(classes) if label != true]
        confusion[:, true, true] = right[:, true]
        confusion[:, true, others] = (1 - right[:, true, None]) * wrong[:, true]
    votes_cast = rng.random((items, workers)).argsort(1) < votes  # each row a random subset of that size
    levels = confusion[:, truth].cumsum(-1)  # (worker, item, label)
    labels = (rng.random((items, workers, 1)) > levels.transpose(1, 0, 2)).sum(-1).clip(max=classes - 1)
    return Dataset(
        "voters", {"all": {"labels": np.where(votes_cast, labels, -1), "truth": truth, "confusion": confusion}}
    )


def block_graph(
    nodes: int = 300,
    *,
    blocks: int = 3,
    inside: float = 0.1,
    between: float = 0.01,
    features: int = 16,
    signal: float = 0.5,
    labelled: int = 20,
    seed: int = 0,
) -> Dataset:
    """An undirected graph from the stochastic block model, with noisy node features and a split.

    Nodes are shared evenly among blocks; two nodes are linked with probability `inside` in one block and `between`
    across blocks. Features are standard normal noise around a centre a block, with centres of norm about
    ``signal * sqrt(features)``.

    Args:
        nodes: number of nodes, at least ``blocks * (labelled + 2)``.
        blocks: number of blocks, the classes.
        inside: probability of a link within a block.
        between: probability of a link across blocks.
        features: features a node.
        signal: standard deviation of the centres' coordinates; 0 makes the features useless.
        labelled: training nodes a block; of the rest a half validates and a half tests.
        seed: draws the order of nodes, links, centres, noise, then the split.

    Shape:
        ``all``: ``edges`` int64 (2, links), each pair once, smaller node first; ``x`` float32 (nodes, features);
        ``y`` int64 (nodes,); ``train_idx``, ``val_idx``, ``test_idx`` int64.

    >>> graph = block_graph(30, labelled=2)["all"]
    >>> len(graph["train_idx"]), bool((graph["edges"][0] < graph["edges"][1]).all())
    (6, True)
    """
    _at_least("block_graph", blocks=(blocks, 1), labelled=(labelled, 1), nodes=(nodes, blocks * (labelled + 2)))
    for name, probability in (("inside", inside), ("between", between)):
        if not 0 <= probability <= 1:
            raise ValueError(f"block_graph: {name} must be a probability, got {probability}")
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(nodes) % blocks)
    first, second = np.triu_indices(nodes, 1)
    linked = rng.random(len(first)) < np.where(y[first] == y[second], inside, between)
    centres = signal * rng.standard_normal((blocks, features))
    x = (centres[y] + rng.standard_normal((nodes, features))).astype(np.float32)
    order = rng.permutation(nodes)
    train = np.sort(np.concatenate([order[y[order] == block][:labelled] for block in range(blocks)]))
    rest = order[~np.isin(order, train)]
    half = len(rest) // 2
    return Dataset(
        "block_graph",
        {
            "all": {
                "edges": np.stack([first[linked], second[linked]]).astype(np.int64),
                "x": x,
                "y": y.astype(np.int64),
                "train_idx": train.astype(np.int64),
                "val_idx": np.sort(rest[:half]).astype(np.int64),
                "test_idx": np.sort(rest[half:]).astype(np.int64),
            }
        },
    )


SCALE = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
"""Semitones above the tonic of the seven degrees."""
VOICES = {"bass": (36, 60), "tenor": (48, 69), "alto": (53, 74), "soprano": (60, 81)}
"""Lowest and highest key of each voice, in MIDI numbers."""
CHORD_AFTER = np.array(
    [
        [0.0, 0.15, 0.05, 0.3, 0.3, 0.2, 0.0],  # I
        [0.1, 0.0, 0.0, 0.1, 0.6, 0.0, 0.2],  # II
        [0.0, 0.1, 0.0, 0.4, 0.0, 0.5, 0.0],  # III
        [0.3, 0.2, 0.0, 0.0, 0.4, 0.0, 0.1],  # IV
        [0.7, 0.0, 0.0, 0.05, 0.0, 0.25, 0.0],  # V
        [0.0, 0.4, 0.1, 0.3, 0.2, 0.0, 0.0],  # VI
        [0.8, 0.0, 0.1, 0.0, 0.1, 0.0, 0.0],  # VII
    ]
)
"""Probability of the next chord's degree, a column, by that of the present one, a row."""


def generated_chorales(
    n: int = 60,
    *,
    phrases: int = 4,
    tonics: Sequence[int] = (0, 7),
    validation: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Four-part pieces as piano rolls: stand-ins for the JSB Chorales, in the same arrays.

    A piece has a tonic, is major or minor, and has up to `phrases` phrases of eight steps. Chords follow each other by
    a fixed table of probabilities (:data:`CHORD_AFTER`), each for one or two steps; the last two steps of a phrase are
    V and I. The bass takes a chord's root, every other voice that note of the chord in its range (:data:`VOICES`) which
    is nearest to the one it sang before (the lower of two equally near); voices may meet on one key. So the next step
    follows from the present chord up to the draw of the next one, and what key and phrase we are in helps to guess it.

    Args:
        n: pieces in all, at least 3.
        phrases: the largest number of phrases, each of 8 steps; the smallest is half of it, rounded up.
        tonics: pitch classes that a piece may stand in, in semitones above C, equally likely; by default C and G.
        validation: fraction of the pieces held out for validation.
        test: fraction held out for the test.
        seed: draws, piece by piece: tonic, mode, number of phrases, then for each chord its length and its successor.

    Shape:
        ``train``, ``validation`` and ``test``: ``roll`` uint8 (steps, 88), keys MIDI 21 to 108, the pieces one after
        another; ``length`` int64 (pieces,), steps of each.

    >>> data = generated_chorales(6)
    >>> len(data["train"]["roll"]) == data["train"]["length"].sum().item()
    True
    """
    _at_least("generated_chorales", n=(n, 3), phrases=(phrases, 1))
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(
            f"generated_chorales: validation and test must be fractions that leave some to train, got {validation} and "
            f"{test}"
        )
    if not len(tonics) or not all(0 <= tonic < 12 for tonic in tonics):
        raise ValueError(f"generated_chorales: tonics must be semitones from 0 to 11, got {tuple(tonics)}")
    rng = np.random.default_rng(seed)
    pieces = [_chorale(rng, phrases, tonics) for _ in range(n)]
    held = max(1, round(n * validation)), max(1, round(n * test))
    first, second = n - sum(held), n - held[1]
    if first < 1:
        raise ValueError(f"generated_chorales: {n} pieces leave none to train; take more, or smaller fractions")
    return Dataset(
        "generated_chorales",
        {
            split: {"roll": np.concatenate(part), "length": np.array([len(piece) for piece in part], np.int64)}
            for split, part in (
                ("train", pieces[:first]),
                ("validation", pieces[first:second]),
                ("test", pieces[second:]),
            )
        },
    )


def _chorale(rng: np.random.Generator, phrases: int, tonics: Sequence[int]) -> np.ndarray:
    tonic = tonics[int(rng.integers(len(tonics)))]
    scale = SCALE["major" if rng.random() < 0.5 else "minor"]
    degrees: list[int] = []
    for _ in range(int(rng.integers((phrases + 1) // 2, phrases + 1))):
        phrase: list[int] = []
        degree = 0
        while len(phrase) < 6:
            phrase += [degree] * int(rng.integers(1, 3))
            degree = int(rng.choice(len(scale), p=CHORD_AFTER[degree]))
        degrees += [*phrase[:6], 4, 0]
    allowed: dict[tuple[int, str], list[int]] = {}
    for degree in set(degrees):
        triad = [(tonic + scale[(degree + third) % 7]) % 12 for third in (0, 2, 4)]
        for voice, (low, high) in VOICES.items():
            classes = triad[:1] if voice == "bass" else triad
            allowed[degree, voice] = [key for key in range(low, high + 1) if key % 12 in classes]
    roll = np.zeros((len(degrees), 88), np.uint8)
    for voice, (low, high) in VOICES.items():
        key = (low + high) // 2
        for step, degree in enumerate(degrees):
            if step == 0 or degree != degrees[step - 1]:
                key = min(allowed[degree, voice], key=lambda other, before=key: abs(other - before))  # type: ignore[misc]
            roll[step, key - 21] = 1
    return roll


def _held_out(n: int, test: float) -> int:
    if not 0 < test < 1:
        raise ValueError(f"test must be a fraction between 0 and 1, got {test}")
    return min(max(1, round(n * test)), n - 1)


def _train_test(test: float, **arrays: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The last part of each array held out."""
    n = len(next(iter(arrays.values())))
    cut = n - _held_out(n, test)
    return {
        "train": {name: array[:cut] for name, array in arrays.items()},
        "test": {name: array[cut:] for name, array in arrays.items()},
    }


def _at_least(generator: str, **limits: tuple[float, float]) -> None:
    for name, (value, least) in limits.items():
        if not value >= least:
            raise ValueError(f"{generator}: {name} must be >= {least}, got {value}")

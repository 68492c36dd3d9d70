"""Generated data: what they promise, checked against slow twins and the truth they carry."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwise.data import generators, list_datasets

ALL = [listed.name for listed in list_datasets() if listed.place == "generated"]


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_data_and_another_seed_others(name):
    make = getattr(generators, name)
    before = np.random.get_state()[1].copy()
    assert make(seed=3).content_hash == make(seed=3).content_hash != make(seed=4).content_hash
    # The global generator is left alone.
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: generators.spirals(1), "spirals: n must be >= 2, got 1"),
        (lambda: generators.spirals(noise=math.nan), "spirals: noise must be >= 0, got nan"),
        (lambda: generators.spirals(test=1.0), "test must be a fraction between 0 and 1, got 1.0"),
        (lambda: generators.shapes_with_questions(size=4), "size must be >= 12, got 4"),
        (lambda: generators.number_words(50, highest=20), "n=50, highest=20"),
        (lambda: generators.spell_number(0), "between 1 and 9999, got 0"),
        (lambda: generators.linear_mediation(0), "n must be >= 1, got 0"),
        (lambda: generators.binary_mediation(treatment=(0.5, 1.5)), "treatment must be probabilities"),
        (lambda: generators.binary_mediation(mediator=(0.5, 0.5)), r"mediator must be probabilities of shape \(2, 2\)"),
        (lambda: generators.voters(votes=30), "30 votes from 20 workers"),
        (lambda: generators.voters(skill=(0.9, 0.4)), r"skill must be a range within \[0, 1\]"),
        (lambda: generators.block_graph(inside=2), "inside must be a probability, got 2"),
        (lambda: generators.block_graph(10), "nodes must be >= 66, got 10"),
        (lambda: generators.generated_chorales(2), "n must be >= 3, got 2"),
        (lambda: generators.generated_chorales(test=0.9), "leave some to train, got 0.2 and 0.9"),
        (lambda: generators.generated_chorales(3, validation=0.45, test=0.5), "leave none to train"),
        (lambda: generators.generated_chorales(tonics=()), "tonics must be semitones from 0 to 11"),
        (lambda: generators.generated_chorales(tonics=(12,)), r"tonics must be semitones from 0 to 11, got \(12,\)"),
    ],
)
def test_bad_arguments_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_spirals_lie_on_their_arms():
    data = generators.spirals(100, classes=3, turns=1.0, noise=0.0)
    assert sorted(np.concatenate([data["train"]["y"], data["test"]["y"]]).tolist()) == sorted(i % 3 for i in range(100))
    for (a, b), label in zip(data["train"]["x"], data["train"]["y"], strict=True):
        radius = math.hypot(a, b)
        angle = 2 * math.pi * (radius + label / 3)
        assert math.isclose(a, radius * math.cos(angle), abs_tol=1e-5)  # float32
        assert math.isclose(b, radius * math.sin(angle), abs_tol=1e-5)


def test_answers_follow_from_the_pictures():
    data = generators.shapes_with_questions(300, size=24)
    words, answers = data["all"]["words"], data["all"]["answers"]
    colours = {name: np.array(rgb) for name, rgb in generators.COLOURS.items()}
    area = {"circle": math.pi, "square": 1.7**2, "triangle": 2.0}
    yes = 0
    for image, number in zip(data["train"]["image"], range(len(data["train"]["image"])), strict=True):
        drawn = (image != 255).any(-1)
        colour = next(name for name, rgb in colours.items() if (image[drawn][0] == rgb).all())
        assert (image[drawn] == colours[colour]).all()  # one colour on white
        rows = np.flatnonzero(drawn.any(1))
        widths = drawn.sum(1)[rows]
        # A square's rows are equally wide, a triangle's widest is at its foot, a circle's in its middle.
        widest = np.flatnonzero(widths == widths.max()).mean() / max(1, len(widths) - 1)
        shape = "square" if len(set(widths.tolist())) == 1 else ("triangle" if widest > 0.8 else "circle")
        for question, answer, at in zip(
            data["train"]["question"], data["train"]["answer"], data["train"]["image_of_question"], strict=True
        ):
            if at != number:
                continue
            text = " ".join(words[question]).strip()
            expected = {"what shape is this": shape, "what colour is this": colour}.get(
                text, "yes" if text.split()[-1] in (shape, colour) else "no"
            )
            assert answers[answer] == expected, (text, shape, colour)
            yes += text.startswith("is there") and expected == "yes"
        assert data["all"]["shapes"][data["train"]["shape"][number]] == shape
        radius_squared = drawn.sum() / area[shape]
        assert 0.5 * (24 / 6) ** 2 < radius_squared < 1.5 * (24 / 3) ** 2
    assert 80 < yes < 160  # a half of 240


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (1, "one", "eins"),
        (10, "ten", "zehn"),
        (16, "sixteen", "sechzehn"),
        (21, "twenty one", "ein und zwanzig"),
        (30, "thirty", "dreißig"),
        (101, "one hundred one", "ein hundert eins"),
        (712, "seven hundred twelve", "sieben hundert zwölf"),
        (4042, "four thousand forty two", "vier tausend zwei und vierzig"),
        (9999, "nine thousand nine hundred ninety nine", "neun tausend neun hundert neun und neunzig"),
    ],
)
def test_numbers_in_words(number, english, german):
    spelled = generators.spell_number(number)
    assert (" ".join(spelled[0]), " ".join(spelled[1])) == (english, german)


def test_number_words_are_distinct_and_aligned_words_mean_the_same():
    spelled = [generators.spell_number(number) for number in range(1, 10_000)]
    assert len({tuple(english) for english, _, _ in spelled}) == 9999
    assert len({tuple(german) for _, german, _ in spelled}) == 9999
    pairs: dict[str, set[str]] = {}
    for english, german, aligned in spelled:
        assert sorted(at for at in aligned if at >= 0) == list(range(len(english)))
        for word, at in zip(german, aligned, strict=True):
            pairs.setdefault(word, set()).add(english[at] if at >= 0 else "")
    assert pairs.pop("und") == {""}
    assert all(len(meanings) == 1 for meanings in pairs.values())


def test_number_words_arrays():
    data = generators.number_words(200, highest=500)
    words, others = data["all"]["source_words"], data["all"]["target_words"]
    numbers = np.concatenate([data["train"]["number"], data["test"]["number"]])
    assert len(set(numbers.tolist())) == 200
    for split in ("train", "test"):
        part = data[split]
        for row, number in enumerate(part["number"].tolist()):
            english, german, aligned = generators.spell_number(number)
            assert words[part["source"][row]][: len(english) + 1].tolist() == [*english, "<end>"]
            assert set(part["source"][row][len(english) + 1 :].tolist()) <= {0}
            assert others[part["target"][row]][: len(german) + 1].tolist() == [*german, "<end>"]
            assert part["alignment"][row][: len(german) + 1].tolist() == [*aligned, len(english)]
            assert set(part["alignment"][row][len(german) + 1 :].tolist()) <= {-1}


@given(
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=2, max_size=2),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_binary_truth_by_enumerating_every_world(confounder, treatment, mediator, outcomes):
    """Twin: counterfactual outcomes Y(t, M(t')) averaged over the response types of the mediator."""
    outcome = np.reshape(outcomes, (2, 2, 2)).tolist()
    truth = generators.binary_mediation(
        2, confounder=confounder, treatment=treatment, mediator=mediator, outcome=outcome
    )["truth"]

    def mean_outcome(treated: int, mediator_as_under: int) -> float:
        mean = 0.0
        for c, under_0, under_1 in itertools.product((0, 1), repeat=3):  # M(0) and M(1), independent given c
            weight = confounder if c else 1 - confounder
            weight *= mediator[0][c] if under_0 else 1 - mediator[0][c]
            weight *= mediator[1][c] if under_1 else 1 - mediator[1][c]
            mean += weight * outcome[treated][under_1 if mediator_as_under else under_0][c]
        return mean

    assert truth["total"] == pytest.approx(mean_outcome(1, 1) - mean_outcome(0, 0), abs=1e-12)
    assert truth["natural_direct"] == pytest.approx(mean_outcome(1, 0) - mean_outcome(0, 0), abs=1e-12)
    assert truth["natural_indirect"] == pytest.approx(mean_outcome(0, 1) - mean_outcome(0, 0), abs=1e-12)
    for m in (0, 1):
        controlled = sum((confounder if c else 1 - confounder) * (outcome[1][m][c] - outcome[0][m][c]) for c in (0, 1))
        assert truth["controlled_direct"][m] == pytest.approx(controlled, abs=1e-12)


def test_binary_table_has_the_given_probabilities():
    n = 200_000
    table = generators.binary_mediation(n, seed=1)["all"]
    c, t, m, y = (table[name] for name in ("confounder", "treatment", "mediator", "outcome"))
    assert c.mean() == pytest.approx(0.4, abs=0.006)  # five standard errors
    for value, probability in enumerate((0.3, 0.6)):
        assert t[c == value].mean() == pytest.approx(probability, abs=0.009)
    for (under, value), probability in np.ndenumerate(np.array(((0.2, 0.4), (0.6, 0.8)))):
        assert m[(t == under) & (c == value)].mean() == pytest.approx(probability, abs=0.015)
    outcomes = np.array((((0.1, 0.3), (0.4, 0.5)), ((0.3, 0.4), (0.8, 0.9))))
    for (under, middle, value), probability in np.ndenumerate(outcomes):
        assert y[(t == under) & (m == middle) & (c == value)].mean() == pytest.approx(probability, abs=0.025)


def test_linear_truth_by_least_squares():
    data = generators.linear_mediation(200_000, interaction=0.3, seed=2)
    table, truth = data["all"], data["truth"]
    c, t, m, y = (table[name] for name in ("confounder", "treatment", "mediator", "outcome"))
    one = np.ones_like(c)
    of_m = np.linalg.lstsq(np.stack([one, t, c], 1), m, rcond=None)[0]
    of_y = np.linalg.lstsq(np.stack([one, t, m, t * m, c], 1), y, rcond=None)[0]
    mean = {u: of_m[0] + of_m[1] * u + of_m[2] * c.mean() for u in (0, 1)}  # of the mediator under u
    found = {
        "total": of_y[1] + of_y[2] * of_m[1] + of_y[3] * mean[1],
        "natural_direct": of_y[1] + of_y[3] * mean[0],
        "natural_indirect": of_y[2] * of_m[1],
        "controlled_direct_at_0": of_y[1],
    }
    for effect, value in found.items():
        assert truth[effect] == pytest.approx(value, abs=0.04), effect  # five standard errors, about
    assert truth["total"] != pytest.approx(truth["natural_direct"] + truth["natural_indirect"], abs=0.1)


def test_voters_vote_by_their_confusion():
    data = generators.voters(30_000, workers=6, votes=3, classes=3)["all"]
    assert ((data["labels"] >= 0).sum(1) == 3).all()
    np.testing.assert_allclose(data["confusion"].sum(-1), 1)
    right = np.diagonal(data["confusion"], axis1=1, axis2=2)
    assert np.ptp(right, axis=1).min() > 0  # skill varies by class ...
    assert np.abs(data["confusion"][:, 0, 1] - data["confusion"][:, 0, 2]).min() > 0  # ... and errors have favourites
    for worker in range(6):
        for true in range(3):
            given = data["labels"][data["truth"] == true, worker]
            shares = np.bincount(given[given >= 0], minlength=3) / (given >= 0).sum()
            np.testing.assert_allclose(shares, data["confusion"][worker, true], atol=0.035)  # five standard errors


def test_blocks_are_linked_as_asked():
    graph = generators.block_graph(1000, blocks=4, inside=0.05, between=0.005)["all"]
    first, second = graph["edges"]
    assert (first < second).all()
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
    same = (graph["y"][first] == graph["y"][second]).sum()
    pairs_inside = 4 * 250 * 249 / 2
    pairs_between = 1000 * 999 / 2 - pairs_inside
    assert same / pairs_inside == pytest.approx(0.05, abs=0.004)  # five standard errors
    assert (len(first) - same) / pairs_between == pytest.approx(0.005, abs=0.0006)
    split = [graph["train_idx"], graph["val_idx"], graph["test_idx"]]
    assert sorted(np.concatenate(split).tolist()) == list(range(1000))
    assert np.bincount(graph["y"][graph["train_idx"]]).tolist() == [20, 20, 20, 20]
    means = np.stack([graph["x"][graph["y"] == block].mean(0) for block in range(4)])
    assert means.std() == pytest.approx(0.5, abs=0.2)


def test_chorales_sing_the_chords_in_their_voices():
    data = generators.generated_chorales(20, phrases=3, tonics=(2,), seed=1)
    assert [len(data[split]["length"]) for split in ("train", "validation", "test")] == [12, 4, 4]
    for split in ("train", "validation", "test"):
        roll, length = data[split]["roll"], data[split]["length"]
        assert roll.dtype == np.uint8
        assert roll.shape == (length.sum(), 88)
        assert set(length.tolist()) <= {16, 24}
        assert ((roll.sum(1) >= 1) & (roll.sum(1) <= 4)).all()
        sounding = np.flatnonzero(roll.any(0)) + 21
        assert sounding.min() >= 36
        assert sounding.max() <= 81
        for end in np.cumsum(length):  # every piece ends V, I: A and then D in the bass
            before, last = (np.flatnonzero(roll[t])[0] + 21 for t in (end - 2, end - 1))
            assert (before % 12, last % 12) == (9, 2)


def test_chorales_move_each_voice_to_the_nearest_key_of_the_chord():
    """The last chord, I, is a triad, and but for the bass its keys are near to those of the one before, V."""
    data = generators.generated_chorales(10, tonics=(0,), seed=3)["train"]
    at = 0
    for length in data["length"].tolist():
        piece = data["roll"][at : at + length]
        at += length
        before, last = (set((np.flatnonzero(row) + 21).tolist()) for row in piece[-2:])
        third = {key % 12 for key in last} - {0, 7}
        assert third <= {3, 4}  # minor or major
        leaps = [key for key in last if min(abs(key - other) for other in before) > 4]
        assert len(leaps) <= 1  # the bass, which must take the root

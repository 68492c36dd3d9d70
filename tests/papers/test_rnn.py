import re

import numpy as np
import pytest
import torch
from matplotlib.text import Annotation
from torch import nn

import claimwise.lab.run as lab_run
from claimwise.data import Dataset
from claimwise.lab.measurements import Curve, Exact, Matrix, Proportion
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.papers import rnn
from claimwise.papers.rnn import paper
from claimwise.recurrent import LSTM, EncoderDecoder

SETUPS = {
    "gradients": rnn.Backpropagation(networks=2, steps=3, hidden=2),
    "distance": rnn.Distance(hidden=16, inputs=2, steps=20),
    "connections": rnn.Connections(width=2, inputs=2),
    "structures": rnn.Structures(
        images=40, tests=20, epochs=1, hidden=4, music_epochs=1, pieces_a_step=2, longest=4, reversals=60
    ),
    "recall": rnn.Recall(gaps=(5, 50, 100), hidden=4, sequences=40, tests=30, batch_size=20),
    "characters": rnn.Characters(
        window=10, windows=12, epochs=2, tests=7, widths=((4, 3, 2), (4, 3, 2), (4, 3, 2)), batch_size=5
    ),
    "arithmetic": rnn.Arithmetic(expressions=30, tests=6, widths=(3, 2), batch_size=10),
}


def noise(name, **_):
    rng = np.random.default_rng(0)
    if name == "mnist":
        return Dataset(
            name,
            {
                split: {"x": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), "y": rng.integers(0, 10, count)}
                for split, count in (("train", 50), ("test", 30))
            },
        )
    if name == "music_jsb_chorales":
        length = np.array([4, 7, 5])
        music = {"roll": rng.integers(0, 2, (16, 88), dtype=np.uint8), "length": length}
        return Dataset(name, {"train": music, "test": music})
    assert name == "multi30k_raw"
    sentences = {"en": np.array(["A dog, in snow.", "Two men - one of 3 - read."] * 8)}
    return Dataset(name, {"train": sentences, "test": sentences})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be, on noise."""
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_run, "load_data", noise)
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    rows = {row for claim in paper.claims.values() for row in claim.sheet}
    assert rows == {f"28.{k}" for k in range(1, 7)} | {f"28b.{k}" for k in range(1, 6)}


def test_what_no_scale_tests_has_its_reason():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {
        "delta-is-accumulated": "not empirical",
        "large-feedback-network-is-best": "data",
        "feedback-converges-in-less-time": "hardware",
    }


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


def test_plans_and_the_words_about_them():
    assert set(paper.experiments) == set(SETUPS)
    plans = {name: experiment.plans for name, experiment in paper.experiments.items()}
    assert set(plans["characters"]) == set(plans["arithmetic"]) == {"small"}
    seeds = {name: plan["small"].seeds for name, plan in plans.items()}
    assert seeds == {
        "gradients": 1,
        "distance": 10,
        "connections": 1,
        "structures": 5,
        "recall": 5,
        "characters": 3,
        "arithmetic": 5,
    }
    steps = {
        "characters": plans["characters"]["small"].setup.windows * plans["characters"]["small"].setup.epochs,
        "arithmetic": plans["arithmetic"]["small"].setup.expressions,
        "recall": plans["recall"]["small"].setup.sequences,
    }
    for claim in paper.claims.values():
        for experiment, _ in claim.criteria["small"].leaves() if "small" in claim.criteria else ():
            if experiment in steps:
                batch = plans[experiment]["small"].setup.batch_size
                assert f" {steps[experiment] // batch} steps" in claim.differences["small"], claim.id


def test_architectures_have_equally_many_parameters():
    setup = paper.experiments["characters"].plans["small"].setup
    for cell, widths in zip(setup.cells, setup.widths, strict=True):
        counts = [
            rnn.parameters_of(rnn.ManyToMany(rnn.core_of(cell, architecture, rnn.SYMBOLS, width), rnn.SYMBOLS))
            for architecture, width in zip(("single", "stacked", "gf"), widths, strict=True)
        ]
        assert max(counts) / min(counts) < 1.01, (cell, counts)
    widths = paper.experiments["arithmetic"].plans["small"].setup.widths
    counts = [
        12 * (width + 1) + sum(rnn.parameters_of(rnn.core_of("gru", kind, inputs, width)) for inputs in (14, 12))
        for kind, width in zip(("stacked", "gf"), widths, strict=True)
    ]
    assert max(counts) / min(counts) < 1.01


# backpropagation


def test_unrolled_losses_are_those_of_torchs_network():
    x, y, weights = rnn.drawn(rnn.Backpropagation(), torch.Generator().manual_seed(0))
    network = nn.RNN(3, 4, batch_first=True, dtype=torch.float64)
    network.load_state_dict(
        {
            "weight_ih_l0": weights["U"],
            "weight_hh_l0": weights["W"],
            "bias_ih_l0": weights["b"],
            "bias_hh_l0": torch.zeros(4),
        }
    )
    o = network(x)[0] @ weights["V"].T + weights["c"]
    cross = nn.functional.cross_entropy(o.flatten(0, 1), y.flatten(), reduction="sum")
    assert torch.stack(rnn.losses(x, y, weights, "cross-entropy")).sum().item() == pytest.approx(cross.item())
    squared = ((o.softmax(2) - torch.eye(3, dtype=torch.float64)[y]) ** 2).sum() / 2
    assert torch.stack(rnn.losses(x, y, weights, "squared-softmax")).sum().item() == pytest.approx(squared.item())


def test_formula_without_w_is_right_for_one_step_only():
    x, y, weights = rnn.drawn(rnn.Backpropagation(), torch.Generator().manual_seed(0))
    for steps, wrong in ((1, 0), (6, 3)):
        found = rnn.without_w(x[:, :steps], y[:, :steps], weights)
        true = rnn.by_autograd(x[:, :steps], y[:, :steps], weights, "cross-entropy")
        if steps == 1:
            del found["W"]  # its gradient is 0 there
        assert rnn.off(found, true) == wrong


def test_formula_without_w_is_right_where_w_is_the_identity():
    x, y, weights = rnn.drawn(rnn.Backpropagation(), torch.Generator().manual_seed(0))
    weights["W"] = torch.eye(4, dtype=torch.float64)
    assert rnn.off(rnn.without_w(x, y, weights), rnn.by_autograd(x, y, weights, "cross-entropy")) == 0


def test_counts(runs):
    found = {name: measured.value for name, measured in runs["gradients"].measurements.items()}
    right = {"off_autograd", "off_differences", "full_jacobian_off", "loss_off", "copies_off"}
    assert found == {name: 0 if name in right else 2 for name in found}


def test_scales_of_random_matrices_are_what_they_are_said_to_be(runs):
    found = runs["distance"].measurements
    assert found["large_singular_value"].value == pytest.approx(1.5)
    assert found["large_spectral_radius"].value < 1.5
    w = torch.diag(torch.tensor([0.5, -2.0]))
    assert rnn.spectral_radius(w) == rnn.singular_value(w) == pytest.approx(2)
    sheared = torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    assert (rnn.singular_value(sheared), rnn.spectral_radius(sheared)) == (pytest.approx(3), pytest.approx(0))


def test_forget_gates_open():
    model = LSTM(2, 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rnn.open_forget_gates(model, 5.0)
    added = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    assert added.pop("bias_ih_l0").tolist() == pytest.approx([0] * 3 + [5] * 3 + [0] * 6, abs=1e-6)
    assert not any(difference.any() for difference in added.values())


def test_pairs_of_layers_are_counted(runs):
    found = {name: measured.value for name, measured in runs["connections"].measurements.items()}
    assert found == {"stacked_own": 9, "stacked_foreign": 0, "feedback_own": 9, "feedback_foreign": 18}


# tasks


def test_pieces_are_cut_apart_and_padded():
    roll = np.arange(1, 13).reshape(6, 2)
    pieces = rnn.in_pieces(roll, np.array([4, 2]))
    assert pieces.roll.shape == (2, 4, 2)
    assert pieces.roll[1].tolist() == [[9, 10], [11, 12], [0, 0], [0, 0]]
    assert pieces.steps.tolist() == [4, 2]


def test_nats_a_step_count_what_sounds_after_the_first():
    pieces = rnn.in_pieces(np.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 0]]), np.array([3, 2]))
    logits = torch.tensor([0.3, -1.0])
    p = logits.sigmoid().tolist()
    following = [(1, 1), (0, 1), (0, 0)]
    by_hand = -sum(np.log(q if k else 1 - q) for step in following for k, q in zip(step, p, strict=True)) / 3
    assert float(rnn.nats_a_step(logits, *pieces)) == pytest.approx(by_hand)
    # Each key, with one more step on and one off.
    assert rnn.frequencies(pieces).sigmoid().tolist() == pytest.approx([4 / 7, 3 / 7])


def test_answers_are_told_one_step_late():
    pairs = rnn.pairs([[1, 2, 3], [4]], [[3, 2], [4, 5, 6]], start=9)
    assert pairs.source.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pairs.lengths.tolist() == [3, 1]
    assert pairs.told[1].tolist() == [9, 4, 5]
    assert pairs.told[0, :2].tolist() == [9, 3]
    assert pairs.answer.tolist() == [[3, 2, rnn.PADDING], [4, 5, 6]]


def test_reversals_are_reversed():
    pairs = rnn.reversals(np.random.default_rng(0), 20, symbols=5, longest=7)
    for source, length, answer in zip(pairs.source, pairs.lengths, pairs.answer, strict=True):
        assert source[:length].flip(0).tolist() == answer[:length].tolist()
        assert (answer[length:] == rnn.PADDING).all()
        assert 3 <= length <= 7


class Parrot(nn.Module):
    """Says symbol 2 whatever it hears."""

    def __init__(self):
        super().__init__()
        self.encoder = self.decoder = type("Core", (), {"input_size": 4})

    def generate(self, source, steps, start, lengths):
        assert start.tolist() == [0, 0, 0, 1]
        return nn.functional.one_hot(torch.full((len(source), steps), 2), 4).float()


def test_symbols_said_rightly_are_counted_without_padding():
    assert rnn.said_rightly(Parrot(), rnn.pairs([[1, 2, 2], [2]], [[2, 2, 1], [2]], start=3)) == Proportion(3, 4)


def test_recall_asks_for_the_first_symbol():
    x, y = rnn.recalls(np.random.default_rng(0), rnn.Recall(), gap=7, count=200)
    assert x.shape == (200, 8)
    assert x[:, 0].equal(y)
    assert set(y.tolist()) == {0, 1, 2, 3}
    assert set(x[:, 1:].flatten().tolist()) == {4, 5}


def test_windows_are_of_known_symbols_and_one_for_all_others():
    x, y = rnn.windows("Ab\n$c.e", 3, 2)
    assert "".join((rnn.ALPHABET + "?")[i] for i in x.flatten().tolist()) == "ab\n?c."
    assert y.flatten()[:-1].equal(x.flatten()[1:])
    assert rnn.ALPHABET[y[-1, -1]] == "e"
    assert max(x.flatten().tolist()) < rnn.SYMBOLS
    with pytest.raises(ValueError, match="3 windows of 3 characters need 10, got 7"):
        rnn.windows("Ab\n$c.e", 3, 3)


def test_guessing_costs_the_logarithm_of_the_alphabet():
    class Guess(nn.Module):
        def forward(self, x):
            return torch.zeros(*x.shape, 32)

    x = torch.randint(32, (400, 5))
    assert float(rnn.bits(Guess(), x, x)) == pytest.approx(5)
    assert rnn.tested_bits(Guess(), x, x) == pytest.approx(5)


def test_expressions_have_their_value_and_difficulty():
    rng = np.random.default_rng(0)
    for nesting in (1, 2, 3):
        for digits in (1, 2, 3):
            for _ in range(30):
                text, value = rnn.expression(rng, nesting, digits)
                assert eval(text.replace("--", "- -")) == value
                numbers = re.findall(r"\d+", text)
                assert len(numbers) == nesting + 1
                assert all(len(number) == digits for number in numbers)
                assert text.count("(") == nesting - 1
                assert set(text) <= set(rnn.WRITTEN)


def test_values_are_written_out_and_ended():
    pairs = rnn.expressions(np.random.default_rng(0), [(1, 1), (3, 3)] * 10)
    for source, length, told, answer in zip(*pairs, strict=True):
        text = "".join(rnn.WRITTEN[i] for i in source[:length])
        said = "".join(rnn.ANSWERED[i] for i in answer[answer != rnn.PADDING])
        assert said == f"{eval(text)}."
        assert rnn.ANSWERED[told[0]] == "."


def test_the_end_of_a_value_is_not_counted(monkeypatch):
    asked = rnn.expressions(np.random.default_rng(0), [(1, 1)] * 8)
    characters = int((asked.answer != rnn.PADDING).sum()) - 8
    monkeypatch.setattr(rnn, "answer_logits", lambda model, *_: nn.functional.one_hot(asked.answer.clamp(min=0), 12))
    assert rnn.answered_rightly(nn.Identity(), asked) == Proportion(characters, characters)
    stops = torch.full_like(asked.answer, rnn.ANSWERED.index("."))
    monkeypatch.setattr(rnn, "answer_logits", lambda model, *_: nn.functional.one_hot(stops, 12))
    assert rnn.answered_rightly(nn.Identity(), asked) == Proportion(0, characters)


def test_gradients_are_cut_off_before_each_step():
    class Fit:
        device = torch.device("cpu")

        def fit(self, model, objective, data, *, optimizer, **_):
            model.weight.grad = torch.full_like(model.weight, 100.0)
            optimizer.step()
            self.norm = model.weight.grad.norm().item()
            return {"loss": [0.0]}

    run = Fit()
    rnn.learn(run, rnn.Learning(clip=0.5), nn.Linear(3, 2, bias=False), rnn.cross_entropy, (), name="x")
    assert run.norm == pytest.approx(0.5, rel=1e-4)


# experiments


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_scores_have_their_coordinates(runs):
    recall = runs["recall"].measurements
    assert isinstance(recall["lstm_accuracy"], Curve)
    assert recall["lstm_accuracy"].x.tolist() == [5, 50, 100]
    assert recall["lstm_50"].successes / 30 == pytest.approx(recall["lstm_accuracy"].y[1])
    arithmetic = runs["arithmetic"].measurements
    matrix = arithmetic["gf_accuracy"]
    assert isinstance(matrix, Matrix)
    assert matrix.values.shape == (3, 3)
    hardest = arithmetic["gf_hardest"]
    assert matrix.values[-1, -1] == pytest.approx(hardest.successes / hardest.total)


def test_gates_add_parameters_and_tanh_has_no_ablation(runs):
    found = runs["characters"].measurements
    assert "ungated_tanh_bits" not in found
    assert isinstance(found["gf_lstm_parameters"], Exact)
    assert found["gf_lstm_parameters"].value > found["ungated_lstm_parameters"].value
    assert len(found["gf_tanh_curve"].y) == 2


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(lab_run, "load_data", noise)
    for name in ("recall", "structures"):
        again = execute(paper.experiments[name], SETUPS[name], 0, Workspace(tmp_path), Hardware())
        for measurement, value in again.measurements.items():
            if not isinstance(value, Curve):
                assert value == runs[name].measurements[measurement]


def test_an_encoder_and_decoder_can_learn_to_reverse():
    """The objective falls far below guessing on one batch."""
    torch.manual_seed(0)
    asked = rnn.reversals(np.random.default_rng(0), 20, symbols=3, longest=3)
    model = EncoderDecoder(*(LSTM(n, 16, batch_first=True) for n in (3, 4)), 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        rnn.answer_loss(model, *asked).backward()
        optimizer.step()
    assert rnn.answer_loss(model, *asked).item() < 0.3
    assert rnn.said_rightly(model, asked).successes > 45  # of 60


# figures


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        assert drawn.get_size_inches()[0] <= 6.6
        drawn.canvas.draw()


def test_diagrams_have_an_arrow_for_each_input_output_and_step(runs):
    results = {paper.experiments["structures"]: Stored.of(paper.experiments["structures"], [runs["structures"]])}
    (spec,) = (spec for spec in paper.figures if spec.title.startswith("The five structures"))
    (axes,) = spec.draw(results).axes
    steps = [1 + max(diagram.inputs + diagram.outputs) for diagram in rnn.DIAGRAMS]
    ends = sum(len(diagram.inputs + diagram.outputs) for diagram in rnn.DIAGRAMS)
    boxes = sum(steps) + ends
    assert len(axes.patches) == boxes
    arrows = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(arrows) == sum(steps) - len(steps) + ends
    corners = {(round(box.get_x(), 6), round(box.get_y(), 6)) for box in axes.patches}
    assert len(corners) == boxes  # no box on another

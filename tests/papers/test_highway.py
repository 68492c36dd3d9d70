import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import claimwise.lab.run as lab_run
from claimwise.data import Dataset
from claimwise.lab.measurements import Curve, Exact, Matrix, Proportion
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.papers import highway
from claimwise.papers.highway import Best, Deep, Digits, Routed, Study, Sweep, Thin, paper
from claimwise.vision import highway_network

STUDY = Study("digits", examples=100, depth=4, searches=2, search_epochs=1, epochs=2, batch_size=50)
ROUTED = Routed(
    "digits", examples=200, depth=6, width=8, epochs=1, batch_size=50, early=2, probed=100, read=80, lesioned=60
)
THIN = Thin(
    examples=40,
    tested=30,
    highway_blocks=((3, 2), (4, 2)),
    plain_blocks=((4, 2), (5, 2)),
    learning_rates=(0.01, 0.03),
    epochs=1,
    batch_size=20,
)
DEEP = Deep("digits", examples=100, depth=12, width=6, epochs=1, batch_size=50)
SETUPS = {
    "depth_10": STUDY,
    "depth_20": replace(STUDY, depth=5),
    "depth_50": replace(STUDY, depth=6, search_epochs=2),
    "depth_100": replace(STUDY, depth=7),
    "routed": Best(replace(STUDY, depth=6, highway_width=8), early=2, probed=100, read=80, lesioned=60),
    "routed_objects": replace(ROUTED, dataset="cifar100_subset", probed=30),
    "bias_sweep": Sweep("digits", examples=100, depth=4, width=6, epochs=1),
    "two_hundred": DEEP,
    "nine_hundred": replace(DEEP, dataset="cifar100_subset"),
    "identities": highway.Counts(examples=5),
    "width_16": Digits("digits", examples=60, width=3, epochs=1),
    "width_32": Digits("digits", examples=60, width=4, epochs=1, dropout=0.2),
    "thin": THIN,
    "highway_b": replace(THIN, dropout=0.0),
    "highway_c": THIN,
    "augmented": replace(THIN, shift=2),
    "without_hints": replace(THIN, learning_rates=(0.01,)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be; CIFAR is noise."""
    rng = np.random.default_rng(0)
    noise = {
        name: Dataset(
            name,
            {
                split: {
                    "x": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
                    "y": np.arange(count) % 10,
                }
                for split, count in (("train", 50), ("test", 30))
            },
        )
        for name in ("cifar10", "cifar100_subset")
    }
    true_load = lab_run.load_data
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_run, "load_data", lambda name, **kw: noise[name] if name in noise else true_load(name, **kw))
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    assert {row for claim in paper.claims.values() for row in claim.sheet} == {f"W{k}" for k in range(1, 13)}


def test_only_missing_data_leave_a_claim_untested():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {"augmented-cifar-100": "data"}


def test_plans_keep_to_their_scales():
    for name, experiment in paper.experiments.items():
        assert name in SETUPS
        for scale, plan in experiment.plans.items():
            dataset = getattr(getattr(plan.setup, "study", plan.setup), "dataset", None)
            assert dataset in ({"digits", None} if scale == "quick" else {"mnist", "cifar10", "cifar100_subset", None})


def test_both_sides_of_the_study_have_the_same_budget():
    for name in ("depth_10", "depth_20", "depth_50", "depth_100"):
        for scale, plan in paper.experiments[name].plans.items():
            assert (plan.setup.plain_width, plan.setup.highway_width) == (71, 50)
            if scale != "quick":
                assert plan.setup.depth == int(name.split("_")[1])
            if scale == "small":
                assert plan.setup.searches >= 6
            if scale == "paper":
                assert plan.setup.searches == 100


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


# the study


def test_draws_lie_in_their_ranges_and_are_the_same_for_both_sides():
    found = highway.draws(np.random.default_rng(3), 200)
    assert all(10**-2.5 <= draw.learning_rate <= 10**-0.7 for draw in found)
    assert all(0.5 <= draw.momentum <= 0.95 for draw in found)
    assert all(1 <= draw.fall <= 10**1.5 for draw in found)
    assert all(-10 <= draw.gate_bias <= -1 for draw in found)
    assert {draw.activation for draw in found} == {"relu", "tanh"}
    assert found == highway.draws(np.random.default_rng(3), 200)


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([1.0, 0.1], 2.0),
        ([1.0, 0.01], 1.5),  # half way on the logarithm
        ([0.05, 0.01], 1.0),
        ([1.0, 0.5, 0.2], 4.0),
        ([1.0, 2.0, 0.1, 0.05], 3.0),
    ],
)
def test_epochs_to_a_target_by_hand(losses, epochs):
    assert highway.epochs_to(losses, 0.1) == pytest.approx(epochs)


def test_a_loss_that_is_no_number_counts_as_the_worst():
    model = nn.Linear(2, 3)
    x, y = torch.rand(5, 2), torch.zeros(5, dtype=torch.long)
    expected = nn.functional.cross_entropy(model(x), y).item()
    assert highway.loss_after(model, x, y) == pytest.approx(expected)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    assert highway.loss_after(model, x, y) == highway.WORST


def test_the_best_of_a_search_is_the_one_of_lowest_loss(runs):
    for name in ("depth_10", "depth_50"):
        measured = runs[name].measurements
        for kind in ("plain", "highway"):
            assert measured[f"{kind}_search"].y.shape == (2,)
            if name == "depth_50":  # trials as long as the rest: the best trial itself counts
                assert measured[f"{kind}_loss"].value == pytest.approx(measured[f"{kind}_search"].y.min())
            assert measured[f"{kind}_log_loss"].value == pytest.approx(math.log10(measured[f"{kind}_loss"].value))
        difference = measured["plain_log_loss"].value - measured["highway_log_loss"].value
        assert measured["orders_of_magnitude"].value == pytest.approx(difference)


def test_the_step_size_falls_as_often_as_told(runs):
    class Source:
        def fit(self, model, objective, data, *, optimizer, epochs, batch_size, schedule, transform, name):
            self.rates = []
            for step in range(epochs * 4 + 1):
                schedule(optimizer, step)
                self.rates.append(optimizer.param_groups[0]["lr"])
            return {"loss": [1.0, math.inf]}

    source = Source()
    losses = highway.descend(
        source,
        nn.Linear(2, 2),
        (torch.zeros(10, 2), torch.zeros(10, dtype=torch.long)),
        learning_rate=0.1,
        momentum=0.9,
        fall=100.0,
        epochs=2,
        batch_size=3,
        name="x",
    )
    assert source.rates[0] == pytest.approx(0.1)
    assert source.rates[4] == pytest.approx(0.01)
    assert source.rates[8] == pytest.approx(0.001)
    assert losses == [1.0, highway.WORST]


# reading and lesioning


def test_a_probe_reads_what_is_there_and_nothing_else():
    torch.manual_seed(0)
    labels = torch.randint(10, (600,))
    shown = nn.functional.one_hot(labels, 10).float() + 0.1 * torch.randn(600, 10)
    noise = torch.randn(600, 10)
    found = highway.probe_accuracy(shown[:400], labels[:400], shown[400:], labels[400:])
    chance = highway.probe_accuracy(noise[:400], labels[:400], noise[400:], labels[400:])
    assert found.successes == found.total == 200
    assert chance.successes < 50


def untrained(gate_bias):
    torch.manual_seed(0)
    model = highway_network(16, 3, 5, width=8, gate_bias=gate_bias)
    x, y = torch.rand(60, 1, 4, 4), torch.arange(60) % 3
    return model, (x, y, x, y)


def test_shut_gates_read_as_shut_and_their_lesions_do_nothing():
    model, data = untrained(-30.0)
    setup = replace(ROUTED, depth=5, width=8, early=2)
    found = highway.read_gates(model, setup, data)
    assert found["mean_gate"] < 1e-9
    assert found["open_share"] == found["selective_share"] == 0
    assert found["carried_correlation"] == pytest.approx(1)
    assert found["outputs_of_one"].values.std(0).max() < 1e-6
    lesions = highway.lesions(model, setup, *data[:2])
    assert lesions["harmless_share"] == 1
    assert lesions["early_harm"] == lesions["late_harm"] == 0


def test_open_gates_read_as_open():
    model, data = untrained(30.0)
    found = highway.read_gates(model, replace(ROUTED, depth=5, width=8, early=2), data)
    assert found["open_share"] == 1
    assert found["selective_share"] == 0
    assert found["carried_correlation"] < 0.9


def test_lesions_find_the_layer_that_matters():
    model, (x, y, _, _) = untrained(-30.0)
    stack, head = model[3], model[4]
    with torch.no_grad():
        # Layer 3 writes a 1 into unit 0, which alone decides for class 0.
        stack.bias[2, 0], stack.bias[2, 8] = 1.0, 30.0
        stack.weight[2].zero_()
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
        head.weight[0, 0] = 1.0
        model[1].weight[0].zero_()  # unit 0 starts at 0
    zeros = torch.zeros_like(y)
    found = highway.lesions(model, replace(ROUTED, depth=5, early=2), x, zeros)
    assert found["whole_error"] == 0
    assert found["lesion_error"].y.tolist() == [0, 0, 1, 0]
    assert found["harmless_share"] == 0.75
    assert (found["early_harm"], found["late_harm"]) == (0, 0.5)


# images


def test_shifts_and_mirrors_by_hand():
    transform = highway.moved(2)
    x = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(2, 3, 5, 5) + 1
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([4, 5])
    seen = set()
    for _ in range(40):
        made, labels = transform((x, y), generator)
        assert labels is y
        for image, original in zip(made, x, strict=True):
            found = [
                (rows, columns, flip)
                for rows in range(5)
                for columns in range(5)
                for flip in (False, True)
                if nn.functional.pad(original.flip(2) if flip else original, (2,) * 4)[
                    :, rows : rows + 5, columns : columns + 5
                ].equal(image)
            ]
            assert len(found) == 1
            seen.update(found)
    assert {flip for _, _, flip in seen} == {False, True}
    assert {rows for rows, _, _ in seen} == set(range(5))
    assert highway.moved(0) is None


# experiments


def test_counts_and_identities_hold(runs):
    measured = runs["identities"].measurements
    assert measured["plain_layer"] == Exact(5112)
    assert measured["highway_layer"] == Exact(5100)
    assert measured["narrow"] == Exact(38_730)
    assert measured["wide"] == Exact(151_178)
    for name in ("outputs_off_the_input", "slopes_off_the_identity", "outputs_off_the_plain_layer"):
        assert measured[name] == Exact(0)


def test_planned_networks_have_the_sizes_that_they_are_said_to_have():
    def size(blocks, kind):
        make = highway.convolutional_highway_network if kind == "highway" else highway.convolutional_plain_network
        model = make(blocks, in_channels=3, image_size=32)
        depth = sum(type(m).__name__ in ("Conv2d", "HighwayConv2d", "Linear") for m in model)
        return depth, highway.parameter_counts(model).total

    full, small = Thin(), highway.THINNER
    assert size(full.highway_blocks, "highway") == (11, 232_458)
    for setup in (full, small):
        depth, parameters = size(setup.highway_blocks, "highway")
        plain_depth, plain_parameters = size(setup.plain_blocks, "plain")
        assert depth == plain_depth
        assert plain_parameters == pytest.approx(parameters, rel=0.05)
    assert size(small.highway_blocks, "highway")[0] == 21
    assert size(highway.B_BLOCKS, "highway")[0] == 19
    assert size(highway.B_BLOCKS, "highway")[1] == pytest.approx(2.3e6, rel=0.02)
    assert size(highway.C_BLOCKS, "highway")[0] == 32
    assert size(highway.C_BLOCKS, "highway")[1] == pytest.approx(1.25e6, rel=0.02)
    without = paper.experiments["without_hints"].plans["paper"].setup
    assert size(without.plain_blocks, "plain")[0] == 12
    assert size(without.plain_blocks, "plain")[1] == pytest.approx(250_000, rel=0.1)


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_the_bias_that_a_curve_is_read_at_is_swept(runs):
    for activation in ("relu", "tanh"):
        curve = runs["bias_sweep"].measurements[f"{activation}_log_loss"]
        assert isinstance(curve, Curve)
        assert curve.x.tolist() == [-4, 0, 2]


def test_shapes_of_what_is_drawn(runs):
    measured = runs["routed"].measurements
    for name in ("biases", "gate_activity", "gates_of_one", "outputs_of_one"):
        assert isinstance(measured[name], Matrix)
        assert measured[name].values.shape == (5, 8)
    assert measured["lesion_error"].x.tolist() == [1, 2, 3, 4, 5]
    assert measured["bias_shift"].value == pytest.approx(
        measured["biases"].values.mean() - measured["gate_bias"].value, abs=1e-5
    )
    assert isinstance(measured["probe_accuracy"], Proportion)
    assert measured["probe_accuracy"].total == 80


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path):
    again = execute(paper.experiments["depth_10"], STUDY, 0, Workspace(tmp_path), Hardware())
    for name, value in runs["depth_10"].measurements.items():
        if not isinstance(value, Curve):
            assert again.measurements[name] == value


# figures


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        assert drawn.get_size_inches()[0] <= 6.6
        drawn.canvas.draw()

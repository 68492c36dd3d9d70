from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import claimwise.lab.run as lab_run
from claimwise.data import Dataset
from claimwise.lab.measurements import Curve, Exact, Proportion
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.layers import PReLU, slopes
from claimwise.papers import prelu
from claimwise.papers.prelu import GUESSING, paper

TINY = prelu.Deep(depths=(8, 6), channels=3, hidden=4, images=40, batch_size=10, epochs=3, tests=15)
SETUPS = {
    "theory": prelu.Theory(),
    "propagation": prelu.Propagation(layers=5, channels=6, side=4, examples=2, draws=2),
    "deep": replace(TINY, depths=(30, 14)),
    "twenty_two": replace(TINY, depths=(22,)),
    "fans": prelu.Fans(stages=((2, 1), (4, 1)), hidden=4, images=40, batch_size=10, epochs=3, tests=15),
    "rectifiers": prelu.Rectifiers(channels=(3, 4), hidden=5, images=40, batch_size=10, epochs=3, tests=15),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be, on noise."""
    rng = np.random.default_rng(0)
    noise = Dataset(
        "noise",
        {
            split: {"x": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), "y": rng.integers(0, 10, count)}
            for split, count in (("train", 50), ("test", 20))
        },
    )
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_run, "load_data", lambda name, **kwargs: noise)
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    rows = {row for claim in paper.claims.values() for row in claim.sheet}
    assert rows == {f"K{k}" for k in range(1, 14)}


def test_what_no_scale_tests_needs_imagenet():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == dict.fromkeys(
        (
            "slopes-of-table-1",
            "large-model-gains-too",
            "one-wide-model-beats-earlier-ensembles",
            "below-the-human-figure",
            "errors-by-class",
        ),
        "data",
    )


def test_plans_keep_to_their_scales():
    for name, experiment in paper.experiments.items():
        assert name in SETUPS
        for scale, plan in experiment.plans.items():
            dataset = getattr(plan.setup, "dataset", None)
            assert dataset in ({None, "digits"} if scale == "quick" else {None, "mnist", "fashion_mnist"})
            few = {"theory": 1, "twenty_two": 3, "propagation": 10}
            assert plan.seeds == few.get(name, 5)


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


def test_steps_that_the_claims_speak_of_are_those_of_the_plans():
    for name, steps in (("deep", 500), ("twenty_two", 450), ("fans", 300), ("rectifiers", 250)):
        setup = paper.experiments[name].plans["small"].setup
        assert setup.images * setup.epochs == steps * setup.batch_size
        for claim in paper.claims.values():
            criterion = claim.criteria.get("small")
            if criterion is not None and {e for e, _ in criterion.leaves()} == {name}:
                words = claim.differences if isinstance(claim.differences, str) else claim.differences["small"]
                assert f"{steps} steps of 64 images" in words, claim.id


# measuring


def test_points_and_steps_until_a_loss():
    losses = np.repeat([2.0, 1.6, 1.4, 0.5], 10)
    assert prelu.points(np.append(losses, 9.0)).tolist() == [2.0, 1.6, 1.4, 0.5]
    assert prelu.steps_until(losses, 1.5) == 30
    assert prelu.steps_until(losses, 2.5) == 10
    with pytest.raises(ValueError, match="at least 10 steps make a curve, got 9"):
        prelu.points(losses[:9])
    assert prelu.steps_until(losses, 0.1) == 50  # never: one point more than there are


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    values = np.random.default_rng(0).normal(size=9)
    assert prelu.rank_correlation(values) == pytest.approx(spearmanr(np.arange(9), values).statistic)
    assert prelu.rank_correlation(np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)


def test_networks_have_the_layers_that_they_are_named_for():
    for setup in (prelu.Deep(), paper.experiments["deep"].plans["quick"].setup):
        for depth in (14, 22, 30):
            configuration = setup.configuration(depth)
            assert configuration.layers == depth
    assert sum(count for _, count in prelu.Deep().configuration(30).stages) == 26  # with the first, 27 convolutions
    fans = prelu.Fans()
    assert 1 + sum(count for _, count in fans.stages) + 3 == 14


def test_overflow_counts_as_twice_guessing():
    class Run:
        def fit(self, model, objective, data, *, after_step, also, **_):
            for step in range(len(also["losses"])):
                objective(model, *data)
                after_step(step)

    model = nn.Linear(1, 10)
    nn.init.constant_(model.weight, float("nan"))
    losses = prelu.train(Run(), TINY, model, torch.ones(20, 1), torch.zeros(20, dtype=torch.long), "x")
    assert losses.tolist() == pytest.approx([2 * GUESSING] * 6)


def test_decay_is_on_slopes_only_where_it_is_asked_for():
    seen = {}

    class Run:
        def fit(self, model, objective, data, *, optimizer, name, **_):
            seen[name] = [group["weight_decay"] for group in optimizer.param_groups]

    model = nn.Sequential(nn.Linear(1, 10), PReLU(10))
    for name, decay in (("without", 0.0), ("with", 0.5)):
        prelu.train(Run(), TINY, model, torch.ones(20, 1), torch.zeros(20, dtype=torch.long), name, decay)
    assert seen == {"without": [5e-4, 0.0], "with": [5e-4, 0.5]}


def test_pictures_are_standardised_by_the_training_images():
    class Source:
        device = torch.device("cpu")

        def data(self, name):
            x = np.random.default_rng(0).normal(3, 5, (30, 4, 4)).astype(np.float32)
            return Dataset(name, {"train": {"x": x, "y": np.arange(30)}, "test": {"x": x + 5, "y": np.arange(30)}})

    x, y, tests, labels = prelu.pictures(Source(), replace(TINY, images=20, tests=10))
    assert (x.shape, tests.shape, len(y), len(labels)) == ((20, 1, 4, 4), (10, 1, 4, 4), 20, 10)
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.std().item() == pytest.approx(1, abs=1e-6)
    assert (tests - x[:10]).mean().item() == pytest.approx(1, rel=0.3)


def test_test_errors_are_counted():
    model = nn.Flatten()
    x = torch.eye(10)[torch.tensor([1, 2, 3, 4])]
    assert prelu.test_error(model, x, torch.tensor([1, 2, 0, 4])) == Proportion(1, 4)


# experiments


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_theory_is_exact(runs):
    found = runs["theory"].measurements
    assert found["extra_parameters"] == Exact(13)
    assert [found[f"layers_{name}"].value for name in ("E", "B", "E_30")] == [14, 22, 30]
    assert found["constant_last"].value == pytest.approx(np.sqrt(2) * (576e-4 / 2) ** 15)
    assert found["he_slope"].value == pytest.approx(0, abs=1e-9)
    assert found["xavier_slope"].value == pytest.approx(-1)


def test_xavier_is_he_over_the_root_of_two_in_every_layer(runs):
    """The two networks have other draws, but the same mean squares up to chance."""
    found = runs["propagation"].measurements
    assert found["he_slope"].value - found["xavier_slope"].value == pytest.approx(1, abs=0.8)
    assert isinstance(found["he_std"], Curve)
    assert len(found["constant_gradient"].y) == 5


def test_both_starts_are_the_same_draws(runs):
    deep = runs["deep"].measurements
    # 29 layers of gradients, each smaller by the root of 2
    difference = deep["he_30_gradient_ratio"].value - deep["xavier_30_gradient_ratio"].value
    assert difference == pytest.approx(29 * np.log10(2) / 2, abs=0.1)
    assert deep["he_14_error"].total == 15


def test_slopes_are_measured_by_layer(runs):
    found = runs["rectifiers"].measurements
    for name in ("wise", "shared", "decayed"):
        curve = found[f"{name}_slopes"]
        assert curve.x.tolist() == list(range(1, 9))
        assert found[f"{name}_first_slope"].value == pytest.approx(curve.y[0])
        assert found[f"{name}_largest_other_slope"].value == pytest.approx(curve.y[1:].max())
    assert found["decayed_size"].value < found["wise_size"].value
    assert len(slopes(prelu.random_network(prelu.Propagation(layers=2), True))) == 2


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path):
    again = execute(paper.experiments["propagation"], SETUPS["propagation"], 0, Workspace(tmp_path), Hardware())
    first = runs["propagation"].measurements
    assert again.measurements["he_slope"] == first["he_slope"]
    assert again.measurements["prelu_gradient"].y.tolist() == first["prelu_gradient"].y.tolist()


# figures


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        assert drawn.get_size_inches()[0] <= 6.6
        drawn.canvas.draw()

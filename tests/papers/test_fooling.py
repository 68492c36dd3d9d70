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
from claimwise.papers import fooling
from claimwise.papers.fooling import Attack, Images, Recipe, Victim, paper
from claimwise.vision import LeNet, SqueezeNet, load_nguyen_lenet

BRIEF = Attack(10, 2)
TINY = replace(fooling.TINY, filters=(2, 3), hidden=4, epochs=1)
OURS = Victim(BRIEF, TINY, reference=30, neighbours=3)
THEIRS = Victim(BRIEF, Recipe(), reference=20, neighbours=3)
SETUPS = {
    "errors": fooling.Errors(),
    "supplied": THEIRS,
    "supplied_as_trained": replace(THEIRS, subtract_mean=False),
    "lenet": TINY,
    "own": OURS,
    "transfer": fooling.Transfer(OURS, hidden=5),
    "retraining": fooling.Retraining(OURS, networks=3, first=8, more=3),
    "goals": fooling.Goals(replace(OURS, attack=Attack(20, 2)), supplied=False),
    "ascent": fooling.Ascent(THEIRS, steps=3),
    "objects": fooling.Objects(examples=40, filters=(2, 3), hidden=4, epochs=1, attack=BRIEF, fooling=6),
    "thousand": fooling.Thousand(35, BRIEF, ascent_classes=3, ascent_steps=2, masked=12),
}


def images(rng, count, shape):
    return {
        "x": rng.integers(0, 256, (count, *shape), dtype=np.uint8),
        "y": np.arange(count) % 10,
    }


def stand_ins():
    """Noise of the right shapes, and networks of random weights, for what is not embedded."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    weights = {name: value.numpy() for name, value in LeNet().state_dict().items()}
    mean = 255 * rng.random((28, 28)).astype(np.float32)
    squeezed = {name: value.numpy() for name, value in SqueezeNet().state_dict().items()}
    names = np.array([f"thing {k}, another name" for k in range(1000)])
    return {
        "mnist": {split: images(rng, count, (28, 28)) for split, count in (("train", 60), ("test", 30))},
        "cifar10": {split: images(rng, count, (32, 32, 3)) for split, count in (("train", 50), ("test", 30))},
        "nguyen_lenet": {"all": {**weights, "mean": mean}},
        "imagenet_squeezenet1_1": {"all": squeezed},
        "imagenet_classes": {"all": {"names": names}},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be."""
    known = {name: Dataset(name, splits) for name, splits in stand_ins().items()}
    true_load = lab_run.load_data
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lab_run,
            "load_data",
            lambda name, **kwargs: known[name] if name in known else true_load(name, **kwargs),
        )
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    rows = {row for claim in paper.claims.values() for row in claim.sheet}
    assert rows == {f"E{k}" for k in range(1, 14)}


def test_a_row_that_no_scale_tests_says_why_and_time_is_no_reason():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {
        "nothing-like-digits": "people",
        "features-recur": "people",
        "direct-hardly-fools-imagenet": "data",
        "cppn-fools-imagenet": "data",
        "retraining-helps-on-imagenet": "data",
        "features-tell-apart": "people",
        "regions-are-large": "not empirical",
        "alexnet-error": "data",
    }


def test_only_the_papers_own_network_and_data_count_as_the_paper():
    """Criteria at `paper` fidelity and `small` scale read the supplied network alone."""
    for claim in paper.claims.values():
        if claim.fidelity.get("small") == "paper":
            assert set(claim.experiments("small")) <= {"supplied", "errors"}, claim.id
        if "objects" in {e for scale in claim.criteria for e in claim.experiments(scale)}:
            assert set(claim.fidelity.values()) == {"stand-in"}


def test_plans_keep_to_their_scales():
    assert set(SETUPS) == set(paper.experiments)
    for name, experiment in paper.experiments.items():
        for scale, plan in experiment.plans.items():
            if scale == "quick":
                assert "digits" in str(plan.setup)
            else:
                assert "digits" not in str(plan.setup)
            if name != "errors":
                assert plan.seeds >= 5 or name == "thousand"
    assert paper.experiments["supplied"].plans["small"].setup.attack == Attack(200, 200)  # the published code's


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


# measuring


def data_of(x, y):
    return Images(x, y, x[:4], y[:4])


def test_neighbours_vote_and_are_measured_one_by_one():
    torch.manual_seed(0)
    x, y = torch.rand(40, 1, 3, 3), torch.arange(40) % 10
    tried = torch.rand(7, 1, 3, 3)
    distance, votes = fooling.Digits(data_of(x, y), 3).nearest(tried)
    for k in range(7):
        apart = np.array([float(((tried[k] - other) ** 2).sum()) ** 0.5 for other in x])
        nearest = apart.argsort()[:3]
        assert distance[k] == pytest.approx(apart.min(), abs=1e-5)
        assert votes[k].tolist() == pytest.approx([float((y[nearest] == c).double().mean()) for c in range(10)])


def test_density_is_that_of_the_mixture():
    torch.manual_seed(0)
    x = torch.rand(60, 1, 2, 2)
    y = torch.tensor([0] * 15 + [k % 10 for k in range(45)])
    tried = torch.rand(5, 1, 2, 2)
    found = fooling.Digits(data_of(x, y), 1).log_density(tried)
    expected = torch.zeros(5, dtype=torch.float64)
    for label in range(10):
        members = x[y == label].flatten(1).double()
        gaussian = torch.distributions.MultivariateNormal(members.mean(0), torch.cov(members.T) + 0.01 * torch.eye(4))
        expected += len(members) / 60 * gaussian.log_prob(tried.flatten(1).double()).exp()
    assert torch.allclose((found - found[0]).exp(), expected / expected[0])


def test_likeness_tells_digits_from_noise():
    torch.manual_seed(0)
    centres = torch.rand(10, 1, 4, 4)
    y = torch.arange(400) % 10
    x = centres[y] + 0.02 * torch.randn(400, 1, 4, 4)
    digits = fooling.Digits(data_of(x, y), 5)
    tested = centres[y] + 0.02 * torch.randn(400, 1, 4, 4)
    alike = fooling.likeness(digits, tested, centres, torch.arange(10))
    assert (alike["far_from_digits"].successes, alike["improbable"].successes) == (0, 0)
    assert alike["vote_for_the_class"] == alike["surest_vote"] == 1
    other = fooling.likeness(digits, tested, 1 - centres, torch.arange(10))
    assert (other["far_from_digits"].successes, other["improbable"].successes) == (10, 10)
    assert other["vote_for_the_class"] < 0.5


def test_bars_have_a_sign():
    stripes = np.tile([0.0, 1.0, 0.0, 1.0], (4, 1))
    assert fooling.bars(stripes) > 5
    assert fooling.bars(stripes.T) == -fooling.bars(stripes)
    assert fooling.bars(np.zeros((4, 4))) == 0


def test_log_odds_tell_what_rounding_to_one_would_not():
    odds = fooling.log_odds(np.array([0.5, 0.9, 1 - 1e-9, 1.0]))
    assert odds[:3] == pytest.approx([0, np.log(9), np.log(1e9)], abs=1e-6)
    assert np.isfinite(odds).all()
    assert (np.diff(odds) > 0).all()


def test_correlations():
    torch.manual_seed(0)
    a, b = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    expected = [np.corrcoef(p.flatten(), q.flatten())[0, 1] for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    assert fooling.correlations(a, b).tolist() == pytest.approx(expected, abs=1e-5)
    assert fooling.correlations(a, 1 - 2 * a).tolist() == pytest.approx([-1] * 3, abs=1e-5)


def test_fooling_images_are_those_that_the_network_was_sure_of():
    gallery = torch.arange(6.0).reshape(3, 2, 1)  # 3 generations of 2 classes
    history = np.array([[0.1, 0.1], [0.2, 0.995], [0.5, 0.996], [0.99, 0.9999]])  # a row more: the start
    rng = np.random.default_rng(0)
    drawn = fooling.sampled([(gallery, history)], 10, 0.99, rng)
    assert sorted(drawn.flatten().tolist()) == [1, 3, 4, 5]
    assert len(fooling.sampled([(gallery, history)], 2, 0.99, rng)) == 2
    # Where none is sure enough, the surest.
    assert fooling.sampled([(gallery, history)], 10, 1.0, rng).flatten().tolist() == [5]
    both = fooling.sampled([(gallery, history), (gallery + 10, history)], 4, 0.99, rng).flatten()
    assert (both >= 10).sum() == 2


class Columns(nn.Module):
    """Sure of class 0 by how many columns are bright."""

    def forward(self, x):
        bright = (x.mean((1, 2)) > 0.5).float().sum(1)
        return torch.stack([bright - 4, torch.zeros(len(x))], 1)


def test_masking_copies_lowers_what_counts_them_and_only_that():
    stripes = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(4).expand(12, 1, 16, 16)
    labels = torch.zeros(12, dtype=torch.long)
    found = fooling.fewer_copies(Columns(), stripes, labels)
    assert found["fell_without_copies"] == Proportion(12, 12)
    assert found["kept_without_copies"] < 1
    assert fooling.fewer_copies(Columns(), stripes, labels + 1)["fell_without_copies"] == Proportion(0, 12)


def test_what_is_not_certain_is_not_shown_as_certain():
    assert fooling.percent(0.999999) == "99.99"
    assert fooling.percent(1.0) == "100.00"
    assert fooling.nines(np.array([0.0, 0.9, 0.9999, 1.0])) == pytest.approx([0, 1, 4, 9])


# experiments


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_champions_only_get_surer(runs):
    for name, encodings in (("supplied", fooling.ENCODINGS), ("own", fooling.ENCODINGS), ("objects", ("cppn",))):
        measured = runs[name].measurements
        for encoding in encodings:
            for which in ("leasts", "medians"):
                curve = measured[f"{encoding}_{which}"]
                assert isinstance(curve, Curve)
                assert len(curve.x) == 3
                assert (np.diff(curve.y) >= 0).all()
            assert measured[f"{encoding}_least"].value == measured[f"{encoding}_leasts"].y[-1]
            assert measured[f"{encoding}_median"].value == pytest.approx(
                np.median(measured[f"{encoding}_confidence"].y)
            )


def test_confidence_is_that_of_the_stored_champions(runs):
    run = runs["own"]
    model = fooling.lenet_for(TINY, 8)
    model.load_state_dict(runs["lenet"].load("model"))
    for encoding, images in run.load("champions").items():
        found = fooling.probabilities(model, images).diagonal()
        assert found.tolist() == pytest.approx(run.measurements[f"{encoding}_confidence"].y.tolist(), abs=1e-6)


def test_errors_are_counted_with_and_without_the_mean_file(runs):
    known = stand_ins()
    x = torch.tensor(known["mnist"]["test"]["x"])[:, None] / 255
    y = torch.tensor(known["mnist"]["test"]["y"])
    for name, subtract in (("error", False), ("error_with_mean", True)):
        model = load_nguyen_lenet(known["nguyen_lenet"]["all"], subtract_mean=subtract)
        expected = int((model(x).argmax(1) != y).sum())
        assert runs["errors"].measurements[name] == Exact(expected / 30, "fraction")


def test_retraining_counts_its_networks_and_images(runs):
    measured = runs["retraining"].measurements
    assert measured["cppn_medians"].x.tolist() == [1, 2, 3]
    assert measured["recognised"].x.tolist() == [2, 3]
    assert measured["champions"].values.shape == (30, 64)
    assert measured["cppn_medians"].y[0] == runs["own"].measurements["cppn_median"].value
    confidence = measured["champions_confidence"]
    assert isinstance(confidence, Matrix)
    assert np.median(confidence.values, axis=1) == pytest.approx(measured["cppn_medians"].y)


def test_rates_are_over_all_champions(runs):
    measured = runs["transfer"].measurements
    for row, name in enumerate(("sibling", "dense")):
        rate = measured[f"{name}_fooled"]
        assert rate.total == 20
        assert rate.successes / 20 == pytest.approx(measured["rates"].values[row].mean())
    assert runs["own"].measurements["far_from_digits"].total == 20


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(runs, tmp_path):
    again = execute(paper.experiments["own"], OURS, 0, Workspace(tmp_path), Hardware()).measurements
    before = runs["own"].measurements
    assert again["cppn_median"] == before["cppn_median"]
    assert np.array_equal(again["direct_champions"].values, before["direct_champions"].values)
    other = execute(paper.experiments["own"], OURS, 1, Workspace(tmp_path), Hardware()).measurements
    assert other["cppn_median"] != before["cppn_median"]


# figures


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    assert len(paper.figures) == 10
    for spec in paper.figures:
        drawn = spec.draw(results)
        sizes = [text.get_fontsize() for axes in drawn.axes for text in axes.texts]
        assert drawn.get_size_inches()[0] <= 6.6
        assert all(size >= 8.5 for size in sizes)
        drawn.canvas.draw()

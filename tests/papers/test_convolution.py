from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import claimwise.lab.run as lab_run
from claimwise.data import Dataset
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.layers import local_extrema
from claimwise.papers import convolution as module
from claimwise.papers.convolution import paper

TINY = module.Trained("digits", 60, 40, epochs=1, batch_size=30, channels=2)
SETUPS = {
    "templates": module.Templates(10),
    "kernels": replace(TINY, dataset="cifar10", examples=20, tested=10),
    "counts": module.Sizes(5),
    "sharing": module.Sharing(TINY, 8),
    "semigroup": module.Pairs(3),
    "extrema": module.Signals(60, 64),
    "alphas": module.Signals(60, 64),
    "smoothness": module.Pictures("cifar10", 4),
    "pooling": module.Shifts(TINY, 1, 1),
    "forgetting": module.Windows(5),
    "fields": module.Stacks(3),
    "neocognitron": module.Fukushima("digits", 8, 2, 10, 60, 30, (4, 6), 3, 3, 1),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be; CIFAR-10 is noise."""
    rng = np.random.default_rng(0)
    images = {
        split: {"x": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), "y": rng.integers(0, 10, count)}
        for split, count in (("train", 30), ("test", 20))
    }
    true_load = lab_run.load_data
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lab_run,
            "load_data",
            lambda name, **kwargs: Dataset("cifar10", images) if name == "cifar10" else true_load(name, **kwargs),
        )
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    assert {row for claim in paper.claims.values() for row in claim.sheet} == {f"24.{k}" for k in range(1, 9)}


def test_what_is_not_tested_is_not_empirical():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {"uniqueness": "not empirical", "first-of-its-kind": "not empirical"}


def test_experiments_are_all_here():
    assert set(paper.experiments) == set(SETUPS)
    for experiment in paper.experiments.values():
        for scale, plan in experiment.plans.items():
            named = {getattr(part, "dataset", None) for part in (plan.setup, *vars(plan.setup).values())} - {None}
            assert named <= ({"digits"} if scale == "quick" else {"mnist", "cifar10"})


def test_exact_claims_hold_on_any_seed_and_size(runs):
    """The theorems among the claims, at other sizes than planned."""
    exact = {
        ("templates", "matched_elsewhere"): 0,
        ("templates", "shift_violations"): 0,
        ("templates", "edges_elsewhere"): 0,
        ("counts", "formulas_off"): 0,
        ("counts", "changed_by_the_image"): 0,
        ("counts", "mnist_convolution"): 16 * 26,
        ("extrema", "gaussian_increases"): 0,
        ("alphas", "increases_at_2"): 0,
        ("smoothness", "variation_increases"): 0,
        ("smoothness", "energy_increases"): 0,
        ("forgetting", "max_changes"): 0,
        ("forgetting", "average_changes"): 0,
        ("forgetting", "stride_changes"): 5,
        ("fields", "wrong_sizes"): 0,
        ("fields", "wrong_places"): 0,
        ("fields", "neighbours_that_do_not_overlap"): 0,
    }
    found = {key: runs[key[0]].measurements[key[1]].value for key in exact}
    assert found == exact
    assert runs["extrema"].measurements["box_increases"].value > 0
    assert runs["alphas"].measurements["fewest_increases_elsewhere"].value > 0


# the checks would see a violation


def test_kernels_have_the_standard_deviation_they_are_asked_for():
    for kind in ("gaussian", "discrete", "box", "triangle", "exponential"):
        weights = module.sampled(kind, 15.0)
        place = torch.arange(len(weights)) - len(weights) // 2
        assert float(weights.sum()) == pytest.approx(1)
        # the box is cut at a whole sample: 25 and not 25.98
        assert float((weights * place**2).sum()) ** 0.5 == pytest.approx(15, rel=0.02)
    assert float(module.sampled("laplacian", 15.0).sum()) == pytest.approx(0, abs=1e-9)


def test_semigroup_gap_of_two_boxes_is_that_of_a_triangle():
    """Two boxes of width w make a triangle of height 1/w, which at the edges of the box of its variance, of height
    1/(w sqrt 2), has fallen to (1 - 1/sqrt 2)/w: there they are furthest apart."""
    gap = module.semigroup_gap("box", 100.0, 100.0)
    assert gap == pytest.approx(2 - 2**0.5, rel=0.02)


def test_signals_are_of_three_kinds_and_close():
    x = module.signals(9, 200, torch.Generator().manual_seed(0))
    jump = (x[:, 0] - x[:, -1]).abs()
    assert x.shape == (9, 200)
    assert float(jump[1::3].max()) < 5  # a walk that returns
    assert all(len(row.unique()) < 30 for row in x[2::3])


def test_a_kernel_that_makes_extrema_is_seen():
    x = torch.zeros(1, 64, dtype=torch.float64)
    x[0, 20] = 1
    twice = x + x.roll(7, 1)  # what a kernel of two spikes does
    assert int(module.extrema_of(x)) == 2
    assert int(module.extrema_of(twice)) == 4
    assert int(local_extrema(twice)[0]) == 3  # open: the far minimum is at an end


def test_fixed_kernels():
    for kind in ("sobel", "gabor", "random"):
        kernels = module.fixed_kernels(kind, torch.Generator().manual_seed(0))
        assert kernels.shape == (16, 3, 5, 5)
        torch.testing.assert_close(kernels.flatten(1).norm(dim=1), torch.ones(16))
        if kind != "random":
            torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.zeros(16), atol=1e-6, rtol=0)
            assert len(kernels.flatten(1).round(decimals=4).unique(dim=0)) == 16


def test_networks_without_sharing_have_the_budget_of_the_one_with():
    for side, channels in ((8, 16), (28, 32)):
        count = {name: module.parameters(model) for name, model in module.networks(side, channels, 256).items()}
        for name in ("unshared", "full"):
            assert count[name] == pytest.approx(count["shared"], rel=0.3)
        assert count["unshared_wide"] > 2 * count["shared"]
        assert all(
            model(torch.zeros(2, 1, side, side)).shape == (2, 10) for model in module.networks(side, 2, 4).values()
        )


def test_pooled_networks_differ_in_their_pooling_only():
    for kind in module.POOLED:
        model = module.pooled_network(kind, 12, 4)
        assert model(torch.zeros(2, 1, 12, 12)).shape == (2, 10)
        assert model[-1].in_features == 8 * {"none": 144, "global-max": 1, "global-average": 1}.get(kind, 9)


def test_neocognitrons_with_and_without_tolerance_have_as_many_cells():
    for setup in (SETUPS["neocognitron"], module.Fukushima()):
        side = setup.side + 2 * setup.margin
        shapes = [
            module.neocognitron_of(setup, tolerant, torch.Generator().manual_seed(0))(
                torch.rand(1, 1, side, side)
            ).shape
            for tolerant in (True, False)
        ]
        assert shapes[0] == shapes[1]


def test_specificity_is_one_tenth_for_all_and_one_for_one():
    y = torch.arange(10).repeat(3)
    same, own = torch.ones(30, 4), F.one_hot(y, 10).float()
    assert module.class_specificity(same, y) == pytest.approx(0.1)
    assert module.class_specificity(own, y) == pytest.approx(1)
    silent = torch.cat([own, torch.zeros(30, 5)], 1)
    assert module.class_specificity(silent, y) == pytest.approx(1)


# measurements and figures


def test_consistency_by_distance_averages_to_the_whole(runs):
    pooling = runs["pooling"].measurements
    assert pooling["none_head"].value > 4 * pooling["max_head"].value > 4 * pooling["global_max_head"].value
    for key in module.KEYS.values():
        curve = pooling[f"{key}_consistency_by_distance"]
        assert curve.y[0] == 1
        assert np.mean(curve.y[1:]) == pytest.approx(pooling[f"{key}_consistency"].value)


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        assert drawn.get_size_inches()[0] <= 6.6
        drawn.canvas.draw()

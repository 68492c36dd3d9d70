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
from claimwise.papers import fgsm
from claimwise.papers.fgsm import DIGITS, Recipe, paper

TINY = replace(DIGITS, units=8, epochs=1, rubbish=20, traced=5)
SHALLOW = fgsm.Shallow("digits", epochs=1, rbf_epochs=1, rubbish=20)
SETUPS = {
    "linear": fgsm.Linear("digits", epochs=2),
    "shallow": SHALLOW,
    "maxout": TINY,
    "hardened": TINY,
    "noise_trained": TINY,
    "transfer": fgsm.Pairs(TINY, SHALLOW),
    "ensemble": fgsm.Ensemble(TINY, members=2),
    "l1_decay": TINY,
    "sigmoid_top": TINY,
    "convolutional": fgsm.Convolutional(
        examples=40, channels=(3, 4), kernels=(3, 5), hidden=6, epochs=1, batch_size=20, rubbish=30
    ),
    "hidden": fgsm.Hidden("digits", units=6, epochs=1),
    "large": fgsm.Large(replace(TINY, epochs=4), validation=100, patience=2),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be; CIFAR-10 is noise."""
    rng = np.random.default_rng(0)
    images = {
        split: {
            "x": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            "y": rng.integers(0, 10, count),
        }
        for split, count in (("train", 50), ("test", 30))
    }
    noise = Dataset("cifar10", images)
    true_load = lab_run.load_data
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lab_run, "load_data", lambda name, **kwargs: noise if name == "cifar10" else true_load(name, **kwargs)
        )
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    rows = {row for claim in paper.claims.values() for row in claim.sheet}
    assert rows == {f"F{k}" for k in range(1, 21)}


def test_a_row_that_no_scale_tests_says_why_and_time_is_no_reason():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {"panda": "data", "mp-dbm-is-no-defence": "data", "rubbish-and-mp-dbm": "data"}


def test_plans_keep_to_their_scales():
    for name, experiment in paper.experiments.items():
        assert name in SETUPS
        for scale, plan in experiment.plans.items():
            datasets = {getattr(part, "dataset", None) for part in (plan.setup, *vars(plan.setup).values())} - {None}
            assert datasets <= ({"digits"} if scale == "quick" else {"mnist", "cifar10"})
            assert plan.seeds == (3 if name == "convolutional" or (name, scale) == ("ensemble", "paper") else 5)
    assert sum("quick" in claim.criteria for claim in paper.claims.values()) >= 8


def test_the_paper_recipe_is_pylearn2s():
    recipe = Recipe()
    model = fgsm.network(recipe, 784)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(1200, 784), (1200, 240), (10, 240)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = fgsm.momentum_and_decay(recipe, steps=600)
    for step, momentum in ((0, 0.5), (600 * 125, 0.6), (600 * 250, 0.7), (600 * 400, 0.7)):
        schedule(optimizer, step)
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(momentum)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 1.000004**step)


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


# measuring


def test_straight_lines_are_straight_and_parabolas_are_not():
    epsilons = torch.linspace(1, 15, 29, dtype=torch.float64)
    slopes = torch.tensor([[1.0, -2.0, 0.0]], dtype=torch.float64)
    line = 3 + epsilons[:, None, None] * slopes
    assert fgsm.straightness(line, epsilons) == pytest.approx(1)
    parabola = (epsilons - 8)[:, None, None].square() * slopes
    assert fgsm.straightness(parabola, epsilons) == pytest.approx(0, abs=1e-9)
    # A correlation of r is a share of r squared.
    torch.manual_seed(0)
    rough = line[:, :, :1] + torch.randn(29, 1, 1, dtype=torch.float64)
    r = np.corrcoef(epsilons.numpy(), rough[:, 0, 0].numpy())[0, 1]
    assert fgsm.straightness(rough, epsilons) == pytest.approx(r**2)


class Radial(nn.Module):
    """Class 0 inside the unit circle, class 1 outside: no direction is wrong for ever on one side."""

    def forward(self, x):
        return torch.stack([1 - x.square().sum(1), torch.zeros(len(x))], 1)


def test_tracing_counts_examples_that_are_wrong_all_along():
    x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    found = fgsm.traced(Radial(), x, torch.tensor([0, 1]))
    # The first is pushed out of the circle for ever; the second moves inwards and out on the other side.
    assert (found["wrong_for_all_epsilon"].successes, found["wrong_for_all_epsilon"].total) == (1, 2)
    assert found["traced_logits"].values.shape == (61, 2)
    assert found["straight_forward"] < 0.98


def test_shared_directions_of_a_linear_model_fool_it_on_other_examples():
    torch.manual_seed(0)
    model = nn.Linear(30, 2)
    x = torch.rand(40, 30)
    y = model(x).argmax(1)
    found = fgsm.shared_directions(model, x, y, epsilon=1.0)
    assert (found.successes, found.total) == (20, 20)
    assert fgsm.shared_directions(model, x, y, epsilon=0.0).successes == 0


def test_the_penalty_is_epsilon_times_the_logistic_of_the_margin():
    slopes = fgsm.penalty(0.25)
    assert slopes["penalty_on_the_boundary"].value == pytest.approx(0.25 / (1 + math.exp(-0.25)))
    assert slopes["penalty_far_from_it"].value == pytest.approx(0.25 * math.exp(-29.75), rel=1e-6)


def test_a_vote_has_the_mean_probabilities():
    torch.manual_seed(0)
    members = [nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(3, 4)]
    x = torch.rand(5, 3)
    mean = sum(member(x).softmax(1) for member in members) / 3
    assert torch.allclose(fgsm.Vote(members)(x).softmax(1), mean, atol=1e-6)


def test_pictures_show_examples_that_were_right_and_become_wrong():
    torch.manual_seed(0)
    model = nn.Linear(16, 3)
    x = torch.rand(30, 16)
    y = torch.cat([model(x).argmax(1)[:20], (model(x).argmax(1)[20:] + 1) % 3])
    found = fgsm.pictures(model, x, y, epsilon=0.2)
    images, said = found["pictures"], found["predictions"]
    assert images.rows[:3] == ("clean 0", "perturbation 0", "adversarial 0")
    assert np.allclose(images.values[0] + images.values[1], images.values[2])
    assert np.allclose(np.abs(images.values[1]), 0.2, atol=1e-6)
    assert said.values[0, 0] != said.values[1, 0]
    assert fgsm.pictures(model, x, y, epsilon=0.0) == {}


def test_parts_of_a_test_set_add_up():
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.rand(2_500, 4), torch.randint(3, (2_500,))
    parts, whole = fgsm.count_in_parts(model, x, y, 0.1), fgsm.attacked(model, x, y, 0.1)
    assert parts == {name: pytest.approx(whole[name]) if name.endswith("confidence") else whole[name] for name in parts}


# experiments


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_identities_of_logistic_regression_hold_after_any_training(runs):
    measured = runs["linear"].measurements
    for name in (
        "pixels_off_the_sign_of_w",
        "losses_off_the_closed_form",
        "negatives_hurt_by_the_printed_loss",
        "negatives_spared_by_the_true_loss",
    ):
        assert measured[name] == Exact(0)


def test_rates_are_over_the_whole_test_set(runs):
    for name in ("maxout", "hardened", "ensemble"):
        assert runs[name].measurements["fgsm_error"].total == 360
    assert runs["maxout"].measurements["shared_direction_error"].total == 180
    assert runs["l1_decay"].measurements["train_error_strong"].total == 1437
    assert runs["convolutional"].measurements["fgsm_error"].total == 30


def test_transfer_agrees_with_the_networks_own_runs(runs):
    errors = runs["transfer"].measurements["errors"]
    assert isinstance(errors, Matrix)
    for k, name in enumerate(errors.rows[:2]):
        own = runs[name].measurements["fgsm_error"]
        assert errors.values[k, k] == pytest.approx(own.successes / own.total, abs=1e-6)
    shown = runs["transfer"].measurements["original_to_hardened"]
    assert errors.values[0, 1] == pytest.approx(shown.successes / shown.total, abs=1e-6)


def test_curves_start_at_the_clean_error_and_pass_the_attack(runs):
    for name in ("maxout", "hardened"):
        measured = runs[name].measurements
        curve = measured["error_curve"]
        assert isinstance(curve, Curve)
        for epsilon, rate in ((0.0, measured["clean_error"]), (0.25, measured["fgsm_error"])):
            assert isinstance(rate, Proportion)
            at = int(np.argmin(np.abs(curve.x - epsilon)))
            assert curve.y[at] == pytest.approx(rate.successes / rate.total, abs=1e-6)


def test_early_stopping_keeps_to_its_bounds(runs):
    measured = runs["large"].measurements
    assert 1 <= measured["plain_epochs"].value <= 4
    assert 1 <= measured["adversarial_epochs"].value <= 4


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path):
    again = execute(paper.experiments["noise_trained"], TINY, 0, Workspace(tmp_path), Hardware())
    assert again.measurements == runs["noise_trained"].measurements


# figures


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        sizes = [text.get_fontsize() for axes in drawn.axes for text in axes.texts]
        assert drawn.get_size_inches()[0] <= 6.6
        assert all(size >= 8.5 for size in sizes)
        drawn.canvas.draw()
    assert (runs["maxout"].folder / "figures" / "adversarial.svg").is_file()

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import claimwise.lab.run as lab_run
from claimwise.adversarial import box_lbfgs
from claimwise.data import Dataset
from claimwise.lab.measurements import Exact, Matrix, PerExample, Proportion
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.papers import intriguing
from claimwise.papers.intriguing import DIGITS_DEEP, DIGITS_SOFTMAX, QUICK, paper
from claimwise.vision import SqueezeNet

SOFTMAX = replace(DIGITS_SOFTMAX, examples=60, iterations=20)
DEEP = replace(DIGITS_DEEP, examples=60, iterations=20, autoencoder_iterations=20, autoencoder_examples=30, code=12)
FEW = replace(QUICK, images=8, bisections=1, iterations=8)
SETUPS = {
    "softmax": SOFTMAX,
    "deep": DEEP,
    "tables": intriguing.Tables(SOFTMAX, DEEP, FEW, fixed_images=5),
    "halves": intriguing.Halves(replace(SOFTMAX, examples=80), FEW, amplified=0.2),
    "hardening": intriguing.Hardening("digits", examples=60, epochs=2, pool=9, renewed=6, batch_size=30, attack=FEW),
    "norms": intriguing.Norms(DEEP, examples=10),
    "basis": intriguing.Basis(DEEP, directions=6, strongest=4),
    "imagenet": intriguing.ImageNet(side=40, attack=replace(FEW, images=3, iterations=3)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every experiment once, as small as can be; the ImageNet network and its photographs are noise."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    made = {
        "imagenet_samples_256": {
            "x": rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8),
            "y": np.array([9, 1, 2, 3, 4]),
        },
        "imagenet_squeezenet1_1": {name: value.numpy() for name, value in SqueezeNet().state_dict().items()},
    }
    true_load = lab_run.load_data
    workspace = Workspace(tmp_path_factory.mktemp("runs"))

    def load(name, **kwargs):
        return Dataset(name, {"all": made[name]}) if name in made else true_load(name, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_run, "load_data", load)
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    rows = {row for claim in paper.claims.values() for row in claim.sheet}
    assert rows == {f"I{k}" for k in range(1, 13)}


def test_a_row_that_no_scale_tests_says_why_and_time_is_no_reason():
    untested = {claim.id: claim.not_tested.reason for claim in paper.claims.values() if claim.not_tested}
    assert untested == {
        "directions-mean-something": "people",
        "norms-of-alexnet": "data",
        "alexnet-and-quocnet": "data",
    }


def test_plans_keep_to_their_scales():
    for name, experiment in paper.experiments.items():
        assert name in SETUPS
        for scale, plan in experiment.plans.items():
            datasets = {getattr(part, "dataset", None) for part in (plan.setup, *vars(plan.setup).values())} - {None}
            assert datasets <= ({"digits"} if scale == "quick" else {"mnist", "imagenet_samples_256"})
            assert plan.seeds == (1 if name == "imagenet" else 3 if scale == "quick" else 5)
    assert sum("quick" in claim.criteria for claim in paper.claims.values()) >= 8


def test_note_has_its_four_parts():
    headings = [line for line in paper.note.splitlines() if line.startswith("## ")]
    assert headings == ["## What", "## How", "## Why", "## Where the notes or the paper mislead"]


def test_table_2_is_whole():
    assert list(intriguing.TABLE_2) == list(intriguing.NAMES.values())
    for k, values in enumerate(intriguing.TABLE_2.values()):
        assert len(values) == 6
        assert values[k] == 1
    assert intriguing.recalled("FC10(1)", "FC100-100-10") == "seen"
    assert intriguing.recalled("AE400-10", "FC100-100-10") == "high"
    assert intriguing.recalled("FC10(1)", "FC200-200-10") == "high"


# training


def test_weight_decay_is_per_layer_and_per_unit():
    model = intriguing.sigmoid_network(3, 4, 2)
    first, second = (p for p in model.parameters() if p.ndim == 2)
    expected = (
        0.3 * sum(w.item() ** 2 for w in first.flatten()) / 4 + 0.1 * sum(w.item() ** 2 for w in second.flatten()) / 2
    )
    assert intriguing.decay(model, (0.3, 0.1)).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="argument"):
        intriguing.decay(model, (0.3,))


def test_networks_have_a_sigmoid_after_every_layer_but_the_last():
    kinds = [type(layer) for layer in intriguing.sigmoid_network(3, 4, 5, 2)]
    assert kinds == [nn.Linear, nn.Sigmoid, nn.Linear, nn.Sigmoid, nn.Linear]
    kinds = [type(layer) for layer in intriguing.sigmoid_network(3, 4, 2, dropout=0.1)]
    assert kinds == [nn.Linear, nn.Sigmoid, nn.Dropout, nn.Linear]


def test_lbfgs_reaches_the_minimum_of_a_quadratic():
    class Plain:
        def loop(self, state, step, *, until, name):
            for i in range(until):
                step(state, i)

    model = nn.Linear(3, 1, bias=False)
    aim = torch.tensor([[1.0, -2.0, 3.0]])
    intriguing.minimise(
        Plain(), model, lambda: ((model.weight - aim) ** 2 * torch.tensor([1.0, 10.0, 100.0])).sum(), 40, ""
    )
    assert torch.allclose(model.weight, aim, atol=1e-4)
    assert not model.weight.requires_grad


def test_places_receive_values_between_0_and_1():
    model = intriguing.sigmoid_network(6, 100, 100, 10)
    for arm in ("input", "upper", "hidden", "both"):
        for place in intriguing.places(arm):
            inputs = model[:place](torch.rand(4, 6))
            assert 0 <= inputs.min() <= inputs.max() <= 1
            assert isinstance(model[place], nn.Linear)
    assert intriguing.places("plain") == intriguing.places("dropout") == intriguing.places("capped") == ()


# measuring


def test_wrong_labels_are_wrong_and_even():
    class Source:
        def generator(self, name):
            return torch.Generator().manual_seed(0)

    y = torch.arange(10).repeat(900)
    wrong = intriguing.wrong_labels(Source(), y)
    assert (wrong != y).all()
    counts = ((wrong - y) % 10).bincount(minlength=10)[1:]
    assert counts.sum() == 9000
    assert (counts - 1000).abs().max() < 160  # five standard deviations


def test_purity_and_similarity():
    labels = torch.tensor([[1, 1, 1, 2], [3, 4, 5, 6]])
    assert intriguing.purities(labels).tolist() == [0.75, 0.25]
    assert intriguing.purity(labels) == 0.5
    torch.manual_seed(0)
    images = torch.rand(2, 3, 5)
    cosines = [
        torch.nn.functional.cosine_similarity(images[d, i], images[d, j], dim=0).item()
        for d in range(2)
        for i in range(3)
        for j in range(3)
        if i != j
    ]
    assert intriguing.similarity(images) == pytest.approx(np.mean(cosines), rel=1e-5)


def test_the_margin_over_the_bound_is_what_a_linear_network_needs():
    """For two logits x and -x along one direction the bound is met: scaled up, it is broken."""
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x, y = torch.tensor([[0.3, 0.5]]), torch.tensor([0])
    found = box_lbfgs(model, x, y, bounds=(-1.0, 1.0))
    exact = 2**0.5  # operator norm of the weight
    assert intriguing.nearer_than_allowed(model, exact, x, found) == 0
    assert intriguing.nearer_than_allowed(model, 0.9 * exact, x, found) == 1


def test_parts_of_what_was_found():
    model = nn.Linear(3, 2).requires_grad_(False)
    x = torch.rand(4, 3)
    found = box_lbfgs(model, x, model(x).argmax(1), bounds=None)
    last = intriguing.part(found, slice(3, None))
    assert torch.equal(last.x_adv, found.x_adv[3:])
    assert torch.equal(last.distortion, found.distortion[3:])


# experiments


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_theorems_hold_after_any_training(runs):
    assert runs["norms"].measurements["norms_apart"] == Exact(0)
    assert runs["norms"].measurements["bounds_exceeded"] == Exact(0)
    assert runs["hardening"].measurements["nearer_than_allowed"] == Exact(0)


def test_rates_are_over_what_they_say(runs):
    measured = runs["tables"].measurements
    assert measured["failures"].total == 6 * 8
    assert measured["one_class_failures"].total == 6 * 5
    assert runs["halves"].measurements["first_other_half_error"].total == 40
    assert runs["softmax"].measurements["fc10_light_test_error"].total == 360
    assert isinstance(runs["imagenet"].measurements["failures"], PerExample)
    photographs = runs["imagenet"].measurements
    assert len(photographs["failures"].values) == len(photographs["distortion"].values) == 3
    failed = photographs["failures"].values == 1
    assert (photographs["distortion"].values[failed] == 1).all()
    assert not photographs["imperceptible"].values[failed].any()


def test_own_examples_fool_their_own_network(runs):
    measured = runs["tables"].measurements
    errors, failed = measured["errors"], measured["failures"]
    assert isinstance(errors, Matrix)
    assert isinstance(failed, Proportion)
    assert errors.rows == errors.columns == tuple(intriguing.NAMES.values())
    assert failed.successes == 0
    assert np.allclose(np.diag(errors.values), 1)
    apart = ~np.eye(6, dtype=bool)
    share = (errors.values > measured["noise_errors"].values)[apart].mean()
    assert measured["pairs_above_noise"].value == pytest.approx(share)


def test_amplified_examples_fool_at_least_as_often_on_average(runs):
    measured = runs["halves"].measurements
    assert measured["amplified_errors"].values[:2, 2].mean() == pytest.approx(measured["amplified_across"].value)
    assert measured["amplified_noise_errors"].values[:2, 2].mean() == pytest.approx(
        measured["amplified_noise_across"].value
    )


def test_capped_networks_keep_under_their_cap(runs):
    cap = SETUPS["hardening"].cap
    assert runs["hardening"].measurements["capped_bound"].value <= cap**3 / 16 * (1 + 1e-5)  # two sigmoids


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path):
    again = execute(paper.experiments["halves"], SETUPS["halves"], 0, Workspace(tmp_path), Hardware())
    for name, value in runs["halves"].measurements.items():
        if isinstance(value, Matrix):
            assert np.array_equal(again.measurements[name].values, value.values)
        else:
            assert again.measurements[name] == value


# figures


def test_colours_of_differences():
    drawn = intriguing.red_and_blue(np.array([[0.0, 1.0], [-1.0, 5.0]]))
    assert drawn.shape == (2, 2, 3)
    assert drawn[0, 0].tolist() == [1, 1, 1]
    assert drawn[0, 1, 2] > drawn[0, 1, 0]  # lighter: blue
    assert drawn[1, 0, 0] > drawn[1, 0, 2]  # darker: red
    assert np.allclose(drawn[1, 1], drawn[0, 1])  # no stronger than full


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        sizes = [text.get_fontsize() for axes in drawn.axes for text in axes.texts]
        assert drawn.get_size_inches()[0] <= 6.6, spec
        assert all(size >= 8.5 for size in sizes)
        drawn.canvas.draw()

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import claimwise.lab.run as lab_run
from claimwise.data import Dataset, generators
from claimwise.lab.measurements import Curve, Exact, Matrix, PerTrial, Proportion, Value
from claimwise.lab.run import Hardware, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.papers import lstm_odyssey as odyssey
from claimwise.papers.lstm_odyssey import VARIANTS, WORST, paper

SEARCH = odyssey.Search(
    "generated_chorales",
    batch_size=12,
    epochs=2,
    patience=2,
    trials=4,
    best=0.25,
    hidden=(3, 6),
    learning_rate=(1e-3, 3e-2),
)
VANILLA = replace(SEARCH, blocks=3, batch_size=4, epochs=4, learning_rate=(5e-3, 3e-2))
ONE = {"dataset": "generated_chorales", "batch_size": 12, "epochs": 2, "patience": 2, "hidden": 4}
SETUPS = {
    "search_vanilla": VANILLA,
    **{f"search_{variant.lower()}": SEARCH for variant in odyssey.OTHERS},
    "hyperparameters": odyssey.Importance(VANILLA, trees=8),
    "together": odyssey.Together(**ONE, rates=(0.005, 0.02)),
    "longer": odyssey.OneSetting(**ONE),
    "rates": odyssey.Rates(**ONE, sizes=(3, 5), log_rates=(-3.0, -2.0, -1.0)),
    "sizes": odyssey.Sizes(**ONE, sizes=(2, 4, 8)),
    "noises": odyssey.Noises(**ONE, deviations=(0.0, 0.2, 0.5, 1.0), target=12.0),
    "rows": odyssey.Rows("noise", images=40, tests=20, hidden=4, batch_size=20, epochs=1),
    "recall": odyssey.Recall(symbols=3, steps=8, gaps=3, hidden=4, updates=3, tests=50),
    "cells": odyssey.Cells(steps=6),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def runs(workspace):
    """Every experiment once, as small as can be; MNIST is noise."""
    pytest.importorskip("optuna")
    rng = np.random.default_rng(0)
    noise = Dataset(
        "noise",
        {
            split: {"x": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), "y": np.arange(count) % 10}
            for split, count in (("train", 50), ("test", 20))
        },
    )
    true_load = lab_run.load_data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_run, "load_data", lambda name, **kw: noise if name == "noise" else true_load(name, **kw))
        yield {
            name: execute(paper.experiments[name], setup, 0, workspace, Hardware()) for name, setup in SETUPS.items()
        }


class Bare:
    """As much of a Run as training needs, without folder and checkpoints."""

    device = torch.device("cpu")

    def generator(self, name, device="cpu"):
        return torch.Generator(device).manual_seed(sum(map(ord, name)))

    def loop(self, state, step, *, until, name):
        while not until(state):
            step(state, len(state["curve"]))


def rolls(**music):
    data = generators.generated_chorales(12, phrases=2)

    class Source(Bare):
        def data(self, name):
            return data

    return odyssey.music(Source(), odyssey.Music("generated_chorales", **music)), data


# the paper as a whole


def test_every_row_of_the_sheet_is_a_claim():
    assert {row for claim in paper.claims.values() for row in claim.sheet} == {f"29.{k}" for k in range(1, 12)}


def test_what_no_scale_tests_needs_speech_or_handwriting():
    untested = {claim.id: claim.not_tested for claim in paper.claims.values() if claim.not_tested}
    assert len(untested) == 6
    for reason in untested.values():
        assert reason.reason == "data"
        assert "TIMIT" in reason.detail or "IAM" in reason.detail


def test_plans_keep_to_their_scales():
    known = {"quick": {"generated_chorales", None}, "small": {"music_jsb_chorales", "mnist", None}}
    for name, experiment in paper.experiments.items():
        assert name in SETUPS
        for scale, plan in experiment.plans.items():
            dataset = getattr(getattr(plan.setup, "search", plan.setup), "dataset", None)
            assert dataset in known.get(scale, {"music_jsb_chorales"})


def test_every_architecture_searches_in_equal_blocks_and_ranges():
    for scale in ("quick", "small", "paper"):
        plans = {variant: experiment.plans[scale] for variant, experiment in odyssey.SEARCHES.items()}
        assert list(plans) == list(VARIANTS)
        assert len({replace(plan.setup, blocks=1) for plan in plans.values()}) == 1
        assert len({plan.seeds for plan in plans.values()}) == 1
    paper_plan = odyssey.search_nfg.plans["paper"]
    assert paper_plan.seeds * paper_plan.setup.trials == 200
    assert paper_plan.seeds * paper_plan.setup.kept == 20
    setup = paper_plan.setup
    assert (setup.hidden, setup.learning_rate) == ((20, 200), (1e-6, 1e-2))
    assert (setup.one_minus_momentum, setup.noise) == ((0.01, 1.0), (0.0, 1.0))
    assert (setup.batch_size, setup.epochs, setup.patience) == (1, 150, 15)


def test_numbers_in_the_differences_are_those_of_the_plans():
    small, vanilla = (odyssey.SEARCHES[v].plans["small"] for v in ("NP", "vanilla"))
    trials = [plan.seeds * plan.setup.trials * plan.setup.blocks for plan in (small, vanilla)]
    assert (
        f"{trials[0]} trials an architecture ({trials[1]} of vanilla) of up to {small.setup.epochs} epochs"
        in (odyssey.SEARCHED["small"])
    )
    assert f"{vanilla.setup.trials * vanilla.setup.blocks} trials a search" in odyssey.ANALYSED["small"]
    quick = odyssey.search_np.plans["quick"]
    assert (
        f"{quick.seeds * quick.setup.trials} trials an architecture of {quick.setup.epochs} epochs"
        in (odyssey.SEARCHED["quick"])
    )
    assert f"batches of {quick.setup.batch_size}" in odyssey.SEARCHED["quick"]
    for scale in ("quick", "small"):
        setup = odyssey.together.plans[scale].setup
        for words in (f"{setup.hidden} cells", f"{setup.epochs} epochs", f"batches of {setup.batch_size}"):
            assert words in odyssey.SIDE_BY_SIDE[scale].replace('"', "")
    for experiment in (odyssey.rates, odyssey.sizes, odyssey.noises):
        assert experiment.plans["small"].setup.epochs == 12
    assert f"{odyssey.longer.plans['small'].setup.epochs} epochs" in paper.claims["near-the-published-music-loss"].says
    assert odyssey.sizes.plans["quick"].setup.epochs == 4


# music


def test_batches_hold_every_piece_once_and_predict_the_next_step():
    found, data = rolls(batch_size=3)
    steps = 0
    for batch in found.train:
        assert len(batch.lengths) <= 3
        assert batch.given.shape[0] == batch.lengths.max()
        for column, length in enumerate(batch.lengths.tolist()):
            assert torch.equal(batch.given[1:length, column], batch.wanted[: length - 1, column])
            assert batch.there[:, column].sum() == length
            assert batch.wanted[length:, column].sum() == 0
            steps += length
    assert steps == int((data["train"]["length"] - 1).sum())
    keys = sum(batch.wanted.sum() for batch in found.train) + sum(batch.given[0].sum() for batch in found.train)
    assert keys == data["train"]["roll"].sum()


def test_loss_is_a_mean_over_steps_by_explicit_loops():
    found, data = rolls()
    torch.manual_seed(0)
    model = odyssey.NextStep(5, "vanilla")
    total, steps, at = 0.0, 0, 0
    for length in data["test"]["length"].tolist():
        piece = torch.tensor(data["test"]["roll"][at : at + length], dtype=torch.float32)
        at += length
        with torch.no_grad():
            probability = torch.sigmoid(model.keys(model.lstm(piece[:-1, None])[0])[:, 0]).double()
        for t in range(length - 1):
            for key in range(88):
                p = float(probability[t, key])
                total -= math.log(p if piece[t + 1, key] else 1 - p)
            steps += 1
    assert odyssey.nats_a_step(model, found.test) == pytest.approx(total / steps, rel=1e-5)


def test_a_loss_that_is_no_number_counts_as_untrained():
    found, _ = rolls()
    model = odyssey.NextStep(3, "NP")
    nn.init.constant_(model.keys.weight, float("nan"))
    assert odyssey.nats_a_step(model, found.test) == WORST


def test_key_frequencies_by_hand():
    heard, asked = np.array([[1, 0], [0, 0]], np.uint8), np.array([[1, 1]], np.uint8)
    assert odyssey.key_frequency_loss(heard, asked) == pytest.approx(-math.log(0.5) - math.log(1e-4))


GIVEN = {"variant": "vanilla", "hidden": 4, "learning_rate": 0.01, "momentum": 0.9, "stream": "s", "name": "n"}


def test_training_stops_early_and_returns_its_best():
    found, _ = rolls()
    setup = odyssey.Music("x", batch_size=1, epochs=9, patience=2)
    still = odyssey.train(Bare(), setup, found, **GIVEN | {"learning_rate": 1e-30})
    assert (still.epochs, still.best_epoch) == (3, 1)  # no better than the first: two more, and out
    learnt = odyssey.train(Bare(), replace(setup, patience=9), found, **GIVEN)
    assert learnt.epochs == 9
    assert learnt.validation == min(learnt.curve) == learnt.curve[learnt.best_epoch - 1]
    assert learnt.validation == pytest.approx(odyssey.nats_a_step(learnt.model, found.validation))
    assert learnt.test == pytest.approx(odyssey.nats_a_step(learnt.model, found.test))
    assert learnt.validation < still.validation


def test_a_diverged_training_ends_and_keeps_what_it_had():
    found, _ = rolls()
    setup = odyssey.Music("x", batch_size=1, epochs=50, patience=50)
    gone = odyssey.train(Bare(), setup, found, **GIVEN | {"variant": "NOAF", "learning_rate": 1e4})
    assert gone.epochs == 1
    assert (gone.validation, gone.test) == (WORST, WORST)


def test_the_rate_is_scaled_by_one_minus_momentum(monkeypatch):
    seen = []
    true = torch.optim.SGD

    def spy(parameters, **kw):
        seen.append(kw)
        return true(parameters, **kw)

    monkeypatch.setattr(torch.optim, "SGD", spy)
    found, _ = rolls()
    odyssey.train(Bare(), odyssey.Music("x", epochs=1), found, **GIVEN)
    assert seen == [{"lr": pytest.approx(0.001), "momentum": 0.9, "nesterov": True}]


def test_one_stream_is_one_start_and_one_order():
    found, _ = rolls()
    setup = odyssey.Music("x", epochs=1)
    a, b = (odyssey.train(Bare(), setup, found, **GIVEN | {"name": name}) for name in "ab")
    other = odyssey.train(Bare(), setup, found, **GIVEN | {"stream": "t"})
    noisy = odyssey.train(Bare(), setup, found, **GIVEN, noise=0.5)
    assert a.validation == b.validation
    assert len({a.validation, other.validation, noisy.validation}) == 3


# the search


def test_draws_lie_in_their_ranges_evenly_in_the_logarithm():
    rng = np.random.default_rng(0)
    found = [odyssey.draw(rng, odyssey.Search()) for _ in range(2000)]
    rates = np.log10([d.learning_rate for d in found])
    assert -6 <= rates.min() < -5.9
    assert -2.1 < rates.max() <= -2
    assert rates.mean() == pytest.approx(-4, abs=0.13)  # five standard errors
    hidden = np.array([d.hidden for d in found])
    assert (hidden.min(), hidden.max()) == (20, 200)
    assert np.median(hidden) == pytest.approx(math.sqrt(20 * 200), rel=0.1)
    rest = 1 - np.array([d.momentum for d in found])
    assert rest.min() >= 0.01
    assert rest.max() <= 1
    assert np.median(rest) == pytest.approx(0.1, rel=0.15)
    noise = np.array([d.noise for d in found])
    assert noise.mean() == pytest.approx(0.5, abs=0.035)


def test_the_best_of_every_block_by_validation():
    setup = replace(SEARCH, trials=4, blocks=2, best=0.5)
    table = np.zeros((8, len(odyssey.COLUMNS)))
    table[:, odyssey.COLUMNS.index("validation")] = [4, 1, 3, 2, 10, 40, 30, 20]
    table[:, odyssey.COLUMNS.index("test")] = [0, 1, 2, 3, 4, 5, 6, 7]
    assert odyssey.best_of(table, setup)[:, odyssey.COLUMNS.index("test")].tolist() == [1, 3, 4, 7]


def test_searches_return_their_trials(runs):
    found = runs["search_vanilla"].measurements
    table = found["table"]
    assert isinstance(table, Matrix)
    assert table.values.shape == (12, len(odyssey.COLUMNS))
    assert np.isfinite(table.values).all()
    assert len(found["best"].values) == 3
    assert isinstance(found["all"], PerTrial)
    assert set(found["best"].values) <= set(found["all"].values)
    validation, test = (table.values[:, odyssey.COLUMNS.index(name)] for name in ("validation", "test"))
    assert found["best_of_all"] == Value(test[validation.argmin()], unit="nats")


def test_architectures_draw_apart(runs):
    drawn = {name: run.measurements["table"].values[0, 0] for name, run in runs.items() if name.startswith("search_")}
    assert len(set(drawn.values())) == 9


def test_an_interrupted_search_resumes_trial_by_trial(runs, tmp_path, monkeypatch):
    true, calls = odyssey.train, []

    def counted(*args, **kw):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(kw["stream"])
        return true(*args, **kw)

    workspace = Workspace(tmp_path, checkpoint_seconds=0.0)
    experiment = paper.experiments["search_cifg"]
    monkeypatch.setattr(odyssey, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        execute(experiment, SEARCH, 0, workspace, Hardware())
    again: list[str] = []

    def recorded(*args, **kw):
        again.append(kw["stream"])
        return true(*args, **kw)

    monkeypatch.setattr(odyssey, "train", recorded)
    found = execute(experiment, SEARCH, 0, workspace, Hardware())
    assert again == ["CIFG 3"]
    whole = runs["search_cifg"].measurements["table"].values
    seconds = odyssey.COLUMNS.index("seconds")
    np.testing.assert_array_equal(
        np.delete(found.measurements["table"].values, seconds, 1), np.delete(whole, seconds, 1)
    )


# the analysis of variance


def forest_of(function, dimensions, trees=1, points=4000, **settings):
    from sklearn.ensemble import RandomForestRegressor

    x = np.random.default_rng(0).random((points, dimensions))
    forest = RandomForestRegressor(trees, random_state=0, **settings).fit(x, function(x))
    return x, forest, [odyssey.leaves_of(tree.tree_) for tree in forest.estimators_]


def test_leaves_fill_the_cube_and_give_what_the_tree_predicts():
    x, forest, (leaves,) = forest_of(lambda x: x[:, 0] * x[:, 1], 3, points=60)
    assert (leaves.high - leaves.low).prod(1).sum() == pytest.approx(1)
    inside = ((leaves.low < x[:20, None]) & (x[:20, None] <= leaves.high)).all(-1)
    assert (inside.sum(1) == 1).all()
    np.testing.assert_allclose(leaves.value[inside.argmax(1)], forest.estimators_[0].predict(x[:20]))


def test_shares_of_a_function_in_closed_form():
    """y = x0 + 2 x1 + 6 (x0 - 1/2)(x1 - 1/2): variances 1/12, 4/12, 36/144 and nothing of x2."""
    _, _, forest = forest_of(
        lambda x: x[:, 0] + 2 * x[:, 1] + 6 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5),
        3,
        trees=2,
        max_leaf_nodes=600,
    )
    shares = odyssey.variance_shares(forest, order=3)
    total = 1 / 12 + 4 / 12 + 36 / 144
    assert shares[(0,)] == pytest.approx(1 / 12 / total, abs=0.02)
    assert shares[(1,)] == pytest.approx(4 / 12 / total, abs=0.02)
    assert shares[(0, 1)] == pytest.approx(36 / 144 / total, abs=0.02)
    assert shares[(2,)] == pytest.approx(0, abs=0.01)
    assert sum(shares.values()) == pytest.approx(1)


def test_shares_of_a_tree_by_integrating_over_a_grid():
    leaves = odyssey.Leaves(
        np.array([[0, 0], [0.5, 0], [0.5, 0.25]]), np.array([[0.5, 1], [1, 0.25], [1, 1]]), np.array([1.0, 5.0, 2.0])
    )
    at = (np.arange(40) + 0.5) / 40
    table = np.array([[1.0 if a < 0.5 else 5.0 if b < 0.25 else 2.0 for b in at] for a in at])
    whole, first, second = table.var(), table.mean(1).var(), table.mean(0).var()
    shares = odyssey.variance_shares([leaves])
    assert shares[(0,)] == pytest.approx(first / whole)
    assert shares[(1,)] == pytest.approx(second / whole)
    assert shares[(0, 1)] == pytest.approx(1 - (first + second) / whole)
    assert odyssey.closed_variance(leaves, (0, 1)) == pytest.approx(whole)
    np.testing.assert_allclose(odyssey.marginal([leaves], 0, at), table.mean(1))
    np.testing.assert_allclose(odyssey.marginal([leaves], 0, at, {1: (0.0, 0.5)}), table[:, :20].mean(1))
    with pytest.raises(ValueError, match="no tree of the forest varies"):
        odyssey.variance_shares([leaves._replace(value=np.ones(3))])


def test_main_effects_are_optunas():
    pytest.importorskip("optuna")
    rng = np.random.default_rng(1)
    cube = rng.random((50, 4))
    loss = 3 * cube[:, 0] + cube[:, 1] * cube[:, 2] + 0.1 * rng.random(50)
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(16, max_depth=64, random_state=7).fit(cube, loss)
    shares = odyssey.variance_shares([odyssey.leaves_of(tree.tree_) for tree in forest.estimators_], order=1)
    theirs = odyssey.optuna_importances(cube, loss, 16, 7)
    assert [shares[(k,)] for k in range(4)] == pytest.approx(theirs, abs=1e-9)


def test_hyperparameters_in_the_unit_cube():
    setup = odyssey.Search()
    table = np.zeros((3, len(odyssey.COLUMNS)))
    table[:, :4] = [[1e-6, 20, 0.0, 0.0], [1e-4, math.sqrt(4000), 0.9, 0.5], [1e-2, 200, 0.99, 1.0]]
    np.testing.assert_allclose(odyssey.in_unit_cube(table, setup), [[0] * 4, [0.5] * 4, [1] * 4], atol=1e-12)


def test_analysis_of_a_search(runs):
    found = runs["hyperparameters"].measurements
    assert found["main_effects"].value + found["interactions"].value == pytest.approx(1)
    np.testing.assert_allclose(
        found["shares"].values[0], [found[name].value for name in odyssey.HYPERPARAMETERS], atol=1e-9
    )
    assert 0 < found["main_effects"].value <= 1 + 1e-9


def test_the_basin_and_its_bottom_by_hand():
    log_rates = np.array([-4.0, -3.0, -2.0, -1.0])
    loss = np.array([1.2, 1.0, 1.0, 2.0])
    # 1.05 is reached a quarter of the way from 1.0 to 1.2, and a 20th of that from 1.0 to 2.0
    assert odyssey.basin_width(log_rates, loss) == pytest.approx(0.25 + 1 + 0.05)
    assert odyssey.basin_width(log_rates, np.ones(4)) == 3
    assert odyssey.valley(log_rates, np.array([4.0, 1.0, 0.0, 1.0])) == pytest.approx(-2)
    assert odyssey.valley(log_rates, np.array([0.25, 0.25, 2.25, 6.25])) == -4  # the first of two, at the end
    assert odyssey.valley(log_rates, (log_rates + 2.3) ** 2) == pytest.approx(-2.3)


# sweeps


def test_epochs_to_a_target_by_hand():
    assert odyssey.epochs_to([12.0, 10.0, 8.0], 9.0) == 2.5
    assert odyssey.epochs_to([8.0], 9.0) == 1
    assert odyssey.epochs_to([12.0, 11.0], 9.0) == 3


def test_the_best_of_the_rates_counts(runs, workspace):
    setup = SETUPS["together"]
    alone = [
        execute(paper.experiments["together"], replace(setup, rates=(rate,)), 0, workspace, Hardware()).measurements
        for rate in setup.rates
    ]
    both = runs["together"].measurements
    for variant in VARIANTS:
        name = variant.lower()
        assert both[name] in (alone[0][name], alone[1][name])
    assert isinstance(both["forget_gate"], Matrix)
    assert both["forget_gate"].values.shape == (4, both["roll"].values.shape[1])


def test_sweeps_have_their_coordinates(runs):
    assert runs["sizes"].measurements["nll"].x.tolist() == [0, 1, 2]
    losses = runs["sizes"].measurements["nll"].y
    assert runs["sizes"].measurements["first_gain"].value == pytest.approx(losses[0] - losses[1])
    assert runs["sizes"].measurements["last_gain"].value == pytest.approx(losses[1] - losses[2])
    assert runs["noises"].measurements["nll"].x.tolist() == [0, 0.2, 0.5, 1]
    assert isinstance(runs["rates"].measurements["small_curve"], Curve)


# other tasks


def test_streams_ask_for_what_was_marked_last():
    setup = odyssey.Recall(symbols=4, steps=15, mark=0.3)
    x, answers, gaps = odyssey.streams(setup, 20, torch.Generator().manual_seed(0))
    assert x.shape == (20, 15, 5)
    assert (x[:, 0, -1] == 1).all()
    for stream, wanted, since in zip(x, answers, gaps, strict=True):
        for step in range(15):
            last = max(t for t in range(step + 1) if stream[t, -1] == 1)
            assert wanted[step] == stream[last, :-1].argmax()
            assert since[step] == step - last


def test_recall_counts_all_steps(runs):
    found = runs["recall"].measurements
    assert found["vanilla_error"].total == 50 * 8
    assert isinstance(found["nfg_error"], Proportion)
    assert found["nfg_accuracy"].x.tolist() == [0, 1, 2]


# counts and identities


def test_counts_and_identities(runs):
    found = {name: m.value for name, m in runs["cells"].measurements.items() if isinstance(m, Exact)}
    n, m = 12, 11
    assert found["vanilla_parameters"] == found["formula"] == 4 * (n * m + n * n + n) + 3 * n
    assert found["vanilla_parameters"] - found["cifg_parameters"] == n * m + n * n + n + n
    assert found["gate_recurrences"] == 9
    for name in ("gates_out_of_bounds", "cells_not_kept", "coupled_gates_off_one", "gates_off_their_peephole"):
        assert found[name] == 0
    for name in ("states_not_kept", "states_not_replaced", "output_gates_that_see_the_old_cell"):
        assert found[name] == 0


def test_identities_would_notice_the_old_cell(monkeypatch):
    """A gate_activity whose cells lag by a step turns the counts."""
    true = odyssey.gate_activity

    def lagging(lstm, x):
        (found,) = true(lstm, x)
        return [found | {"cell": found["cell"].roll(1, 0)}]

    class Source:
        def generator(self, name):
            return torch.Generator().manual_seed(0)

    setup = odyssey.Cells(steps=5)
    with torch.no_grad():
        assert odyssey.peephole_times(setup, Source())["gates_off_their_peephole"] == Exact(0)
        monkeypatch.setattr(odyssey, "gate_activity", lagging)
        assert odyssey.peephole_times(setup, Source())["gates_off_their_peephole"].value > 0


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"fANOVA is Optuna's.*pip install 'claimwise\[hpo\]'"):
        odyssey.optuna_importances(np.zeros((2, 4)), np.zeros(2), 4, 0)


# experiments and figures


def test_every_measurement_that_a_claim_reads_is_returned(reads_what_is_returned, runs):
    reads_what_is_returned(paper, runs)


def test_coordinates_that_claims_read_are_in_the_plans():
    assert set(odyssey.noises.plans["small"].setup.deviations) >= {0.0, 0.2, 0.5, 1.0}


def test_the_same_seed_gives_the_same_numbers(runs, tmp_path):
    again = execute(paper.experiments["longer"], SETUPS["longer"], 0, Workspace(tmp_path), Hardware())
    assert again.measurements["nll"] == runs["longer"].measurements["nll"]


def test_figures_are_drawn_from_what_is_stored(runs):
    results = {paper.experiments[name]: Stored.of(paper.experiments[name], [run]) for name, run in runs.items()}
    for spec in paper.figures:
        drawn = spec.draw(results)
        assert drawn.get_size_inches()[0] <= 6.6
        drawn.canvas.draw()

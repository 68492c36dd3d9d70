import itertools

import numpy as np
import pytest
import torch

from claimwise.causal import SCM, Bernoulli, Variable, controlled_direct_effect, decompose, natural_direct_effect
from claimwise.data import Dataset
from claimwise.lab.figures import figure as themed_figure
from claimwise.lab.run import FinishedRun, Workspace, execute
from claimwise.lab.stored import Stored
from claimwise.papers import mediation as module
from claimwise.papers.mediation import paper


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FinishedRun]:
    """Seed 0 of every quick experiment."""
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    return {
        name: execute(experiment, experiment.plans["quick"].setup, 0, workspace)
        for name, experiment in paper.experiments_at("quick").items()
    }


def value(finished, experiment, measurement):
    return finished[experiment].measurements[measurement].value


# the models are what they say -----------------------------------------------------------------------------------------


def test_every_kind_of_unit_is_there_once():
    model = module.every_kind_of_unit(3, 2)
    units = model.enumerate()
    assert units.count == 3**2 * 2**6
    worlds = [model.solve(units, {"X": x})["Z"] for x in (0, 1)]
    worlds += [model.solve(units, {"X": x, "Z": z})["Y"] for x in (0, 1) for z in range(3)]
    answers = torch.stack(worlds, 1)  # what each unit says to every question
    assert len(answers.unique(dim=0)) == units.count
    assert units.weights.sum() == pytest.approx(1)


def test_independent_kinds_have_independent_answers():
    weights = module.independent_kinds((5,), torch.Generator().manual_seed(0))
    answers = torch.tensor(list(itertools.product((0, 1), repeat=6))).double()
    assert torch.allclose(weights.sum(1), torch.ones(5).double())
    ones = weights @ answers  # P(answer = 1)
    pairs = torch.einsum("mk,ki,kj->mij", weights, answers, answers)
    for i, j in itertools.combinations(range(6), 2):
        assert torch.allclose(pairs[:, i, j], ones[:, i] * ones[:, j], atol=1e-12)


@pytest.mark.parametrize("arrows", [[], [("W", "Z")], [("W", "X"), ("W", "Z"), ("W", "Y")]])
@pytest.mark.parametrize("hidden", [[], [("Z", "Y")], [("W", "X"), ("X", "Y")]])
def test_random_models_have_the_graph_asked_for(arrows, hidden):
    model = module.random_model_on(arrows, hidden, torch.Generator().manual_seed(1))
    assert model.graph.edges == {("X", "Z"), ("X", "Y"), ("Z", "Y"), *arrows}
    assert model.graph.confounded == {frozenset(pair) for pair in hidden}
    units = model.enumerate()
    for name in "WXZY":  # positivity
        assert 0 < float(units.mean(model.solve(units)[name])) < 1


def test_what_experiments_measure_is_counted_unit_by_unit():
    model = module.random_model_on([("W", "Z")], [("Z", "Y")], torch.Generator().manual_seed(2))
    units = model.enumerate()
    outcome, mediator, chance = module.measured_by_experiment(model, units, ("W",))
    w = model.solve(units)["W"]
    for v in (0, 1):
        at = [i for i in range(units.count) if int(w[i]) == v]
        p = sum(float(units.weights[i]) for i in at)
        assert float(chance[v]) == pytest.approx(p)
        for x, z in itertools.product((0, 1), repeat=2):
            y = model.solve(units, {"X": x, "Z": z})["Y"]
            z_x = model.solve(units, {"X": x})["Z"]
            mean = sum(float(units.weights[i]) * int(y[i]) for i in at) / p
            share = sum(float(units.weights[i]) for i in at if int(z_x[i]) == z) / p
            assert float(outcome[x, v, z]) == pytest.approx(mean)
            assert float(mediator[x, v, z]) == pytest.approx(share)


# the checks would see a violation -------------------------------------------------------------------------------------


def test_isolating_contrasts_are_found_where_they_exist():
    """TE - CDE is the indirect effect of units whose direct effect is the same at both mediators."""
    model = module.every_kind_of_unit(2, 2)
    units = module.averages(model, model.enumerate())
    additive = (units["controlled_0"] == units["controlled_1"]).double()
    family = (additive / additive.sum())[None]
    assert module._isolating(units, family, torch.tensor([0.3]).double()) == 1
    anything = module.simplex((20, 64), torch.Generator().manual_seed(0))
    assert module._isolating(units, anything, torch.full((20,), 0.3).double()) == 0


def test_violations_are_counted_once_each():
    small, large = torch.tensor([0.0, 1e-15, 1e-15]), torch.tensor([0.0, 1e-3, 0.0])
    assert module.beyond_rounding(small, large, -large).value == 1


def test_paths_written_out_differ_from_the_original_model():
    """The model with both worlds is a different program: with no arrow active, nothing reaches Y."""
    functions = {
        "X": lambda *_: 0,
        "W": lambda x, *_: x,
        "Z": lambda x, w, *_: w,
        "Y": lambda x, w, z, *_: x + 2 * w + 4 * z,
    }
    reads = dict.fromkeys(module.KITE, ("shared",))
    sources = {"shared": Bernoulli(0.5)}
    for active, expected in [((), 0), ((("X", "Y"),), 1), ((("X", "W"), ("W", "Y")), 2), (tuple(module.ARROWS), 7)]:
        model = module._both_worlds(functions, reads, sources, active)
        worlds = model.solve(model.enumerate(), {"X": 1, "X*": 0})
        assert (worlds["Y"] - worlds["Y*"]).tolist() == [expected] * 2


# the figures that are known -------------------------------------------------------------------------------------------


def test_identities_hold_without_exception(finished):
    for experiment, measurement in [
        ("kinds", "violations"),
        ("random_models", "violations"),
        ("random_models", "isolating_contrasts"),
        ("random_models", "corollary_violations"),
        ("interaction", "linear_gaps"),
        ("interaction", "linear_violations"),
        ("interaction", "gap_violations"),
        ("one_background", "violations"),
        ("laboratories", "experiments_differ_by"),
        ("graphs", "unsound"),
        ("observed", "violations"),
        ("paths", "violations"),
        ("paths", "special_violations"),
        ("paths", "leaks"),
        ("paths", "linear_violations"),
    ]:
        assert value(finished, experiment, measurement) == 0, (experiment, measurement)


def test_random_models_agree_with_their_closed_forms(finished):
    """Of six uniform probabilities: E|CDE_1 - CDE_0| = 7/15, and the mean gap is that times E|p_1 - p_0| = 1/3."""
    measured = finished["random_models"].measurements
    for name, expected in [("controlled_spread", 7 / 15), ("gap", 7 / 45)]:
        values = measured[name].values
        assert abs(values.mean() - expected) < 4 * values.std() / len(values) ** 0.5


def test_the_gate(finished):
    expected = {"total": 1, "direct": 0, "indirect": 0, "reverse_indirect": -1, "controlled_0": 0, "controlled_1": 1}
    assert {name: value(finished, "gate", name) for name in expected} == expected


def test_generated_tables_come_with_the_truth_of_our_effects(finished):
    """The data generator enumerates its truth by itself; the same model in our library must give the same effects."""
    treatment, mediator = (0.3, 0.6), ((0.2, 0.4), (0.6, 0.8))
    outcome = (((0.1, 0.3), (0.4, 0.5)), ((0.3, 0.4), (0.8, 0.9)))
    sources = {f"t{c}": Bernoulli(treatment[c]) for c in (0, 1)}
    sources |= {f"m{t}{c}": Bernoulli(mediator[t][c]) for t in (0, 1) for c in (0, 1)}
    sources |= {f"y{t}{m}{c}": Bernoulli(outcome[t][m][c]) for t in (0, 1) for m in (0, 1) for c in (0, 1)}

    def chosen(count):
        def function(*values):
            inputs, coins = values[:count], torch.stack(values[count:], 1)
            index = sum(v.long() * 2 ** (count - 1 - i) for i, v in enumerate(inputs))
            return coins.gather(1, index[:, None])[:, 0]

        return function

    model = SCM(
        {
            "C": Variable(lambda u: u, noise=Bernoulli(0.4)),
            "T": Variable(chosen(1), ("C",), tuple(n for n in sources if n[0] == "t")),
            "M": Variable(chosen(2), ("T", "C"), tuple(n for n in sources if n[0] == "m")),
            "Y": Variable(chosen(3), ("T", "M", "C"), tuple(n for n in sources if n[0] == "y")),
        },
        noise=sources,
    )
    units = model.enumerate()
    parts = decompose(model, "T", "Y", x=1, reference=0, units=units)
    assert float(parts.total) == pytest.approx(value(finished, "sampling", "true_total"), abs=1e-12)
    assert float(parts.natural_direct) == pytest.approx(value(finished, "sampling", "true_direct"), abs=1e-12)
    assert float(parts.natural_indirect) == pytest.approx(value(finished, "sampling", "true_indirect"), abs=1e-12)
    for m in (0, 1):
        held = controlled_direct_effect(model, "T", "Y", x=1, reference=0, mediators={"M": m}, units=units)
        assert float(held) == pytest.approx(value(finished, "sampling", f"true_controlled_{m}"), abs=1e-12)


def test_the_laboratories_differ_only_across_worlds(finished):
    assert [value(finished, "laboratories", f"direct_{n}") for n in ("equal", "independent", "opposite")] == [0, 0.5, 1]
    assert [value(finished, "laboratories", f"formula_{n}") for n in ("equal", "independent", "opposite")] == [0.5] * 3


def test_one_background_at_the_closed_forms(finished):
    measured = finished["one_background"].measurements
    for name, expected in [("own", 0.8), ("afresh", 0.0)]:
        values = measured[name].values
        assert abs(values.mean() - expected) < 4 * values.std() / len(values) ** 0.5


# tables ---------------------------------------------------------------------------------------------------------------


class Fake:
    """A run on a table made up here."""

    seed = 0

    def __init__(self, table):
        self.table = table

    def data(self, name):
        return Dataset(name, {"all": self.table})

    def generator(self, name):
        return torch.Generator().manual_seed(0)


def test_effects_in_a_table():
    rng = np.random.default_rng(0)
    treat = rng.integers(0, 2, 400)
    seek = treat + rng.normal(size=400)
    sex = rng.integers(0, 2, 400)
    table = {"treat": treat, "job_seek": seek, "job_dich": (seek > 0.5).astype(int), "sex": sex,
             "depress2": 1.0 * treat - 0.5 * seek + 0.1 * rng.normal(size=400)}  # fmt: skip
    setup = module.Table(covariates=("sex",), draws=200)
    measured = module.effects_in_table(Fake(table), setup)
    effects = measured["effects"]
    low, high = effects.values[effects.rows.index("natural_direct, linear")][1:]
    assert low < 1.0 < high
    assert measured["violations"].value == 0
    assert len(measured["total_draws"].values) == 200


# claims and figures ---------------------------------------------------------------------------------------------------


def test_identities_are_exact_and_our_own_models_stand_in():
    for claim in paper.claims.values():
        if claim.not_tested is None:
            about_size = any(">" in str(part) and "0.02" in str(part) for part in claim.criteria["small"].parts())
            if about_size and claim.id != "parts-do-not-add-in-general":
                assert set(claim.fidelity.values()) == {"stand-in"}, claim.id


def test_every_figure_is_drawn(finished):
    results = {
        experiment: Stored.of(experiment, [finished[name]])
        for name, experiment in paper.experiments_at("quick").items()
    }
    drawn = [spec for spec in paper.figures if all(e in results for e in spec.experiments)]
    assert len(drawn) >= 5
    empty, _ = themed_figure()
    for spec in drawn:
        fig = spec.draw(results)
        assert type(fig) is type(empty)
        for text in fig.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text()):
            assert text.get_fontsize() >= 9, (spec.title, text.get_text())


def test_the_sheet_s_largest_error_is_rounding(finished):
    assert value(finished, "random_models", "largest_violation") < 1e-14
    unit = module.every_kind_of_unit(2, 2)
    assert float(natural_direct_effect(unit, "X", "Y", x=1, reference=0, units=unit.enumerate())) == 0  # by symmetry

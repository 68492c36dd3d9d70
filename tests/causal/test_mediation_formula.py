import itertools

import numpy as np
import pytest
import torch

from claimwise.causal import SCM, Bernoulli, Finite, Normal, Variable, decompose, mediation_formula

EFFECTS = ("total", "natural_direct", "natural_indirect", "reverse_natural_direct", "reverse_natural_indirect")


def linear_table(rows, generator, gamma=0.7):
    """W -> X, Z, Y; X -> Z -> Y; X -> Y, with interaction gamma; effects from x* = 0 to x = 1 in closed form."""
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    w = rng.normal(size=rows)
    x = (rng.random(rows) < 1 / (1 + np.exp(-w))).astype(float)
    z = 0.5 + 1.2 * x + 0.8 * w + rng.normal(size=rows)
    y = -1 + 0.6 * x + 0.9 * z + gamma * x * z + 0.4 * w + rng.normal(size=rows)
    truth = {"natural_direct": 0.6 + gamma * 0.5, "natural_indirect": 0.9 * 1.2}
    truth["total"] = truth["natural_direct"] + (0.9 + gamma) * 1.2
    return {"x": x, "z": z, "y": y, "w": w}, truth


def discrete_table(rows, seed):
    rng = np.random.default_rng(seed)
    w, v = rng.integers(0, 2, rows), rng.choice(["low", "mid", "high"], rows)
    x = (rng.random(rows) < 0.3 + 0.4 * w).astype(int)
    z = (rng.random(rows) < 0.2 + 0.3 * x + 0.2 * w).astype(int) + (rng.random(rows) < 0.3 + 0.2 * (v == "mid"))
    y = x * z + w + (v == "high") + rng.normal(size=rows)
    return {"x": x, "z": z, "y": y, "w": w, "v": v}


def discrete_twin(table, x, reference, covariates):
    """The formula in explicit loops over rows, covariate states and mediator values."""
    rows = len(table["x"])
    states = [tuple(table[name][i] for name in covariates) for i in range(rows)]

    def select(**conditions):
        w = conditions.pop("w")
        return [
            i
            for i in range(rows)
            if states[i] == w and all(table[name][i] == value for name, value in conditions.items())
        ]

    def world(x_outcome, x_mediator):
        total = 0.0
        for w in set(states):
            arm = select(x=x_mediator, w=w)
            for z in {table["z"][i] for i in arm}:
                chance = len(select(x=x_mediator, z=z, w=w)) / len(arm)
                cell = select(x=x_outcome, z=z, w=w)
                mean = sum(table["y"][i] for i in cell) / len(cell)
                total += mean * chance * states.count(w) / rows
        return total

    old, new = world(reference, reference), world(x, x)
    direct, indirect = world(x, reference), world(reference, x)
    return [new - old, direct - old, indirect - old, indirect - new, direct - new]


@pytest.mark.parametrize("covariates", [(), ("w",), ("w", "v")])
def test_discrete_equals_the_explicit_loops(covariates):
    table = discrete_table(600, 1)
    found = mediation_formula(
        table, "x", "y", mediators="z", covariates=covariates, x=1, reference=0, model="discrete", draws=0
    )
    assert [getattr(found, name).value for name in EFFECTS] == pytest.approx(
        discrete_twin(table, 1, 0, covariates), abs=1e-12
    )


def test_discrete_resamples_equal_re_estimation():
    table = discrete_table(300, 2)
    found = mediation_formula(
        table, "x", "y", mediators="z", covariates="w", x=1, reference=0, model="discrete", draws=6,
        generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    indices = torch.randint(300, (6, 300), generator=torch.Generator().manual_seed(5), dtype=torch.int32).numpy()
    for i, index in enumerate(indices):
        expected = discrete_twin({name: column[index] for name, column in table.items()}, 1, 0, ("w",))
        assert [getattr(found, name).draws[i] for name in EFFECTS] == pytest.approx(expected, abs=1e-10)


def linear_twin(table, covariates, interaction, x=1.0, reference=0.0):
    """Ordinary least squares on raw columns; predictions averaged over rows."""
    one = np.ones(len(table["x"]))
    w = [table[name] for name in covariates]
    beta = np.linalg.lstsq(np.stack([one, table["x"], *w], 1), table["z"], rcond=None)[0]

    def design(x_column, z_column):
        return np.stack([one, x_column, z_column, *([x_column * z_column] if interaction else []), *w], 1)

    theta = np.linalg.lstsq(design(table["x"], table["z"]), table["y"], rcond=None)[0]

    def world(x_outcome, x_mediator):
        z = np.stack([one, one * x_mediator, *w], 1) @ beta
        return (design(one * x_outcome, z) @ theta).mean()

    old, new = world(reference, reference), world(x, x)
    direct, indirect = world(x, reference), world(reference, x)
    return [new - old, direct - old, indirect - old, indirect - new, direct - new]


@pytest.mark.parametrize("interaction", [True, False])
@pytest.mark.parametrize("covariates", [(), ("w",)])
def test_linear_equals_plain_regressions_and_their_resamples(covariates, interaction):
    table, _ = linear_table(200, torch.Generator().manual_seed(1))
    table = {**table, "z": 1e3 + 50 * table["z"], "w": table["w"] / 1e3 - 7}  # awkward units
    found = mediation_formula(
        table, "x", "y", mediators="z", covariates=covariates, x=0.8, reference=0.1, model="linear",
        interaction=interaction, draws=5, generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    expected = linear_twin(table, covariates, interaction, 0.8, 0.1)
    indices = torch.randint(200, (5, 200), generator=torch.Generator().manual_seed(5), dtype=torch.int32)
    assert [getattr(found, name).value for name in EFFECTS] == pytest.approx(expected, rel=1e-8)
    for i, index in enumerate(indices.numpy()):
        resample = {name: column[index] for name, column in table.items()}
        expected = linear_twin(resample, covariates, interaction, 0.8, 0.1)
        assert [getattr(found, name).draws[i] for name in EFFECTS] == pytest.approx(expected, rel=1e-8)


def test_several_mediators_jointly():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 4000).astype(float)
    a = x + rng.normal(size=4000)
    b = 2 * x + a + rng.normal(size=4000)  # X changes B directly (2) and through A (1)
    y = 0.5 * x + 3 * a + 4 * b + 2 * x * b
    table = {"x": x, "a": a, "b": b, "y": y}
    found = mediation_formula(
        table, "x", "y", mediators=["a", "b"], x=1, reference=0, model="linear", draws=0, controlled_at=[(0.0, 10.0)]
    )
    effect_on_a = a[x == 1].mean() - a[x == 0].mean()
    effect_on_b = b[x == 1].mean() - b[x == 0].mean()
    assert found.natural_indirect.value == pytest.approx(3 * effect_on_a + 4 * effect_on_b, abs=1e-8)
    assert found.natural_direct.value == pytest.approx(0.5 + 2 * b[x == 0].mean(), abs=1e-8)
    assert found.controlled_direct[(0.0, 10.0)].value == pytest.approx(0.5 + 2 * 10, abs=1e-8)
    cells = {name: (column > column.mean()).astype(int) for name, column in table.items()}
    both = {**cells, "ab": 2 * cells["a"] + cells["b"]}
    ask = {"x": 1, "reference": 0, "model": "discrete", "draws": 0}
    assert mediation_formula(both, "x", "y", mediators=["a", "b"], **ask).natural_direct.value == pytest.approx(
        mediation_formula(both, "x", "y", mediators="ab", **ask).natural_direct.value, abs=1e-12
    )


@pytest.mark.parametrize("model", ["discrete", "linear"])
def test_theorem_3_holds_in_every_resample(model):
    found = mediation_formula(
        discrete_table(500, 3), "x", "y", mediators="z", covariates="w", x=1, reference=0, model=model, draws=50,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    gap = found.total.draws - found.natural_direct.draws + found.reverse_natural_indirect.draws
    other = found.total.draws - found.natural_indirect.draws + found.reverse_natural_direct.draws
    assert max(np.abs(gap).max(), np.abs(other).max()) < 1e-12


def test_controlled_effects_average_to_the_natural_one():
    """Corollary 1, without covariates: NDE = sum over z of CDE_z P(z | x*)."""
    table = discrete_table(800, 4)
    found = mediation_formula(
        table, "x", "y", mediators="z", x=1, reference=0, model="discrete", draws=0, controlled_at=[0, 1, 2]
    )
    share = [(table["z"][table["x"] == 0] == z).mean() for z in (0, 1, 2)]
    mean = sum(found.controlled_direct[z].value * p for z, p in zip((0, 1, 2), share, strict=True))
    assert mean == pytest.approx(found.natural_direct.value, abs=1e-12)
    assert found.controlled_direct[0].value != found.controlled_direct[2].value


def test_text_treatment_and_text_covariates():
    table = discrete_table(500, 5)
    named = {**table, "x": np.where(table["x"] == 1, "treated", "control"), "w": table["w"].astype(bool)}
    ask = {"mediators": "z", "covariates": ["w", "v"], "draws": 0}
    by_name = mediation_formula(named, "x", "y", x="treated", reference="control", model="discrete", **ask)
    by_number = mediation_formula(table, "x", "y", x=1, reference=0, model="discrete", **ask)
    assert by_name.natural_direct.value == by_number.natural_direct.value
    coded = {**table, "mid": table["v"] == "mid", "low": table["v"] == "low"}
    expected = mediation_formula(
        coded, "x", "y", mediators="z", covariates=["w", "mid", "low"], x=1, reference=0, model="linear", draws=0
    )
    found = mediation_formula(table, "x", "y", x=1, reference=0, model="linear", **ask)
    assert found.natural_direct.value == pytest.approx(expected.natural_direct.value, abs=1e-10)


def test_other_levels_of_the_treatment_count_for_the_covariates_only():
    table = discrete_table(600, 6)
    x = np.where(np.arange(600) % 5 == 0, 7, table["x"])
    found = mediation_formula(
        {**table, "x": x}, "x", "y", mediators="z", covariates="w", x=1, reference=0, model="discrete", draws=0
    )
    assert [getattr(found, name).value for name in EFFECTS] == pytest.approx(
        discrete_twin({**table, "x": x}, 1, 0, ("w",)), abs=1e-12
    )


def test_estimates_come_near_the_model_s_truth():
    """An SCM with a confounder W: the plug-in from a large sample is within 4 standard errors of the exact effects."""
    model = SCM(
        {
            "W": Variable(lambda u: u, noise=Bernoulli(0.4)),
            "X": Variable(lambda w, u: w ^ u, parents=("W",), noise=Bernoulli(0.3)),
            "Z": Variable(
                lambda w, x, u: (w + x * u + u) % 3, parents=("W", "X"), noise=Finite([0, 1, 2], [0.2, 0.3, 0.5])
            ),
            "Y": Variable(lambda w, x, z, u: x * z + w + u, parents=("W", "X", "Z"), noise=Finite([-1, 1], [0.5, 0.5])),
        }
    )
    truth = decompose(model, "X", "Y", x=1, reference=0, units=model.enumerate(), mediators="Z")
    generator = torch.Generator().manual_seed(0)
    table = model.solve(model.sample(20_000, generator=generator))
    found = mediation_formula(
        table,
        "X",
        "Y",
        mediators="Z",
        covariates="W",
        x=1,
        reference=0,
        model="discrete",
        draws=200,
        generator=generator,
    )
    for name in EFFECTS:
        estimate = getattr(found, name)
        assert abs(estimate.value - float(getattr(truth, name))) < 4 * estimate.standard_error
    confounded = mediation_formula(
        table, "X", "Y", mediators="Z", x=1, reference=0, model="discrete", draws=0, generator=generator
    )
    assert abs(confounded.total.value - float(truth.total)) > 0.1  # leaving W out is not harmless


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_intervals_cover_the_truth(interval):
    """200 samples of 150 rows: 95 % intervals hold the truth in 95 % of them, give or take 3 standard errors."""
    generator = torch.Generator().manual_seed(11)
    covered = np.zeros(3)
    repeats = 200
    for _ in range(repeats):
        table, truth = linear_table(150, generator)
        found = mediation_formula(
            table, "x", "y", mediators="z", covariates="w", x=1, reference=0, model="linear", draws=300,
            interval=interval, generator=generator,
        )  # fmt: skip
        for i, name in enumerate(truth):
            estimate = getattr(found, name)
            covered[i] += estimate.low <= truth[name] <= estimate.high
    # standard error of a share of .95 over 200 is .0154; the percentile interval itself is a little short at n = 150
    assert (covered / repeats > 0.95 - 3 * 0.0154 - 0.01).all()
    assert (covered / repeats < 0.95 + 3 * 0.0154).all()


@pytest.mark.parametrize("model", ["discrete", "linear"])
def test_statsmodels_agrees(model):
    """statsmodels' Mediation draws mediators at random around their fitted mean, afresh in each world, so that its
    point estimate has simulation error; here its mediator model has no spread, which removes both.
    """
    sm = pytest.importorskip("statsmodels.api")
    mediation = pytest.importorskip("statsmodels.stats.mediation")
    pandas = pytest.importorskip("pandas")

    class AtTheMean:
        def __init__(self, mean):
            self.mean = mean

        def rvs(self, size, rng=None):
            return self.mean

    class Certain(sm.OLS):
        def get_distribution(self, params, scale, exog=None, dist_class=None):
            return AtTheMean(exog @ params)

    class PointEstimate(mediation.Mediation):
        def _simulate_params(self, result, rng):
            return result.params

    table, _ = linear_table(400, torch.Generator().manual_seed(2))
    if model == "discrete":  # binary mediator, no covariate: least squares with interaction is the table of cell means
        table = {**table, "z": (table["z"] > 1).astype(float)}
    covariates = "" if model == "discrete" else " + w"
    frame = pandas.DataFrame(table)
    outcome = sm.OLS.from_formula("y ~ x * z" + covariates, frame)
    peer = PointEstimate(outcome, Certain.from_formula("z ~ x" + covariates, frame), "x", "z").fit(n_rep=1)
    found = mediation_formula(
        frame,
        "x",
        "y",
        mediators="z",
        covariates=() if model == "discrete" else "w",
        x=1,
        reference=0,
        model=model,
        draws=0,
    )
    assert peer.total_effect.mean() == pytest.approx(found.total.value, abs=1e-10)
    assert peer.ACME_ctrl.mean() == pytest.approx(found.natural_indirect.value, abs=1e-10)
    assert peer.ADE_ctrl.mean() == pytest.approx(found.natural_direct.value, abs=1e-10)
    assert peer.ACME_tx.mean() == pytest.approx(-found.reverse_natural_indirect.value, abs=1e-10)


TABLE, _ = linear_table(50, torch.Generator().manual_seed(0))
CELLS = {"x": [0, 0, 1, 1], "z": [0, 0, 0, 1], "y": [0.0, 1.0, 2.0, 3.0], "w": [5, 5, 5, 5]}
LINEAR = {"mediators": "z", "x": 1, "reference": 0, "model": "linear", "draws": 0}
DISCRETE = {**LINEAR, "model": "discrete"}


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (TABLE, {**LINEAR, "model": "logistic"}, "model must be 'discrete' or 'linear', got 'logistic'"),
        (
            TABLE,
            {**LINEAR, "interval": "basic", "draws": 10, "generator": torch.Generator()},
            "interval must be 'percentile' or 'bca', got 'basic'",
        ),
        (TABLE, {**LINEAR, "mediators": []}, "mediators must name at least one column"),
        (TABLE, {**LINEAR, "mediators": "y"}, "one role, got 'y' in two"),
        (TABLE, {**LINEAR, "mediators": "zz"}, "unknown variable 'zz'; did you mean 'z'"),
        (TABLE, {**LINEAR, "controlled_at": [(1.0, 2.0)]}, r"one value per mediator \(1\), got \(1.0, 2.0\)"),
        (TABLE, {**LINEAR, "x": 0}, "x and reference must differ, got 0 for both"),
        (TABLE, {**LINEAR, "x": 2}, r"within the observed range of 'x', \[0, 1\], got 2, never observed"),
        (TABLE, {**LINEAR, "x": "a"}, "must be numbers with model='linear', got 'a'"),
        (TABLE, {**LINEAR, "draws": 10}, "needs generator="),
        ({**TABLE, "x": np.ones(50)}, LINEAR, "the treatment 'x' must vary, got 1.0 in every row"),
        ({**TABLE, "z": np.ones(50)}, LINEAR, "column 'z' must vary, got 1 in every row"),
        ({**TABLE, "z": ["a"] * 50}, LINEAR, "the mediator 'z' must be numeric, got 'a'"),
        ({**TABLE, "z": TABLE["x"]}, LINEAR, "must not be collinear, got 'z', which the columns before it determine"),
        ({**TABLE, "w": ["a"] * 50}, {**LINEAR, "covariates": "w"}, "column 'w' must vary, got 'a'"),
        ({**TABLE, "w": 3 - TABLE["x"]}, {**LINEAR, "covariates": "w"}, "collinear, got 'w'"),
        ({name: column[:4] for name, column in TABLE.items()}, LINEAR, r"more rows than columns \(4\), got 4"),
        (CELLS, {**DISCRETE, "x": 2}, "must take the values compared, got 2, never observed; observed are 0, 1"),
        (CELLS, DISCRETE, r"\(positivity\), got 1 empty, the first at x = 0, z = 1; merge levels"),
        (CELLS, {**DISCRETE, "controlled_at": [9]}, "a value that 'z' take, got 9, never observed"),
        (
            {"x": [0, 1] * 4, "z": [0, 0, 1, 1, 0, 0, 0, 0], "w": [0] * 4 + [1] * 4, "y": [1.0] * 8},
            {**DISCRETE, "covariates": "w", "controlled_at": [1]},
            r"got 2 empty, the first at x = 0, w = 1, z = 1",
        ),
        ({**CELLS, "y": list("abcd")}, DISCRETE, "the outcome 'y' must be numeric, got 'a'"),
        ({**CELLS, "w": [0, 1, 0, 1]}, {**DISCRETE, "covariates": "w"}, "positivity"),
        ({**CELLS, "w": [0, 0, 1, 1]}, {**DISCRETE, "covariates": "w"}, "positivity"),
        ({name: [] for name in CELLS}, DISCRETE, "the table must have rows, got 0"),
        ({**CELLS, "y": [0.0, 1.0]}, DISCRETE, "columns must have equal lengths"),
        ({**CELLS, "y": [0.0, 1.0, float("nan"), 2.0]}, DISCRETE, "column 'y' must have no missing values"),
        ({**CELLS, "z": [0.0, 1.0, float("inf"), 2.0]}, DISCRETE, "column 'z' must be finite"),
    ],
)
def test_bad_input_is_refused(table, settings, message):
    with pytest.raises(ValueError, match=f"mediation_formula: .*{message}"):
        mediation_formula(table, "x", "y", **settings)


def test_resamples_that_lose_a_cell_are_counted():
    """One row out of 40 in a needed cell: a resample loses it with probability (39/40)^40 = .36, too often."""
    table = {"x": [0] * 20 + [1] * 20, "z": [0] * 19 + [1] + [0, 1] * 10, "y": list(range(40))}
    with pytest.raises(ValueError, match=r"mediation_formula: at most 5 % of the resamples .* merge levels"):
        mediation_formula(table, "x", "y", **{**DISCRETE, "draws": 100}, generator=torch.Generator().manual_seed(0))
    table["z"][15:] = [1] * 25
    table["z"][20:30] = [0] * 10  # five rows now: lost with probability .005
    found = mediation_formula(table, "x", "y", **{**DISCRETE, "draws": 400}, generator=torch.Generator().manual_seed(0))
    assert 0 < found.undefined_draws < 20
    assert len(found.total.draws) == 400 - found.undefined_draws


def test_the_table_is_left_alone_and_runs_repeat():
    table, _ = linear_table(60, torch.Generator().manual_seed(0))
    before = {name: column.copy() for name, column in table.items()}
    state = torch.get_rng_state()
    first, second = (
        mediation_formula(table, "x", "y", **{**LINEAR, "draws": 20}, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert np.array_equal(first.total.draws, second.total.draws)
    assert all(np.array_equal(before[name], table[name]) for name in table)
    assert torch.equal(state, torch.get_rng_state())  # the global generator is not touched


def test_continuous_model_truth_by_regression():
    """Linear SEM: TE = a + bc, NDE = a, NIE = bc, from a sample of the model itself."""
    a, b, c = 0.5, 2.0, -1.5
    model = SCM(
        {
            "X": Variable(lambda u: u, noise=Normal()),
            "Z": Variable(lambda x, u: b * x + u, parents=("X",), noise=Normal()),
            "Y": Variable(lambda x, z, u: a * x + c * z + u, parents=("X", "Z"), noise=Normal()),
        }
    )
    table = model.solve(model.sample(5000, generator=torch.Generator().manual_seed(0)))
    found = mediation_formula(
        table, "X", "Y", mediators="Z", x=1.0, reference=0.0, model="linear", draws=200,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    for name, truth in {"total": a + b * c, "natural_direct": a, "natural_indirect": b * c}.items():
        estimate = getattr(found, name)
        assert abs(estimate.value - truth) < 4 * estimate.standard_error


def test_every_pair_of_levels_of_a_treatment_with_three():
    """Total effects between levels add up: TE(0, 2) = TE(0, 1) + TE(1, 2)."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, 900)
    table = {"x": x, "z": rng.integers(0, 2, 900), "y": x**2 + rng.normal(size=900)}
    total = {
        (a, b): mediation_formula(
            table, "x", "y", mediators="z", x=b, reference=a, model="discrete", draws=0
        ).total.value
        for a, b in itertools.combinations(range(3), 2)
    }
    assert total[0, 2] == pytest.approx(total[0, 1] + total[1, 2], abs=1e-12)

import pytest
import torch

from claimwise.causal import (
    SCM,
    Bernoulli,
    CausalGraph,
    Finite,
    Variable,
    decompose,
    experimental_formula,
    identifiable,
)

MEDIATION = [("X", "Z"), ("Z", "Y"), ("X", "Y")]


@pytest.mark.parametrize(
    ("graph", "given", "expected"),
    [
        (CausalGraph(MEDIATION), (), True),
        (CausalGraph(MEDIATION, confounded=[("Z", "Y")]), (), False),
        (CausalGraph([*MEDIATION, ("W", "Z"), ("W", "Y")]), (), False),
        (CausalGraph([*MEDIATION, ("W", "Z"), ("W", "Y")]), "W", True),
        # a covariate that the treatment changes is not allowed, whatever it blocks
        (CausalGraph([*MEDIATION, ("W", "Z"), ("W", "Y"), ("X", "W")]), ["W"], False),
        # conditioning on a common effect of hidden causes opens a path
        (CausalGraph(MEDIATION, variables=["W"], confounded=[("W", "Z"), ("W", "Y")]), (), True),
        (CausalGraph(MEDIATION, variables=["W"], confounded=[("W", "Z"), ("W", "Y")]), "W", False),
        # confounding of the treatment does not matter to an experiment
        (CausalGraph(MEDIATION, confounded=[("X", "Y"), ("X", "Z")]), (), True),
    ],
)
def test_graphical_condition(graph, given, expected):
    assert identifiable(graph, "X", "Y", mediators="Z", given=given) is expected


def test_several_mediators_are_taken_jointly():
    chain = CausalGraph([("X", "A"), ("A", "B"), ("B", "Y"), ("A", "Y"), ("X", "Y")], confounded=[("A", "B")])
    assert identifiable(chain, "X", "Y", mediators=["A", "B"])
    assert not identifiable(chain, "X", "Y", mediators="B")  # A, which X changes, causes both B and Y


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"mediators": []}, "at least one variable, got none"),
        ({"mediators": "Z", "given": "Z"}, "one role, got 'Z' in two"),
        ({"mediators": "Q"}, "identifiable: unknown variable 'Q'"),
    ],
)
def test_bad_roles_are_refused(roles, message):
    with pytest.raises(ValueError, match=message):
        identifiable(CausalGraph(MEDIATION), "X", "Y", **roles)


def experiments(model, states=(0, 1)):
    """What experiments on a model with covariate W and mediator Z measure: E(Y_xz | w), P(Z_x = z | w), P(w)."""
    units = model.enumerate()
    w_values = model.solve(units)["W"]
    outcome, mediator = torch.zeros(2, 2, len(states)).double(), torch.zeros(2, 2, len(states)).double()
    chance = torch.stack([units.mean(w_values == w) for w in (0, 1)])
    for x in (0, 1):
        z_values = model.solve(units, {"X": x})["Z"]
        for w in (0, 1):
            for i, z in enumerate(states):
                at_w = (w_values == w).double()
                outcome[x, w, i] = units.mean(model.solve(units, {"X": x, "Z": z})["Y"] * at_w) / chance[w]
                mediator[x, w, i] = units.mean((z_values == z) * at_w) / chance[w]
    return outcome, mediator, chance


def random_model(seed, shared):
    """Binary W -> {X, Z, Y}, X -> Z -> Y, X -> Y; Z and Y read one four-valued source when ``shared``."""
    generator = torch.Generator().manual_seed(seed)
    tables = [torch.randint(2, shape, generator=generator) for shape in ((2, 2, 4), (2, 2, 2, 4))]
    noise = Finite([0, 1, 2, 3], torch.rand(4, generator=generator).softmax(0))
    return SCM(
        {
            "W": Variable(lambda u: u, noise=Bernoulli(0.3)),
            "X": Variable(lambda w, u: w ^ u, parents=("W",), noise=Bernoulli(0.4)),
            "Z": Variable(lambda x, w, u: tables[0][x, w, u], parents=("X", "W"), noise="E" if shared else noise),
            "Y": Variable(
                lambda x, w, z, u: tables[1][x, w, z, u], parents=("X", "W", "Z"), noise="E" if shared else noise
            ),
        },
        noise={"E": noise} if shared else None,
    )


@pytest.mark.parametrize("seed", range(20))
def test_formula_equals_the_natural_effects_where_the_condition_holds(seed):
    model = random_model(seed, shared=False)
    assert identifiable(model.graph, "X", "Y", mediators="Z", given="W")
    truth = decompose(model, "X", "Y", x=1, reference=0, units=model.enumerate(), mediators="Z")
    found = experimental_formula(*experiments(model))
    for name in ("total", "natural_direct", "natural_indirect", "reverse_natural_direct", "reverse_natural_indirect"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(truth, name)), abs=1e-12)


def test_formula_is_wrong_where_noise_is_shared():
    errors = []
    for seed in range(20):
        model = random_model(seed, shared=True)
        assert not identifiable(model.graph, "X", "Y", mediators="Z", given="W")
        truth = decompose(model, "X", "Y", x=1, reference=0, units=model.enumerate(), mediators="Z")
        errors.append(
            abs(float(experimental_formula(*experiments(model)).natural_direct) - float(truth.natural_direct))
        )
    assert max(errors) > 0.05


def test_equals_the_explicit_sum_and_keeps_batches():
    generator = torch.Generator().manual_seed(0)
    outcome = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    mediator = torch.rand(3, 2, 4, 5, generator=generator, dtype=torch.float64).softmax(-1)
    covariates = torch.rand(3, 4, generator=generator, dtype=torch.float64).softmax(-1)
    found = experimental_formula(outcome, mediator, covariates)
    for b in range(3):
        direct = indirect = 0.0
        for w in range(4):
            for z in range(5):
                gain = outcome[b, 1, w, z] - outcome[b, 0, w, z]
                direct += gain * mediator[b, 0, w, z] * covariates[b, w]
                indirect += outcome[b, 0, w, z] * (mediator[b, 1, w, z] - mediator[b, 0, w, z]) * covariates[b, w]
        assert float(found.natural_direct[b]) == pytest.approx(float(direct), abs=1e-12)
        assert float(found.natural_indirect[b]) == pytest.approx(float(indirect), abs=1e-12)


def test_cells_that_nobody_reaches_may_be_unknown():
    outcome = torch.tensor([[[1.0, float("nan")]], [[2.0, 5.0]]])
    mediator = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert float(experimental_formula(outcome, mediator, torch.ones(1)).natural_direct) == 1.0
    needed = torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])
    assert experimental_formula(outcome, needed, torch.ones(1)).natural_indirect.isnan()


def test_probabilities_are_checked():
    outcome = torch.zeros(2, 1, 2)
    half = torch.full((2, 1, 2), 0.5)
    with pytest.raises(ValueError, match="mediator must be probabilities"):
        experimental_formula(outcome, 2 * half, torch.ones(1))
    with pytest.raises(ValueError, match="covariates must be probabilities"):
        experimental_formula(outcome, half, torch.full((1,), 0.5))
    with pytest.raises(ValueError, match="negative entry"):
        experimental_formula(outcome, torch.tensor([[[1.5, -0.5]], [[0.5, 0.5]]]), torch.ones(1))

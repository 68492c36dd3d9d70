import copy

import pytest
import torch

from claimwise.causal import SCM, Bernoulli, CausalGraph, Counterfactual, Finite, Normal, Variable
from claimwise.causal import natural_direct_effect as nde


@pytest.mark.parametrize("seed", range(5))
def test_enumeration_is_every_state_once_with_its_probability(binary_model, seed):
    twin = binary_model(seed)
    units = twin.model.enumerate()
    assert units.count == 2 ** len(twin.chances)
    assert units.weights.sum() == pytest.approx(1, abs=1e-12)
    for i in range(units.count):
        u = {name: int(units.noise[name][i]) for name in twin.chances}
        p = torch.tensor([twin.chances[name] if bit else 1 - twin.chances[name] for name, bit in u.items()])
        assert float(units.weights[i]) == pytest.approx(float(p.double().prod()), rel=1e-6)
    states = torch.stack([units.noise[name] for name in twin.chances], 1)
    assert len(states.unique(dim=0)) == units.count


@pytest.mark.parametrize("seed", range(8))
def test_worlds_equal_the_recursive_twin_unit_by_unit(binary_model, seed):
    twin = binary_model(seed)
    units = twin.model.enumerate()
    nested = twin.model.evaluate(
        Counterfactual("Y", {"X": 1, "Z": Counterfactual("Z", {"X": 0, "W": Counterfactual("W", {"X": 1})})}), units
    )
    worlds = {do: twin.model.solve(units, dict(do)) for do in [(), (("X", 0),), (("Z", 1), ("X", 1))]}
    for i in range(units.count):
        u = {name: int(units.noise[name][i]) for name in twin.chances}
        for do, values in worlds.items():
            for name in "XWZY":
                assert int(values[name][i]) == twin.value(name, u, dict(do))
        w = twin.value("W", u, {"X": 1})
        z = twin.value("Z", u, {"X": 0, "W": w})
        assert int(nested[i]) == twin.value("Y", u, {"X": 1, "Z": z})


def test_graph_shows_shared_noise():
    model = SCM(
        {
            "Y": Variable(lambda z, e: z + e[:, 1], parents=("Z",), noise="E"),
            "Z": Variable(lambda x, e: x + e[:, 0], parents=("X",), noise="E"),
            "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
        },
        noise={"E": Normal(covariance=[[1.0, 0.5], [0.5, 1.0]])},
    )
    assert model.graph.edges == {("X", "Z"), ("Z", "Y")}
    assert model.graph.confounded == {frozenset({"Y", "Z"})}
    assert not model.markovian
    values = model.solve(model.sample(50_000, generator=torch.Generator().manual_seed(0)))
    joint = torch.stack([values["Z"] - values["X"], values["Y"] - values["Z"]])
    assert joint.corrcoef()[0, 1] == pytest.approx(0.5, abs=0.02)


def test_one_draw_drives_every_world():
    """Z does not feel the treatment, so it is the same in both worlds, and no unit has an effect."""
    model = SCM(
        {
            "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
            "Z": Variable(lambda x, u: 0 * x + u, parents=("X",), noise=Normal()),
            "Y": Variable(lambda z: z**3, parents=("Z",)),
        }
    )
    units = model.sample(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.solve(units, {"X": 0})["Y"], model.solve(units, {"X": 1})["Y"])


def test_pairs_and_own_values_per_unit():
    model = SCM(
        [("Y", Variable(lambda x: 2 * x, parents=("X",))), ("X", Variable(lambda u: u, noise=Finite([3], [1])))]
    )
    assert model.order == ("X", "Y")
    units = model.sample(4, generator=torch.Generator())
    assert model.solve(units, {"X": torch.arange(4)})["Y"].tolist() == [0, 2, 4, 6]
    assert model.solve(units)["Y"].tolist() == [6] * 4


def test_effects_are_differentiable_in_the_model_s_parameters():
    slope = torch.tensor([2.0, 5.0], dtype=torch.float64, requires_grad=True)
    model = SCM(
        {
            "X": Variable(lambda: 0.0),
            "Z": Variable(lambda x, u: x + u, parents=("X",), noise=Normal()),
            "Y": Variable(lambda x, z: slope[0] * x + slope[1] * x * z, parents=("X", "Z")),
        }
    )
    units = model.sample(1000, generator=torch.Generator().manual_seed(0))
    nde(model, "X", "Y", x=1.0, reference=0.0, units=units).mean.backward()
    assert slope.grad.tolist() == pytest.approx([1.0, float(units.noise["U_Z"].mean())])
    assert torch.autograd.gradcheck(
        lambda s: (
            nde(
                SCM({"X": Variable(lambda: 0.0), "Y": Variable(lambda x: torch.sin(s[0] * x) + s[1], parents=("X",))}),
                "X",
                "Y",
                x=0.7,
                reference=0.1,
                units=SCM({"X": Variable(lambda: 0.0)}).enumerate(),
            ).mean
        ),
        (slope.detach().requires_grad_(),),
    )


def test_a_model_can_be_copied(and_gate):
    twin = copy.deepcopy(and_gate)
    assert torch.equal(twin.solve(twin.enumerate())["Y"], and_gate.solve(and_gate.enumerate())["Y"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_worlds_on_the_gpu_equal_those_on_the_cpu(and_gate):
    there, here = and_gate.enumerate(device="cuda"), and_gate.enumerate()
    for do in ({}, {"X": 1}, {"Z": 0}):
        assert and_gate.solve(there, do)["Y"].device.type == "cuda"
        assert torch.equal(and_gate.solve(there, do)["Y"].cpu(), and_gate.solve(here, do)["Y"])


COPY = Variable(lambda a: a, parents=("A",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCM({}), "at least one variable, got none"),
        (lambda: SCM({"A": Variable(lambda b: b, parents=("B",)), "B": COPY}), "cycle, got A -> B -> A"),
        (lambda: SCM({"B": COPY}), "a parent of 'B': unknown variable 'A'"),
        (lambda: SCM([("A", Variable(lambda: 0)), ("A", Variable(lambda: 1))]), "used once, got 'A' twice"),
        (lambda: SCM({"A": Variable(lambda u: u, noise="A")}, {"A": Bernoulli(0.5)}), "used once, got 'A' twice"),
        (
            lambda: SCM({"A": Variable(lambda: 0), "B": Variable(lambda a, b: a, parents=("A", "A"))}),
            "'A' twice for 'B'",
        ),
        (lambda: SCM({"A": Variable(lambda u: u, noise="U")}), "the noise of 'A': unknown variable 'U'"),
        (lambda: SCM({"A": Variable(lambda: 0)}, {"U": Bernoulli(0.5)}), "got 'U' unread"),
        (
            lambda: SCM({"A": Variable(lambda u: u, noise=Bernoulli(0.5)), "U_A": Variable(lambda: 0)}),
            "'U_A' is the own noise of 'A'",
        ),
    ],
)
def test_bad_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.solve(m.enumerate(), {"x": 1}), "do: unknown variable 'x'"),
        (lambda m: m.evaluate(Counterfactual("Q"), m.enumerate()), "unknown variable 'Q'; known are X, Z, Y"),
        (lambda m: m.solve(m.enumerate(), {"X": torch.zeros(5)}), r"do\(X\) must have one row for each of the 2 units"),
        (lambda m: m.solve(m.enumerate(), {"X": float("nan")}), r"do\(X\) must be finite, got nan"),
        (lambda m: m.enumerate(limit=1), "at most 1 states .* got 2; raise limit or use sample"),
        (lambda m: m.sample(0, generator=torch.Generator()), "draws must be >= 1, got 0"),
    ],
)
def test_bad_questions_are_refused(and_gate, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(and_gate)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda u: u / 0.0, "the function of 'A' must be finite"),
        (lambda u: u[:1], "the function of 'A' must have one row for each of the 2 units"),
        (lambda u: "high", "the function of 'A' must be a number or a tensor, got str"),
    ],
)
def test_bad_functions_are_refused(function, message):
    model = SCM({"A": Variable(function, noise=Bernoulli(0.5))})
    with pytest.raises(ValueError, match=message):
        model.solve(model.enumerate())


def test_continuous_noise_cannot_be_enumerated():
    model = SCM({"A": Variable(lambda u: u, noise=Normal())})
    with pytest.raises(ValueError, match=r"must be Finite, got U_A of type Normal; use sample"):
        model.enumerate()


def test_graph_of_a_markovian_model(and_gate):
    assert and_gate.markovian
    assert isinstance(and_gate.graph, CausalGraph)
    assert not and_gate.graph.confounded

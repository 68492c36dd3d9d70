"""Mediation against statsmodels, d-separation against networkx, enumeration against a loop; cost by number of states.

    python benchmarks/causal.py

statsmodels' `Mediation` differs from ours in three ways that its figures show: it draws mediators at random around
their fitted mean (afresh in each world, so its point estimate carries simulation error), it resamples the two
regressions independently of each other, and it refits both by a general least-squares routine for every resample. With
a mediator model without spread and no resampling it must equal ours to 1e-9, which is asserted first.
"""

import itertools
import json
import random

import networkx
import numpy as np
import pandas
import statsmodels.api as sm
import torch
from statsmodels.stats.mediation import Mediation
from torch.utils import benchmark

from claimwise.causal import SCM, Bernoulli, CausalGraph, Variable, decompose, mediation_formula
from timing import compare, max_difference, write_table


def observations(rows: int) -> dict[str, np.ndarray]:
    """W -> Z, Y; X -> Z -> Y; X -> Y, all linear, X randomised."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=rows)
    x = (rng.random(rows) < 0.5).astype(float)
    z = 0.5 + 1.2 * x + 0.8 * w + rng.normal(size=rows)
    y = 0.6 * x + 0.9 * z + 0.4 * w + rng.normal(size=rows)
    return {"x": x, "z": z, "y": y, "w": w}


def ours(table: dict[str, np.ndarray], draws: int) -> list[float]:
    """Direct, indirect and total effect: means over resamples, or the estimate itself without resamples."""
    found = mediation_formula(
        table, "x", "y", mediators="z", covariates="w", x=1, reference=0, model="linear", interaction=False,
        draws=draws, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    effects = (found.natural_direct, found.natural_indirect, found.total)
    return [float(effect.draws.mean()) if draws else effect.value for effect in effects]


def statsmodels_by_arrays(table: dict[str, np.ndarray], draws: int) -> list[float]:
    one = np.ones(len(table["x"]))
    outcome = sm.OLS(table["y"], np.stack([one, table["x"], table["z"], table["w"]], 1))
    mediator = sm.OLS(table["z"], np.stack([one, table["x"], table["w"]], 1))
    fitted = Mediation(outcome, mediator, (1, 1), 2).fit("bootstrap", n_rep=draws, rng=0)
    return [float(e.mean()) for e in (fitted.ADE_ctrl, fitted.ACME_ctrl, fitted.total_effect)]


def statsmodels_by_formula(table: dict[str, np.ndarray], draws: int) -> list[float]:
    frame = pandas.DataFrame(table)
    models = sm.OLS.from_formula("y ~ x + z + w", frame), sm.OLS.from_formula("z ~ x + w", frame)
    fitted = Mediation(*models, "x", "z").fit("bootstrap", n_rep=draws, rng=0)
    return [float(e.mean()) for e in (fitted.ADE_ctrl, fitted.ACME_ctrl, fitted.total_effect)]


class _AtTheMean:
    def __init__(self, mean: np.ndarray) -> None:
        self.mean = mean

    def rvs(self, size: int, rng: object = None) -> np.ndarray:
        return self.mean


class _Certain(sm.OLS):
    def get_distribution(self, params, scale, exog=None, dist_class=None):
        return _AtTheMean(exog @ params)


class _PointEstimate(Mediation):
    def _simulate_params(self, result, rng):
        return result.params


def assert_equal_point_estimates(table: dict[str, np.ndarray]) -> None:
    frame = pandas.DataFrame(table)
    models = sm.OLS.from_formula("y ~ x + z + w", frame), _Certain.from_formula("z ~ x + w", frame)
    fitted = _PointEstimate(*models, "x", "z").fit(n_rep=1)
    peer = [float(e.mean()) for e in (fitted.ADE_ctrl, fitted.ACME_ctrl, fitted.total_effect)]
    difference = max_difference(ours(table, 0), peer)
    if not difference <= 1e-9:
        raise AssertionError(f"point estimates differ by {difference:.3g}: not timed")


def coins(count: int) -> tuple[SCM, dict]:
    """X -> Z -> Y, X -> Y, where Z and Y also read `count` coins: 2^count states; and as plain functions."""
    names = tuple(f"C{i}" for i in range(count))

    def z(x, *u):
        return x ^ (u[0] & u[1]) ^ u[-1]

    def y(x, z, *u):
        return (x & z) + sum(u)

    model = SCM(
        {
            "X": Variable(lambda: 0),
            "Z": Variable(z, parents=("X",), noise=names),
            "Y": Variable(y, parents=("X", "Z"), noise=names),
        },
        noise={name: Bernoulli(0.25) for name in names},
    )
    return model, {"z": z, "y": y, "count": count}


def enumerated(model: SCM) -> list[float]:
    parts = decompose(model, "X", "Y", x=1, reference=0, units=model.enumerate())
    return [float(parts.total), float(parts.natural_direct), float(parts.natural_indirect)]


def looped(functions: dict) -> list[float]:
    z, y = functions["z"], functions["y"]
    total = direct = indirect = 0.0
    for u in itertools.product((0, 1), repeat=functions["count"]):
        p = 0.25 ** sum(u) * 0.75 ** (len(u) - sum(u))
        z_old, z_new = z(0, *u), z(1, *u)
        old = y(0, z_old, *u)
        total += p * (y(1, z_new, *u) - old)
        direct += p * (y(1, z_old, *u) - old)
        indirect += p * (y(0, z_new, *u) - old)
    return [total, direct, indirect]


def separations(variables: int) -> tuple[CausalGraph, networkx.DiGraph, list[tuple[set, set, set]]]:
    rng = random.Random(0)
    names = [f"V{i}" for i in range(variables)]
    edges = [pair for pair in itertools.combinations(names, 2) if rng.random() < 3 / variables]
    questions = []
    for _ in range(20):
        a, b, *given = rng.sample(names, 5)
        questions.append(({a}, {b}, set(given)))
    peer = networkx.DiGraph()
    peer.add_nodes_from(names)
    peer.add_edges_from(edges)
    return CausalGraph(edges, names), peer, questions


def main() -> None:
    torch.set_num_threads(1)
    table = observations(1000)
    assert_equal_point_estimates(table)
    rows = [
        compare(
            "mediation formula, linear, 1,000 rows, 1,000 resamples",
            lambda: ours(table, 1000),
            lambda: statsmodels_by_arrays(table, 1000),
            peer_name="statsmodels, arrays",
            difference=max_difference,
            # a mean over 1,000 draws of standard deviation below 0.1 has a standard error of 0.003, on both sides
            tolerance=0.02,
            repeats=3,
            note="without spread in the mediator, equal to 1e-9 (asserted)",
        ),
        compare(
            "mediation formula, linear, 1,000 rows, 10 resamples",
            lambda: ours(table, 10),
            lambda: statsmodels_by_formula(table, 10),
            peer_name="statsmodels, formulas",
            difference=max_difference,
            tolerance=0.2,  # as above, 10 draws
            repeats=3,
            note="the peer's documented way; its time is proportional to the resamples",
        ),
    ]
    for count in (4, 8, 12):
        model, functions = coins(count)
        rows.append(
            compare(
                f"total and natural effects by enumeration, 2^{count} states",
                lambda model=model: enumerated(model),
                lambda functions=functions: looped(functions),
                peer_name="a Python loop over u",
                difference=max_difference,
                tolerance=1e-12,
                repeats=9,
                note="the cost of a few dozen tensor operations: a loop wins below some 2^8 states"
                if count == 4
                else "",
            )
        )
    for variables in (10, 100):
        graph, peer, questions = separations(variables)
        rows.append(
            compare(
                f"20 d-separation questions, {variables} variables",
                lambda graph=graph, questions=questions: [graph.d_separated(*q) for q in questions],
                lambda peer=peer, questions=questions: [networkx.is_d_separator(peer, *q) for q in questions],
                peer_name="networkx",
                difference=max_difference,
                tolerance=0.0,
                repeats=9,
            )
        )
    path = write_table("causal", rows, peers=["statsmodels", "networkx", "pandas"])

    cost = []
    for count in range(4, 21, 2):
        model, _ = coins(count)
        seconds = (
            benchmark.Timer("f(m)", globals={"f": enumerated, "m": model}).blocked_autorange(min_run_time=0.2).median
        )
        cost.append({"states": 2**count, "seconds": seconds})
    stored = json.loads(path.read_text())
    stored["enumeration_cost"] = cost
    path.write_text(json.dumps(stored, indent=1) + "\n")
    print(path.with_suffix(".md").read_text())
    for entry in cost:
        print(f"{entry['states']:>8} states  {entry['seconds'] * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()

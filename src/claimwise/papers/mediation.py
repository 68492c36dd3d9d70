r"""Direct and indirect effects: what a cause does by itself, and what it does through others, in any model.

## What

A treatment X changes an outcome Y along several routes: on its own, and through a mediator Z that it changes too.
Where everything is linear, each route has its number and the numbers add up. Where it is not, it was unclear what the
number of the route through Z could even mean. Holding Z constant blocks that route, and so leaves the *direct*
effect; but nothing can be held constant to leave the *indirect* one alone.

The paper defines both, for any functions whatever, by asking about single units across worlds. The **natural direct
effect** changes X while each unit's Z stays what it would have been *without* the change. The **natural indirect
effect** leaves X and changes Z to what it would have been *with* it. Beside them stands the **controlled** direct
effect, Z held at one value for everybody: it answers a prescriptive question (what if the policy fixed Z?), the
natural effects a descriptive one (how much of the effect that we see runs through Z?).

## How

With x∗ the reference, x the new value, and u everything about a unit that the model leaves unexplained:

- total: TE = E[Y_x] − E[Y_x∗];
- controlled direct, at z: CDE_z = E[Y_xz] − E[Y_x∗z];
- natural direct: NDE = E[Y_{x, Z_x∗}] − E[Y_x∗];
- natural indirect: NIE = E[Y_{x∗, Z_x}] − E[Y_x∗].

In Y_{x, Z_x∗}(u) one and the same u decides Z in the world of x∗ and then Y in the world of x. That is why no
experiment shows this quantity: a unit lives in one world. Theorem 1 says when experiments suffice nevertheless: if,
given covariates W that neither X nor Z affects, Y_xz is independent of Z_x∗, then

NDE = Σ_wz [E(Y_xz | w) − E(Y_x∗z | w)] P(Z_x∗ = z | w) P(w),

and on a graph that is the question whether W separates Y from Z once the arrows out of X and Z are removed. Where W
also takes care of the confounding of X, every term is a conditional mean of the data: the mediation formula.

Effects of other routes are defined alike. Choose the arrows that shall feel the change; along them each variable sees
its parents in the new world, along all others in the reference world.

## Why

The definitions were wanted by law and policy. A court that asks whether an employer discriminated wants to know what
would have happened to *this* person, of another sex or race, with the same qualifications: the qualifications that
they have, not qualifications that a judge sets for all. That is the natural direct effect, and it is a question about
units and worlds, not about experiments.

Theorem 3 ties the effects together: TE(x, x∗) = NDE(x, x∗) − NIE(x∗, x). Going from x∗ to x is taking the direct step
first, mediators still at x∗, and then letting the mediators follow; undoing that second step is the indirect effect
of the way *back*. In a linear model the way back is minus the way there, and the familiar TE = NDE + NIE returns. The
gap between the two is interaction, and nothing else: γ b (x − x∗)² for Y = aX + cZ + γXZ and Z = bX.

## Where the notes or the paper mislead

- **The indirect effect in theorem 3 is that of the reverse transition.** Neither −NIE(x, x∗) nor +NIE(x, x∗) may
  stand in its place. Later work that calls TE − NDE the "total indirect effect" means −NIE(x∗, x).
- **Drawing fresh noise for Z changes the question.** A simulation that samples Z from its law under x∗, instead of
  keeping each unit's own Z, computes another quantity; both agree only when Z's noise and Y's are independent. The
  claim `one-background` shows the two apart. statsmodels' `Mediation` draws afresh, which its linear models forgive.
- The notes say of the natural direct effect that it "needs knowledge". The knowledge is of each unit's own Z in a
  world that was not observed; data stand in for it under the conditions above only, and **no data can show that they
  hold**.
- The notes leave indirect effects empty. They are half of the paper.
- "Holding constant" is right for direct effects with a caveat: held at which value? In an AND gate CDE is 0 or 1
  depending on that choice, while the natural direct effect has no choice to make.
- The notes' citation is garbled; the paper is in the proceedings of UAI 2001.
- The paper reports no experiment. What is checked here are its theorems: exhaustively where there are finitely many
  kinds of units, by enumeration of random models elsewhere, and by sampling where a claim is about estimation.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from claimwise.causal import (
    SCM,
    Bernoulli,
    Effect,
    Finite,
    MediationEstimates,
    Noise,
    Normal,
    Units,
    Variable,
    along,
    controlled_direct_effect,
    decompose,
    experimental_formula,
    identifiable,
    mediation_formula,
    natural_direct_effect,
    natural_indirect_effect,
    path_specific_effect,
    total_effect,
)
from claimwise.data.generators import binary_mediation
from claimwise.lab import (
    EXACT,
    PAPER,
    STAND_IN,
    Curve,
    Exact,
    Matrix,
    Measurements,
    NotTested,
    Paper,
    PerDraw,
    Plan,
    Proportion,
    Reported,
    Results,
    Run,
    all_of,
    equal,
    equivalent,
)

paper = Paper("mediation")

ROUNDING = 1e-12
"""What double precision may lose in sums of a few thousand products of numbers below 1, with two digits to spare."""
MATTERS = 0.02
"""Smallest difference that matters, for outcomes in {0, 1}: two points of probability. Fixed before any run."""


# models ---------------------------------------------------------------------------------------------------------------


def every_kind_of_unit(z_values: int, y_values: int) -> SCM:
    """X -> Z -> Y, X -> Y with binary X, where the background says how a unit would answer every question.

    A kind of unit is a table: Z for each x, and Y for each x and z. There are z_values^2 y_values^(2 z_values) of them,
    and any model of this graph with these values, whatever its noise, is a probability over them.
    """
    answers = [range(z_values)] * 2 + [range(y_values)] * (2 * z_values)
    kinds = torch.tensor(list(itertools.product(*answers)))  # (kinds, 2 + 2 z_values)

    def z(x: Tensor, kind: Tensor) -> Tensor:
        return kind.gather(1, x[:, None])[:, 0]

    def y(x: Tensor, z: Tensor, kind: Tensor) -> Tensor:
        return kind.gather(1, (2 + z_values * x + z)[:, None])[:, 0]

    return SCM(
        {
            "X": Variable(lambda: 0),
            "Z": Variable(z, parents=("X",), noise="kind"),
            "Y": Variable(y, parents=("X", "Z"), noise="kind"),
        },
        noise={"kind": Finite(kinds, torch.full((len(kinds),), 1 / len(kinds), dtype=torch.float64))},
    )


def simplex(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Probabilities along the last dimension, uniform over all there are."""
    draws = -torch.log1p(-torch.rand(shape, generator=generator, dtype=torch.float64))
    return draws / draws.sum(-1, keepdim=True)


def independent_kinds(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Models whose Z and Y have independent noise, P(Z = 1 | x) and P(Y = 1 | x, z) uniform: (*shape, 64)."""
    ones = torch.rand((*shape, 6), generator=generator, dtype=torch.float64)  # of z at x = 0, 1 and y at (x, z)
    answers = torch.tensor(list(itertools.product((0, 1), repeat=6)))  # (64, 6), as every_kind_of_unit(2, 2)
    return torch.where(answers == 1, ones[..., None, :], 1 - ones[..., None, :]).prod(-1)


def averages(model: SCM, units: Units) -> dict[str, Tensor]:
    """Of each kind of unit: its effects from 0 to 1, its answers Z_x and Y_xz, by name; each (kinds,)."""
    parts = decompose(model, "X", "Y", x=1, reference=0, units=units)
    found = {
        "total": parts.total,
        "direct": parts.natural_direct,
        "indirect": parts.natural_indirect,
        "reverse_direct": parts.reverse_natural_direct,
        "reverse_indirect": parts.reverse_natural_indirect,
    }
    per_unit = {name: effect.per_unit for name, effect in found.items()}
    for z in (0, 1):
        held = controlled_direct_effect(model, "X", "Y", x=1, reference=0, mediators={"Z": z}, units=units)
        per_unit[f"controlled_{z}"] = held.per_unit
        for x in (0, 1):
            per_unit[f"y_{x}{z}"] = model.solve(units, {"X": x, "Z": z})["Y"].double()
    for x in (0, 1):
        world = model.solve(units, {"X": x})
        per_unit[f"z_{x}"], per_unit[f"y_{x}"] = world["Z"].double(), world["Y"].double()
    return per_unit


def beyond_rounding(*differences: Tensor) -> Exact:
    """How many models violate an equality, by any of these differences."""
    wrong = torch.stack([difference.abs() > ROUNDING for difference in differences]).any(0)
    return Exact(int(wrong.sum()))


# theorem 3 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kinds:
    """Every kind of unit that a model of X -> Z -> Y, X -> Y can have."""

    z_values: int = 2
    """Number of values of the mediator."""
    y_values: int = 2
    """Number of values of the outcome."""


@paper.experiment(quick=Plan(Kinds(3, 2), seeds=1), small=Plan(Kinds(3, 4), seeds=1))
def kinds(run: Run, setup: Kinds) -> Measurements:
    """Theorem 3 for each kind of unit there is, and so for every model."""
    model = every_kind_of_unit(setup.z_values, setup.y_values)
    units = model.enumerate()
    parts = decompose(model, "X", "Y", x=1, reference=0, units=units)
    total = parts.total.per_unit
    return {
        "units": Exact(units.count),
        "violations": beyond_rounding(
            total - parts.natural_direct.per_unit + parts.reverse_natural_indirect.per_unit,
            total - parts.natural_indirect.per_unit + parts.reverse_natural_direct.per_unit,
        ),
        "units_where_the_sum_fails": Exact(
            int((total != parts.natural_direct.per_unit + parts.natural_indirect.per_unit).sum())
        ),
    }


paper.claim(
    "total-from-parts",
    sheet="PE2",
    says="In every model, the total effect is the natural direct effect minus the natural indirect effect of the "
    "reverse transition.",
    where="theorem 3",
    holds=equal(kinds["violations"], 0),
    because="a model is a probability over kinds of units, and an identity at every kind is one in every mean; here "
    "every kind is enumerated",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="for a binary treatment, and finitely many values of mediator and outcome",
)


@dataclass(frozen=True)
class RandomModels:
    """Random binary models of X -> Z -> Y, X -> Y."""

    models: int = 1000
    """How many of each family."""
    background: int = 4
    """Kinds of units in a model of the family where Z and Y share their noise."""


@paper.experiment(quick=Plan(RandomModels(1000), seeds=1), small=Plan(RandomModels(100_000), seeds=1))
def random_models(run: Run, setup: RandomModels) -> Measurements:
    """Three families: any noise at all, independent noise, and few kinds of units (strongly shared noise)."""
    model = every_kind_of_unit(2, 2)
    units = averages(model, model.enumerate())
    generator = run.generator("models")
    count = setup.models
    everything = simplex((count, 64), generator)
    independent = independent_kinds((count,), generator)
    few = torch.zeros(count, 64, dtype=torch.float64)
    chosen = torch.rand(count, 64, generator=generator).argsort(1)[:, : setup.background]
    few.scatter_(1, chosen, simplex((count, setup.background), generator))
    treated = torch.rand(count, generator=generator, dtype=torch.float64)  # P(X = 1) where nobody sets it

    def mean(name: str, family: Tensor) -> Tensor:  # (models,)
        return family @ units[name]

    def violation(family: Tensor) -> Tensor:
        there = mean("total", family) - mean("direct", family) + mean("reverse_indirect", family)
        back = mean("total", family) - mean("indirect", family) + mean("reverse_direct", family)
        return there.abs().maximum(back.abs())

    def gap(family: Tensor) -> Tensor:
        return (mean("total", family) - mean("direct", family) - mean("indirect", family)).abs()

    def corollary(family: Tensor) -> Tensor:  # sum over z of CDE_z P(Z_{x*} = z), minus NDE
        chance = mean("z_0", family)
        weighted = mean("controlled_0", family) * (1 - chance) + mean("controlled_1", family) * chance
        return weighted - mean("direct", family)

    violations = torch.stack([violation(family) for family in (everything, independent, few)])
    return {
        "violations": beyond_rounding(*violations),
        "largest_violation": Exact(float(violations.max())),
        "isolating_contrasts": Exact(_isolating(units, everything, treated)),
        "gap": PerDraw(gap(independent)),
        "gap_exists": PerDraw((gap(everything) > 1e-9).double()),
        "controlled_spread": PerDraw((mean("controlled_1", independent) - mean("controlled_0", independent)).abs()),
        "corollary_violations": beyond_rounding(corollary(independent)),
        "corollary_error_shared": PerDraw(corollary(few).abs()),
    }


def _isolating(units: Mapping[str, Tensor], family: Tensor, treated: Tensor) -> int:
    """Models in which the indirect effect is a contrast of two settings where variables are held, or TE - CDE_z."""
    held = {name: family @ units[name] for name in ("y_0", "y_1", "y_00", "y_01", "y_10", "y_11")}
    held["y"] = (1 - treated) * held["y_0"] + treated * held["y_1"]  # nothing is set
    for z in (0, 1):  # only Z is
        held[f"y_z{z}"] = (1 - treated) * held[f"y_0{z}"] + treated * held[f"y_1{z}"]
    means = torch.stack(list(held.values()))  # (9 settings, models)
    contrasts = (means[:, None] - means[None]).flatten(0, 1)
    subtracted = torch.stack([family @ (units["total"] - units[f"controlled_{z}"]) for z in (0, 1)])
    indirect = family @ units["indirect"]
    nearest = (torch.cat([contrasts, subtracted]) - indirect).abs().amin(0)
    return int((nearest < ROUNDING).sum())


paper.claim(
    "total-from-parts-in-random-models",
    sheet="PE2",
    says="The same over averages: in random binary models, whatever the noise that Z and Y share.",
    where="theorem 3",
    reported={
        random_models["largest_violation"]: Reported(
            1.1e-16, "computed", tolerance=ROUNDING, because="rounding, which depends on the order of sums"
        )
    },
    holds=equal(random_models["violations"], 0),
    because="an identity has no exceptions; beyond 1e-12 is more than rounding",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "nothing-held-constant-isolates-the-indirect-effect",
    sheet="PE1",
    says="The indirect effect is no contrast between two settings in which variables are held constant, nor the total "
    "minus a controlled direct effect; the direct effect is such a contrast by definition.",
    where="abstract and section 1",
    holds=equal(random_models["isolating_contrasts"], 0),
    because="models are drawn from a density, so a contrast that isolated the indirect effect in general would equal "
    "it in each; a coincidence within 1e-12 has probability below 1e-3",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="binary variables; all nine settings of do() on X, Z, both or none, pairwise, and TE − CDE",
)

paper.claim(
    "parts-do-not-add-in-general",
    sheet="PE3",
    says="Without linearity the total effect is in general not the sum of direct and indirect effect.",
    where="section 3",
    reported={random_models["gap"]: Reported(0.167, "computed")},
    holds=all_of(random_models["gap_exists"] > 0.95, random_models["gap"] > MATTERS),
    because="in general: in nearly every random model; and by an amount that matters, two points of probability",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="the gap's size belongs to a family of models, here P(Z=1|x) and P(Y=1|x,z) uniform (expected gap "
    "7/45); the family behind the notes' 0.167 is not recorded",
)

paper.claim(
    "controlled-effect-depends-on-the-value",
    sheet="PE4",
    says="The controlled direct effect depends on the value at which the mediator is held.",
    where="section 2",
    holds=random_models["controlled_spread"] > MATTERS,
    because="the mean difference between the two controlled effects must be one that matters",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences="random models stand in for those that a field meets: P(Z=1|x) and P(Y=1|x,z) uniform",
)

paper.claim(
    "natural-is-a-mean-of-controlled",
    sheet="PE4",
    says="Where Z's noise and Y's are independent, the natural direct effect is the mean of the controlled ones, "
    "weighted by the mediator's law under the reference.",
    where="corollary 1",
    holds=equal(random_models["corollary_violations"], 0),
    because="an identity has no exceptions; beyond 1e-12 is more than rounding",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "shared-noise-breaks-the-mean",
    sheet="PE4",
    says="Where they share noise, that weighted mean is wrong.",
    where="corollary 1, its condition",
    holds=random_models["corollary_error_shared"] > MATTERS,
    because="the condition is needed if the formula errs, on average over models, by an amount that matters",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences="random models stand in for those that a field meets: four kinds of units each, so that noise is "
    "strongly shared",
)


# linear models and interaction ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interaction:
    """Y = aX + cZ + γXZ + e, Z = bX + e, with random coefficients and random x, x*."""

    models: int = 1000
    """Number of random coefficient vectors."""
    strongest: float = 2.0
    """Largest γ of the curve, where a = b = c = x = 1, x* = 0."""


def interaction_model(a: Tensor, b: Tensor, c: Tensor, gamma: Tensor) -> SCM:
    """Many models side by side: values are (units, models), coefficients (models,)."""
    centred = Finite([-1.0, 0.0, 2.0], [0.5, 0.25, 0.25])  # of mean 0
    return SCM(
        {
            "X": Variable(lambda: 0.0),
            "Z": Variable(lambda x, e: b * x + e[:, None], parents=("X",), noise=centred),
            "Y": Variable(
                lambda x, z, e: a * x + c * z + gamma * x * z + e[:, None], parents=("X", "Z"), noise=centred
            ),
        }
    )


@paper.experiment(quick=Plan(Interaction(), seeds=1), small=Plan(Interaction(100_000), seeds=1))
def interaction(run: Run, setup: Interaction) -> Measurements:
    """The closed forms of linear models, with and without interaction."""
    generator = run.generator("coefficients")
    a, b, c, gamma, x, reference = torch.randn(6, setup.models, generator=generator, dtype=torch.float64)
    step = x - reference

    def effects(model: SCM, x: Tensor, reference: Tensor) -> dict[str, Tensor]:
        units = model.enumerate()
        new, old = x.expand(units.count, -1), reference.expand(units.count, -1)
        parts = decompose(model, "X", "Y", x=new, reference=old, units=units)
        held = {"Z": torch.full_like(new, 0.7)}
        controlled = controlled_direct_effect(model, "X", "Y", x=new, reference=old, mediators=held, units=units)
        return {
            "total": parts.total.mean,
            "direct": parts.natural_direct.mean,
            "indirect": parts.natural_indirect.mean,
            "controlled": controlled.mean,
            "gap": parts.gap,
        }

    none = torch.zeros_like(gamma)
    linear = effects(interaction_model(a, b, c, none), x, reference)
    mixed = effects(interaction_model(a, b, c, gamma), x, reference)
    strengths = torch.linspace(0, setup.strongest, 9, dtype=torch.float64)
    one, zero = torch.ones_like(strengths), torch.zeros_like(strengths)
    curve = effects(interaction_model(one, one, one, strengths), one, zero)
    # Normal coefficients multiply to a few hundred at most; 1e-9 leaves such products seven digits of rounding.
    return {
        "linear_gaps": Exact(int((linear["gap"].abs() > 1e-9).sum())),
        "largest_linear_gap": Exact(float(linear["gap"].abs().max())),
        "linear_violations": Exact(
            int(
                torch.stack(
                    [
                        linear["direct"] - a * step,
                        linear["controlled"] - a * step,
                        linear["indirect"] - b * c * step,
                        linear["total"] - (a + b * c) * step,
                    ]
                )
                .abs()
                .gt(1e-9)
                .any(0)
                .sum()
            )
        ),
        "gap_violations": Exact(int(((mixed["gap"] - gamma * b * step**2).abs() > 1e-9).sum())),
        "total": Curve(strengths, curve["total"]),
        "sum_of_parts": Curve(strengths, curve["direct"] + curve["indirect"]),
        "direct": Curve(strengths, curve["direct"]),
        "indirect": Curve(strengths, curve["indirect"]),
    }


paper.claim(
    "parts-add-in-linear-models",
    sheet="PE3",
    says="In linear models the total effect is the sum of direct and indirect effect, because reversing a linear "
    "effect only flips its sign.",
    where="section 3",
    reported={
        interaction["largest_linear_gap"]: Reported(
            0.0, "computed", tolerance=1e-9, because="rounding of products of normal coefficients"
        )
    },
    holds=equal(interaction["linear_gaps"], 0),
    because="an identity has no exceptions",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "linear-closed-forms",
    sheet="PE3",
    says="In a linear model with slopes a (X to Y), b (X to Z) and c (Z to Y), a unit step of X has controlled and "
    "natural direct effect a, indirect effect bc and total effect a + bc.",
    where="section 3",
    holds=equal(interaction["linear_violations"], 0),
    because="closed forms hold for all coefficients, or they are wrong",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "the-gap-is-the-interaction",
    sheet="PE3",
    says="With an interaction γXZ, the total effect exceeds the sum of its parts by γ b (x − x*)².",
    where="section 3, theorem 3 applied",
    holds=equal(interaction["gap_violations"], 0),
    because="closed forms hold for all coefficients, or they are wrong",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="the paper says that the parts do not add; the amount is our arithmetic from theorem 3",
)


# one background, two worlds -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneBackground:
    """Z = X + e, Y = XZs, with e and s of correlation rho."""

    draws: int = 20_000
    """Monte-Carlo draws of the background."""
    rho: float = 0.8
    """Correlation of e and s; also the true natural direct effect from 0 to 1, E[e s]."""


@paper.experiment(quick=Plan(OneBackground(), seeds=1), small=Plan(OneBackground(1_000_000), seeds=1))
def one_background(run: Run, setup: OneBackground) -> Measurements:
    """Monte Carlo with the same draw in both worlds, and with Z drawn afresh."""
    covariance = [[1.0, setup.rho], [setup.rho, 1.0]]
    model = SCM(
        {
            "X": Variable(lambda: 0.0),
            "Z": Variable(lambda x, u: x + u[:, 0], parents=("X",), noise="U"),
            "Y": Variable(lambda x, z, u: x * z * u[:, 1], parents=("X", "Z"), noise="U"),
        },
        noise={"U": Normal(covariance=covariance)},
    )
    units = model.sample(setup.draws, generator=run.generator("units"))
    others = model.sample(setup.draws, generator=run.generator("others"))
    parts = decompose(model, "X", "Y", x=1.0, reference=0.0, units=units)
    somebody_elses = model.solve(others, {"X": 0.0})["Z"]
    afresh = model.solve(units, {"X": 1.0, "Z": somebody_elses})["Y"] - model.solve(units, {"X": 0.0})["Y"]
    residual = parts.total.per_unit - parts.natural_direct.per_unit + parts.reverse_natural_indirect.per_unit
    return {
        "violations": beyond_rounding(residual),
        "own": PerDraw(parts.natural_direct.per_unit),
        "afresh": PerDraw(afresh),
    }


paper.claim(
    "total-from-parts-by-monte-carlo",
    sheet="PE2",
    says="With the same draw of the background in all worlds, the identity holds draw by draw, not only on average.",
    where="theorem 3",
    holds=equal(one_background["violations"], 0),
    because="an identity has no exceptions; beyond 1e-12 is more than rounding",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "one-background",
    sheet="PE2 PE4",
    says="The mediator of the nested counterfactual is the unit's own: drawing it afresh from its law gives another "
    "quantity when Z and Y share noise.",
    where="definitions 3 to 5",
    holds=all_of(
        equivalent(
            one_background["own"],
            0.8,
            margin=0.05,
            because="a sixteenth of the effect, five times the simulation error",
        ),
        equivalent(one_background["afresh"], 0.0, margin=0.05, because="the same margin around the other closed form"),
    ),
    because="closed forms: E[e s] = 0.8 with the unit's own mediator, E[e] E[s] = 0 with somebody else's",
    fidelity={"quick": PAPER, "small": PAPER},
    differences="the paper defines the quantity; the simulation that would get it wrong is ours",
)


# what experiments can tell --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Laboratories:
    """Models that no experiment on single worlds tells apart: Z = X or e1, Y = X and (Z xor e2), fair coins e1, e2."""


COINS: dict[str, Callable[[Tensor], Tensor]] = {
    "independent": lambda e: e[:, 1],
    "equal": lambda e: e[:, 0],
    "opposite": lambda e: 1 - e[:, 0],
}
"""How Y's coin comes about: two fair coins e are there, and Z reads the first."""


@paper.experiment(quick=Plan(Laboratories(), seeds=1), small=Plan(Laboratories(), seeds=1))
def laboratories(run: Run, setup: Laboratories) -> Measurements:
    """All interventional laws of three models, the formula on them, and their natural direct effects."""
    coins = Finite(list(itertools.product((0, 1), repeat=2)), [0.25] * 4)
    laws, found = [], {}
    for name, second in COINS.items():
        model = SCM(
            {
                "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
                "Z": Variable(lambda x, e: x | e[:, 0], parents=("X",), noise="coins"),
                "Y": Variable(lambda x, z, e, coin=second: x & (z ^ coin(e)), parents=("X", "Z"), noise="coins"),
            },
            noise={"coins": coins},
        )
        units = model.enumerate()
        laws.append(_interventional_laws(model, units))
        outcome, mediator, covariates = measured_by_experiment(model, units, ())
        found[f"formula_{name}"] = Exact(float(experimental_formula(outcome, mediator, covariates).natural_direct))
        found[f"direct_{name}"] = Exact(
            float(natural_direct_effect(model, "X", "Y", x=1, reference=0, units=units).mean)
        )
    apart = max(float((law - laws[0]).abs().max()) for law in laws)
    return {"experiments_differ_by": Exact(apart), **found}


def _interventional_laws(model: SCM, units: Units) -> Tensor:
    """P(X, Z, Y) in every setting of do() on X, Z, both or none: (9 settings, 8 states)."""
    laws = []
    for held in [{}, *({n: v} for n in "XZ" for v in (0, 1)), *({"X": x, "Z": z} for x in (0, 1) for z in (0, 1))]:
        world = model.solve(units, held)
        state = 4 * world["X"] + 2 * world["Z"] + world["Y"]
        laws.append(torch.stack([units.mean(state == s) for s in range(8)]))
    return torch.stack(laws)


def measured_by_experiment(model: SCM, units: Units, given: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """E(Y_xz | w), P(Z_x = z | w) and P(w) for binary variables; w are the joint states of `given`.

    Shapes (2, w, 2), (2, w, 2), (w,).
    """
    before = model.solve(units)
    state = sum((before[name] * 2**i for i, name in enumerate(given)), torch.zeros(units.count, dtype=torch.int64))
    at = torch.nn.functional.one_hot(state, 2 ** len(given)).double()  # (units, w)
    chance = units.mean(at)  # P(w)
    outcome = torch.stack(
        [
            torch.stack([units.mean(at * model.solve(units, {"X": x, "Z": z})["Y"][:, None]) for z in (0, 1)], 1)
            for x in (0, 1)
        ]
    )
    ones = torch.stack([units.mean(at * model.solve(units, {"X": x})["Z"][:, None]) for x in (0, 1)])  # (2, w)
    mediator = torch.stack([chance - ones, ones], 2)
    return outcome / chance[:, None], mediator / chance[:, None], chance


paper.claim(
    "experiments-alone-do-not-tell",
    sheet="PE5",
    says="Experiments on X and Z do not in general determine the natural direct effect: models that agree in every "
    "intervention can have any value of it.",
    where="section 3, before theorem 1",
    holds=all_of(
        equal(laboratories["experiments_differ_by"], 0),
        equal(laboratories["direct_equal"], 0),
        equal(laboratories["direct_independent"], 0.5),
        equal(laboratories["direct_opposite"], 1),
    ),
    because="one family of models with equal experiments and different effects proves it; these span all of [0, 1]",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="the example is ours",
)

paper.claim(
    "the-formula-cannot-know",
    sheet="PE5",
    says="On those models the identification formula gives one and the same number, right only where the noises are "
    "independent.",
    where="theorem 1, its condition",
    holds=all_of(
        equal(laboratories["formula_independent"], laboratories["direct_independent"]),
        equal(laboratories["formula_equal"], laboratories["formula_independent"]),
        equal(laboratories["formula_opposite"], laboratories["formula_independent"]),
    ),
    because="a function of experiments must agree where experiments do; all numbers are dyadic, so equality is exact",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="the example is ours",
)


@dataclass(frozen=True)
class Graphs:
    """Graphs on W, X, Z, Y with hidden common causes, and a random model on each."""

    graphs: int = 512
    """How many of the 512 graphs; fewer are drawn at random."""


OPTIONAL = [("W", "X"), ("W", "Z"), ("W", "Y")]
HIDDEN = list(itertools.combinations("WXZY", 2))


@paper.experiment(quick=Plan(Graphs(64), seeds=1), small=Plan(Graphs(512), seeds=1))
def graphs(run: Run, setup: Graphs) -> Measurements:
    """The graphical condition against the truth: the formula on every graph, with and without the covariate."""
    generator = run.generator("graphs")
    chosen = torch.randperm(512, generator=generator)[: setup.graphs]
    identified: list[Tensor] = []
    refused: list[Tensor] = []
    for code in chosen.tolist():
        arrows = [arrow for i, arrow in enumerate(OPTIONAL) if code >> i & 1]
        hidden = [pair for i, pair in enumerate(HIDDEN) if code >> (i + len(OPTIONAL)) & 1]
        model = random_model_on(arrows, hidden, generator)
        units = model.enumerate()
        truth = natural_direct_effect(model, "X", "Y", x=1, reference=0, units=units, mediators="Z").mean
        for given in ((), ("W",)):
            formula = experimental_formula(*measured_by_experiment(model, units, given)).natural_direct
            kept = identifiable(model.graph, "X", "Y", mediators="Z", given=given)
            (identified if kept else refused).append(formula - truth)
    return {
        "identified": Exact(len(identified)),
        "unsound": beyond_rounding(torch.stack(identified)),
        "wrong_where_refused": beyond_rounding(torch.stack(refused)),
        "error_where_refused": PerDraw(torch.stack(refused).abs()),
    }


def random_model_on(
    arrows: Sequence[tuple[str, str]], hidden: Sequence[tuple[str, str]], generator: torch.Generator
) -> SCM:
    """A random binary model of X -> Z -> Y, X -> Y with these further arrows from W and hidden common causes of pairs.

    Each variable is 1 where its own three-valued noise lies below a random level (1 or 2) that its parents and hidden
    causes set, so that every value has positive probability in every setting.
    """
    parents: dict[str, tuple[str, ...]] = {"W": (), "X": (), "Z": ("X",), "Y": ("X", "Z")}
    for before, after in arrows:
        parents[after] = (before, *parents[after])
    sources: dict[str, Noise] = {}
    for pair in hidden:
        sources["".join(pair)] = Bernoulli(float(torch.rand((), generator=generator, dtype=torch.float64)))
    variables = {}
    for name in "WXZY":
        sources[f"own {name}"] = Finite([0, 1, 2], simplex((3,), generator))
        causes = tuple("".join(pair) for pair in hidden if name in pair)
        levels = 1 + torch.randint(2, (2,) * (len(parents[name]) + len(causes)), generator=generator)

        def below(*inputs: Tensor, levels: Tensor = levels) -> Tensor:
            *setting, own = inputs
            return (own < levels[tuple(setting)]).long()

        variables[name] = Variable(below, parents=parents[name], noise=(*causes, f"own {name}"))
    return SCM(variables, noise=sources)


paper.claim(
    "identified-with-covariates",
    sheet="PE5",
    says="Where covariates W, which neither X nor Z affects, separate Y from Z in the graph without the arrows that "
    "leave X and Z, experiments determine the natural direct effect by the formula.",
    where="theorem 1 and its graphical form",
    holds=equal(graphs["unsound"], 0),
    because="a theorem has no exceptions: whenever the graph says so, the formula must be exact to rounding",
    fidelity={"quick": EXACT, "small": EXACT},
    differences={
        "quick": "64 graphs drawn from all 512 on four binary variables, one random model each",
        "small": "all 512 graphs on four binary variables, one random model each",
    },
)

paper.claim(
    "no-guarantee-without-it",
    sheet="PE5",
    says="Where the graph gives no such licence, there are models in which the formula is wrong.",
    where="theorem 1, its condition",
    holds=graphs["wrong_where_refused"] > 0,
    because="one model in which the formula errs beyond rounding is enough",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="declared after the claim about the size of the error, below, had been refuted; the theorem says that "
    "its condition suffices, and nothing about size",
)

paper.claim(
    "errors-without-it-matter-on-average",
    sheet="PE5",
    says="Where the graph gives no such licence, the formula errs by an amount that matters, on average over models.",
    where="theorem 1, its condition",
    holds=graphs["error_where_refused"] > MATTERS,
    because="on average over graphs and models without licence, the error must be one that matters",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences="ours, not the paper's: random models stand in for those that a field meets, and single models without "
    "licence may be lucky",
)


# what observations can tell -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observed:
    """Markovian binary models with a confounder W of X, Z and Y."""

    models: int = 1000
    """How many."""


@paper.experiment(quick=Plan(Observed(), seeds=1), small=Plan(Observed(20_000), seeds=1))
def observed(run: Run, setup: Observed) -> Measurements:
    """The mediation formula on the joint law of what is observed, without sampling error."""
    model = every_kind_of_unit(2, 2)
    units = averages(model, model.enumerate())
    generator = run.generator("models")
    given_w = independent_kinds((setup.models, 2), generator)  # P(kind | w), (models, 2, 64)
    w = simplex((setup.models, 2), generator)
    treated = torch.rand(setup.models, 2, generator=generator, dtype=torch.float64)  # P(X = 1 | w)
    x_and_w = w[:, None] * torch.stack([1 - treated, treated], 1)  # P(x, w), (models, x, w)

    # P(x, w, z) and E[Y; x, w, z], where a unit shows Z_x and Y_{x, Z_x} of the one x that it got
    z_is = torch.stack([torch.stack([1 - units[f"z_{x}"], units[f"z_{x}"]]) for x in (0, 1)])  # (x, z, kinds)
    y_is = torch.stack([torch.stack([units[f"y_{x}{z}"] for z in (0, 1)]) for x in (0, 1)])
    cell = torch.einsum("mxw,mwk,xzk->mxwz", x_and_w, given_w, z_is)
    outcome = torch.einsum("mxw,mwk,xzk->mxwz", x_and_w, given_w, z_is * y_is) / cell  # E(Y | x, z, w)
    mediator = cell / cell.sum(3, keepdim=True)  # P(z | x, w)
    adjusted = experimental_formula(outcome, mediator, w)

    alone = cell.sum(2, keepdim=True)  # without w: P(x, z) and E(Y | x, z)
    mixed = (outcome * cell).sum(2, keepdim=True) / alone
    ignoring = experimental_formula(mixed, alone / alone.sum(3, keepdim=True), torch.ones(setup.models, 1).double())

    def truth(name: str) -> Tensor:
        return torch.einsum("mw,mwk,k->m", w, given_w, units[name])

    return {
        "violations": beyond_rounding(
            adjusted.total - truth("total"),
            adjusted.natural_direct - truth("direct"),
            adjusted.natural_indirect - truth("indirect"),
        ),
        "error_ignoring_w": PerDraw((ignoring.natural_direct - truth("direct")).abs()),
    }


paper.claim(
    "markovian-models-need-no-experiment",
    sheet="PE6",
    says="In a Markovian model the mediation formula gets the total, natural direct and natural indirect effect from "
    "the law of the observed variables.",
    where="theorem 2 and corollary 2",
    holds=equal(observed["violations"], 0),
    because="a theorem has no exceptions; beyond 1e-12 is more than rounding",
    fidelity={"quick": EXACT, "small": EXACT},
    differences="binary variables",
)

paper.claim(
    "the-confounder-must-be-in",
    sheet="PE6",
    says="The same formula without the confounder is wrong.",
    where="theorem 2, its condition",
    holds=observed["error_ignoring_w"] > MATTERS,
    because="on average over models, the error must be one that matters",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences="random models stand in for those that a field meets: binary, all probabilities uniform",
)


@dataclass(frozen=True)
class Sampling:
    """Samples from one Markovian model with a confounder, and the plug-in estimates from each."""

    rows: int = 1000
    """Observations in a sample."""
    samples: int = 60
    """Samples a seed."""
    draws: int = 0
    """Bootstrap resamples of each sample; 0 for no intervals."""


@paper.experiment(quick=Plan(Sampling(), seeds=10), small=Plan(Sampling(2000, 200, 300), seeds=10))
def sampling(run: Run, setup: Sampling) -> Measurements:
    """Estimates of the natural effects against the truth over repeated samples."""
    generator, seeds = run.generator("bootstrap"), run.rng("samples").integers(2**31, size=setup.samples)
    truth = binary_mediation(1)["truth"]
    direct, indirect, unadjusted, covered = [], [], [], 0
    for seed in seeds:
        table = binary_mediation(setup.rows, seed=int(seed))["all"]

        def estimated(draws: int, *covariates: str, table: Mapping[str, np.ndarray] = table) -> MediationEstimates:
            return mediation_formula(
                table, "treatment", "outcome", mediators="mediator", covariates=covariates, x=1, reference=0,
                model="discrete", draws=draws, generator=generator,
            )  # fmt: skip

        found = estimated(setup.draws, "confounder")
        direct.append(found.natural_direct.value)
        indirect.append(found.natural_indirect.value)
        unadjusted.append(estimated(0).natural_direct.value)
        if setup.draws:
            low, high = found.natural_direct.low, found.natural_direct.high
            covered += bool(low is not None and high is not None and low <= truth["natural_direct"] <= high)
    true_direct, true_indirect = float(truth["natural_direct"]), float(truth["natural_indirect"])
    measured: dict[str, Any] = {
        "direct_error": float(np.mean(direct)) - true_direct,
        "indirect_error": float(np.mean(indirect)) - true_indirect,
        "unadjusted_error": float(np.mean(unadjusted)) - true_direct,
        "direct_estimates": PerDraw(direct),
        "unadjusted_estimates": PerDraw(unadjusted),
        "true_direct": Exact(true_direct),
        "true_indirect": Exact(true_indirect),
        "true_total": Exact(float(truth["total"])),
        "true_controlled_0": Exact(float(truth["controlled_direct"][0])),
        "true_controlled_1": Exact(float(truth["controlled_direct"][1])),
    }
    if setup.draws:
        measured["coverage"] = Proportion(covered, setup.samples)
    return measured


_unbiased = [
    equivalent(
        sampling[name], 0.0, margin=MATTERS, because="two points of probability, where the effects are some twenty"
    )
    for name in ("direct_error", "indirect_error")
]

paper.claim(
    "estimable-from-observations",
    sheet="PE6",
    says="From samples of a Markovian model the plug-in of the mediation formula estimates the natural effects without "
    "noticeable bias, and its bootstrap intervals hold the truth as often as they say.",
    where="corollary 2",
    holds={
        "quick": all_of(*_unbiased),
        "small": all_of(
            *_unbiased,
            equivalent(
                sampling["coverage"], 0.95, margin=0.03, because="an error rate of 8 or 2 % is no longer one of 5 %"
            ),
        ),
    },
    because="an estimator that errs on average by less than what matters, with honest intervals, estimates the effect",
    fidelity={"quick": PAPER, "small": PAPER},
    differences="the paper proves identification and samples nothing; one model, binary variables, effects enumerated "
    "from its probability tables; intervals (percentile bootstrap) at `small` only, "
    "planned with 10 seeds on fresh samples after 5 had left the coverage undecided",
)

paper.claim(
    "sampling-does-not-mend-confounding",
    sheet="PE6",
    says="The estimate that leaves the confounder out stays off however many samples there are.",
    where="theorem 2, its condition",
    holds=abs(sampling["unadjusted_error"]) > MATTERS,
    because="the error of the mean over many samples is bias, and must be one that matters",
    fidelity={"quick": STAND_IN, "small": STAND_IN},
    differences="one model of ours stands in for those that a field meets",
)


@dataclass(frozen=True)
class Table:
    """A data set with treatment, mediator, outcome and covariates measured before the treatment."""

    dataset: str = "mediation_jobs"
    """A data set of `claimwise data list`."""
    treatment: str = "treat"
    """Column of the treatment, 0 or 1."""
    mediator: str = "job_seek"
    """Column of the mediator, numeric."""
    levels: str = "job_dich"
    """The same mediator in few levels, for the discrete formula."""
    outcome: str = "depress2"
    """Column of the outcome, numeric."""
    covariates: tuple[str, ...] = (
        "econ_hard",
        "depress1",
        "sex",
        "age",
        "occp",
        "marital",
        "nonwhite",
        "educ",
        "income",
    )
    """Columns measured before the treatment, for the linear formula."""
    stratify: tuple[str, ...] = ("sex",)
    """The covariates of the discrete formula, which needs every cell filled."""
    draws: int = 5000
    """Bootstrap resamples."""


def effects_in_table(run: Run, setup: Table) -> Measurements:
    """Effects by the linear and the discrete formula, and the identity in the table and in every resample."""
    table = run.data(setup.dataset)["all"]
    linear, discrete = (
        mediation_formula(
            table, setup.treatment, setup.outcome, mediators=mediator, covariates=covariates, x=1, reference=0,
            model=model, draws=setup.draws, generator=run.generator(model),
        )
        for model, mediator, covariates in (
            ("linear", setup.mediator, setup.covariates),
            ("discrete", setup.levels, setup.stratify),
        )
    )  # fmt: skip
    violations = 0
    for found in (linear, discrete):
        for total, direct, reverse in [
            (found.total.value, found.natural_direct.value, found.reverse_natural_indirect.value),
            *zip(found.total.draws, found.natural_direct.draws, found.reverse_natural_indirect.draws, strict=True),
        ]:
            violations += abs(total - direct + reverse) > ROUNDING
    names = ("total", "natural_direct", "natural_indirect", "reverse_natural_indirect")
    rows = [(f"{name}, {model}", getattr(found, name))
            for model, found in (("linear", linear), ("discrete", discrete)) for name in names]  # fmt: skip
    return {
        "violations": Exact(violations),
        "rows": Exact(linear.rows),
        "effects": Matrix(
            [[effect.value, effect.low, effect.high] for _, effect in rows],
            rows=[name for name, _ in rows],
            columns=["estimate", "low", "high"],
        ),
        **{f"{name}_draws": PerDraw(getattr(linear, name).draws) for name in names},
    }


@paper.experiment(small=Plan(Table(), seeds=1))
def jobs(run: Run, setup: Table) -> Measurements:
    """Job-search workshops, confidence in searching, depression afterwards (JOBS II field experiment)."""
    return effects_in_table(run, setup)


@paper.experiment(
    small=Plan(
        Table(
            dataset="mediation_framing", mediator="emo", levels="anx", outcome="cong_mesg",
            covariates=("age", "educ", "gender", "income"), stratify=(),
        ),
        seeds=1,
    )
)  # fmt: skip
def framing(run: Run, setup: Table) -> Measurements:
    """A newspaper story framed for alarm, negative emotion, messages sent to Congress (media framing experiment)."""
    return effects_in_table(run, setup)


paper.claim(
    "total-from-parts-in-real-tables",
    sheet="PE2 PE6",
    says="Estimates from real tables satisfy the identity, in the table and in each bootstrap resample.",
    where="theorem 3 with corollary 2",
    holds=all_of(equal(jobs["violations"], 0), equal(framing["violations"], 0)),
    because="the identity is of the estimated law as of any other; beyond 1e-12 is more than rounding",
    fidelity={"small": EXACT},
    differences="JOBS II and the framing experiment, of the R package mediation; whether the estimates are causal "
    "rests on assumptions that the tables cannot show",
)


# what is asked --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """Y = X and Z, Z = X: a mediator that is needed, and that the treatment brings along."""

    x: int = 1
    """New value of the treatment."""
    reference: int = 0
    """Reference value of the treatment."""


@paper.experiment(quick=Plan(Gate(), seeds=1), small=Plan(Gate(), seeds=1))
def gate(run: Run, setup: Gate) -> Measurements:
    """Every effect of the AND gate."""
    model = SCM(
        {
            "X": Variable(lambda u: u, noise=Bernoulli(0.5)),
            "Z": Variable(lambda x: x, parents=("X",)),
            "Y": Variable(lambda x, z: x & z, parents=("X", "Z")),
        }
    )
    units = model.enumerate()
    parts = decompose(model, "X", "Y", x=setup.x, reference=setup.reference, units=units)
    controlled = [
        controlled_direct_effect(model, "X", "Y", x=setup.x, reference=setup.reference, mediators={"Z": z}, units=units)
        for z in (0, 1)
    ]

    def exact(effect: Effect) -> Exact:
        return Exact(float(effect.mean))

    return {
        "total": exact(parts.total),
        "direct": exact(parts.natural_direct),
        "indirect": exact(parts.natural_indirect),
        "reverse_indirect": exact(parts.reverse_natural_indirect),
        "controlled_0": exact(controlled[0]),
        "controlled_1": exact(controlled[1]),
    }


paper.claim(
    "and-gate",
    sheet="PE7",
    says="In an AND gate whose mediator copies the treatment, switching on has total effect 1, natural direct and "
    "indirect effect 0 each, and reverse indirect effect −1.",
    where="the example of direct and indirect effects (slide 9 of the talk)",
    reported={
        gate["total"]: Reported(1.0, "seen"),
        gate["direct"]: Reported(0.0, "seen"),
        gate["indirect"]: Reported(0.0, "seen"),
        gate["reverse_indirect"]: Reported(-1.0, "seen"),
    },
    holds=all_of(
        equal(gate["total"], 1),
        equal(gate["direct"], 0),
        equal(gate["indirect"], 0),
        equal(gate["reverse_indirect"], -1),
    ),
    because="a worked example is right in each number",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "controlling-answers-another-question",
    sheet="PE7",
    says="There the controlled direct effect is 0 or 1 as the controller pleases, while the natural one is 0: "
    "everything else the same as it was.",
    where="section 2",
    holds=all_of(
        equal(gate["controlled_0"], 0), equal(gate["controlled_1"], 1), equal(gate["direct"], gate["controlled_0"])
    ),
    because="the two kinds of effect are different questions if one model gives them different answers",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "law-asks-for-the-natural-effect",
    sheet="PE7",
    says="What the law asks in a case of discrimination, whether the employer would have acted alike had the employee "
    "been of another race and everything else the same, is a natural and not a controlled direct effect.",
    where="section 2, Carson v. Bethlehem Steel",
    not_tested=NotTested("not empirical", "a reading of a legal sentence; no computation bears on it"),
)


# paths ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """Random models on the complete graph of X, W, Z, Y, and all 64 choices of active arrows."""

    models: int = 3
    """Number of random binary models whose noise is partly shared."""
    linear: int = 1000
    """Number of random linear models."""


KITE: dict[str, tuple[str, ...]] = {"X": (), "W": ("X",), "Z": ("X", "W"), "Y": ("X", "W", "Z")}
ARROWS = [(parent, child) for child, parents in KITE.items() for parent in parents]


@paper.experiment(quick=Plan(Paths(), seeds=1), small=Plan(Paths(100, 100_000), seeds=1))
def paths(run: Run, setup: Paths) -> Measurements:
    """Path-specific effects against the model that the definition describes, written out with both worlds in it."""
    generator = run.generator("models")
    wrong = special = chains = 0
    for _ in range(setup.models):
        functions: dict[str, Callable[..., Tensor]] = {}
        for name, parents in KITE.items():
            answers = torch.randint(2, (2,) * (len(parents) + 2), generator=generator)
            functions[name] = lambda *bits, answers=answers: answers[bits]
        sources = {f"U_{name}": Bernoulli(float(torch.rand((), generator=generator))) for name in KITE}
        sources["shared"] = Bernoulli(0.5)
        reads = {name: (f"U_{name}", "shared") for name in KITE}
        model = SCM({name: Variable(functions[name], KITE[name], reads[name]) for name in KITE}, sources)
        units = model.enumerate()

        def effect(active: Sequence[tuple[str, str]], model: SCM = model, units: Units = units) -> Tensor:
            return path_specific_effect(model, "X", "Y", x=1, reference=0, active=active, units=units).per_unit

        for size in range(len(ARROWS) + 1):
            for active in itertools.combinations(ARROWS, size):
                written_out = _both_worlds(functions, reads, sources, active)
                worlds = written_out.solve(units, {"X": 1, "X*": 0})
                wrong += not torch.equal(effect(active), (worlds["Y"] - worlds["Y*"]).double())
        question: dict[str, Any] = {"x": 1, "reference": 0, "units": units}
        special += not torch.equal(effect(ARROWS), total_effect(model, "X", "Y", **question).per_unit)
        special += not torch.equal(effect([("X", "Y")]), natural_direct_effect(model, "X", "Y", **question).per_unit)
        rest = [arrow for arrow in ARROWS if arrow != ("X", "Y")]
        special += not torch.equal(effect(rest), natural_indirect_effect(model, "X", "Y", **question).per_unit)
        chain = [("X", "W"), ("W", "Z"), ("Z", "Y")]
        chains += sum(bool(effect([a for a in chain if a != cut]).any()) for cut in chain)
    return {
        "violations": Exact(wrong),
        "special_violations": Exact(special),
        "leaks": Exact(chains),
        "linear_violations": Exact(_linear_paths(setup.linear, generator)),
    }


def _both_worlds(
    functions: Mapping[str, Callable[..., Tensor]],
    reads: Mapping[str, tuple[str, ...]],
    sources: Mapping[str, Noise],
    active: Sequence[tuple[str, str]],
) -> SCM:
    """The reference world (starred) and the world of the definition in one model, on the same noise."""
    variables = {}
    for name, parents in KITE.items():
        starred = tuple(f"{parent}*" for parent in parents)
        mixed = tuple(parent if (parent, name) in active else f"{parent}*" for parent in parents)
        variables[f"{name}*"] = Variable(functions[name], starred, reads[name])
        variables[name] = Variable(functions[name], mixed, reads[name])
    return SCM(variables, sources)


def _linear_paths(models: int, generator: torch.Generator) -> int:
    """Linear models in which a path does not transmit the product of its slopes, or paths do not sum to the total."""
    slope = {arrow: torch.randn(models, generator=generator, dtype=torch.float64) for arrow in ARROWS}

    def linear(name: str) -> Variable:
        def function(*values: Tensor) -> Tensor:
            return sum((slope[p, name] * v for p, v in zip(KITE[name], values, strict=True)), torch.zeros(1, models))

        return Variable(function, KITE[name])

    model = SCM({name: linear(name) for name in KITE})
    units = model.enumerate()
    routes = [("X", "Y"), ("X", "W", "Y"), ("X", "Z", "Y"), ("X", "W", "Z", "Y")]
    question: dict[str, Any] = {
        "x": torch.ones(1, models).double(),
        "reference": torch.zeros(1, models).double(),
        "units": units,
    }
    wrong = torch.zeros(models, dtype=torch.bool)
    total = torch.zeros(models, dtype=torch.float64)
    for route in routes:
        found = path_specific_effect(model, "X", "Y", active=along(route), **question).mean
        product = torch.stack([slope[arrow] for arrow in itertools.pairwise(route)]).prod(0)
        wrong |= (found - product).abs() > 1e-9
        total += found
    wrong |= (total - total_effect(model, "X", "Y", **question).mean).abs() > 1e-9
    return int(wrong.sum())


paper.claim(
    "paths-generalise-both",
    sheet="PE8",
    says="Effects along chosen arrows include the others: all arrows give the total effect, the direct arrow alone the "
    "natural direct effect, all but it the natural indirect effect; and a chain with one arrow out transmits nothing.",
    where="section 4",
    holds=all_of(equal(paths["special_violations"], 0), equal(paths["leaks"], 0)),
    because="special cases of a definition hold at every unit, or they are none",
    fidelity={"quick": EXACT, "small": EXACT},
)

paper.claim(
    "paths-need-nothing-held",
    sheet="PE8",
    says="The effect along any set of arrows is a contrast between two worlds of one model in which nothing off these "
    "arrows is controlled: each variable sees its other parents as they were.",
    where="section 4, the definition of the g-specific effect",
    holds=all_of(equal(paths["violations"], 0), equal(paths["linear_violations"], 0)),
    because="for all 64 sets of arrows, unit by unit, against the definition written out as a model; and against "
    "products of slopes in linear models",
    fidelity={"quick": EXACT, "small": EXACT},
)


# figures --------------------------------------------------------------------------------------------------------------


@paper.figure(
    sampling,
    title="One treatment, two routes",
    caption="The model behind the samples: the treatment's natural direct effect on its own arrow, its natural "
    "indirect effect along the two arrows through the mediator. The total is the direct effect minus the indirect "
    "effect of the way back; with an interaction it is not the sum of the two. The confounder of all three is not "
    "drawn.",
)
def routes(results: Results) -> Any:
    """The graph with its effects."""
    from claimwise.lab.figures import COLOURS, GROUND, INK, MUTED, figure

    stored = results[sampling]
    total, direct, indirect = (float(stored[f"true_{name}"][0]) for name in ("total", "direct", "indirect"))
    fig, axes = figure(4.4, 3.3)
    axes.set(xlim=(0, 10), ylim=(-0.9, 6.6))
    axes.set_axis_off()
    places = {"X": (1.1, 2.2), "Z": (5, 5.6), "Y": (8.9, 2.2)}
    labels = {"X": "treatment", "Z": "mediator", "Y": "outcome"}
    for start, end, colour in (("X", "Z", COLOURS.orange), ("Z", "Y", COLOURS.orange), ("X", "Y", COLOURS.blue)):
        axes.annotate(
            "", places[end], places[start],
            arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.2, "shrinkA": 17, "shrinkB": 17},
        )  # fmt: skip
    for name, (x, y) in places.items():
        axes.plot(x, y, "o", markersize=27, markerfacecolor=GROUND, markeredgecolor=INK, markeredgewidth=1.2)
        axes.text(x, y, name, ha="center", va="center", fontsize=12, fontweight="bold")
        axes.text(x, y - 0.95, labels[name], ha="center", va="top", fontsize=9, color=MUTED)
    axes.text(5, 2.45, f"direct {direct:+.3f}", ha="center", va="bottom", color=COLOURS.blue, fontsize=10.5)
    axes.text(2.3, 4.5, f"indirect {indirect:+.3f}", ha="right", va="center", color=COLOURS.orange, fontsize=10.5)
    back = direct - total  # theorem 3
    lines = [
        f"total {total:+.3f}",
        f"= direct {direct:+.3f} − indirect of the way back ({back:+.3f})".replace("-", "−"),
        f"≠ direct {direct:+.3f} + indirect {indirect:+.3f}",
    ]
    axes.text(5, 0.1, "\n".join(lines), ha="center", va="center", fontsize=9.5, linespacing=1.45)
    return fig


@paper.figure(
    interaction,
    title="The parts add up only without interaction",
    caption="Y = X + Z + γXZ, Z = X, from 0 to 1. What is missing between the sum of direct and indirect effect and "
    "the total is γ.",
)
def gap(results: Results) -> Any:
    """Total against the sum of its parts."""
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[interaction]
    strengths = stored.x("total")
    total, parts = stored["total"][0], stored["sum_of_parts"][0]
    fig, axes = figure()
    axes.fill_between(strengths, parts, total, color=COLOURS.amber, alpha=0.25, linewidth=0)
    axes.plot(strengths, total, color=COLOURS.blue)
    axes.plot(strengths, parts, color=COLOURS.orange)
    axes.text(strengths[5], total[5] + 0.12, "total", color=COLOURS.blue, ha="right", fontsize=10)
    axes.text(
        strengths[-1], parts[-1] - 0.1, "direct + indirect", color=COLOURS.orange, ha="right", va="top", fontsize=10
    )
    axes.text(strengths[6], (total[6] + parts[6]) / 2, "gap = γ", color=INK, ha="center", fontsize=10)
    axes.set(xlabel="interaction strength γ", ylabel="effect on Y", ylim=(0, None))
    return fig


@paper.figure(
    sampling,
    title="Controlled direct effects, and the natural one between them",
    caption="Holding the mediator at 0 or at 1 gives different direct effects. The natural one weighs them, within "
    "each level of the confounder, by how units' own mediators are under the reference.",
)
def controlled(results: Results) -> Any:
    """CDE by z beside NDE."""
    from claimwise.lab.figures import COLOURS, figure

    stored = results[sampling]
    names = ("true_controlled_0", "true_direct", "true_controlled_1")
    values = [float(stored[name][0]) for name in names]
    fig, axes = figure(4.4, 2.6)
    bars = axes.barh(range(3), values, color=[COLOURS.grey, COLOURS.blue, COLOURS.grey], height=0.62)
    axes.bar_label(bars, labels=[f"{value:.3f}" for value in values], padding=4, fontsize=10)
    axes.set_yticks(range(3), ["mediator held at 0", "each unit's own", "mediator held at 1"], fontsize=10)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="direct effect on P(Y = 1)", xlim=(0, 1.18 * max(values)))
    return fig


@paper.figure(
    laboratories,
    title="Equal in every experiment, different in their natural direct effect",
    caption="Three models in which every intervention on treatment and mediator has the same law. The formula must "
    "give them one number; it is right for the model with independent noise.",
)
def indistinguishable(results: Results) -> Any:
    """NDE of three models, with what the formula says."""
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[laboratories]
    names = ("equal", "independent", "opposite")
    values = [float(stored[f"direct_{name}"][0]) for name in names]
    formula = float(stored["formula_independent"][0])
    fig, axes = figure(4.4, 2.6)
    axes.axhline(formula, color=COLOURS.orange, linewidth=1.8)
    axes.plot(range(3), values, "o", color=COLOURS.blue, markersize=9)
    for i, value in enumerate(values):
        axes.annotate(f"{value:g}", (i, value), (9, 8), textcoords="offset points", va="center", fontsize=10, color=INK)
    axes.text(2.42, formula + 0.04, "formula", color=COLOURS.orange, ha="right", fontsize=10)
    axes.set_xticks(range(3), [f"{name}\nnoise" for name in names], fontsize=10)
    axes.set(ylabel="natural direct effect", xlim=(-0.5, 2.5), ylim=(-0.12, 1.14))
    return fig


@paper.figure(
    sampling,
    title="Estimates over repeated samples",
    caption="Each sample gives one estimate of the natural direct effect. Leaving the confounder out shifts them all, "
    "and no number of samples mends it.",
)
def estimates(results: Results) -> Any:
    """Distribution of estimates with and without the confounder."""
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[sampling]
    truth = float(stored["true_direct"][0])
    series = [
        ("with the confounder", stored["direct_estimates"].ravel(), COLOURS.blue),
        ("without", stored["unadjusted_estimates"].ravel(), COLOURS.orange),
    ]
    edges = np.histogram_bin_edges(np.concatenate([values for _, values, _ in series]), 30)
    fig, axes = figure(4.4, 2.9)
    for label, values, colour in series:
        axes.hist(values, edges, color=colour, alpha=0.55, label=label)
    axes.axvline(truth, color=INK, linewidth=1.4)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.32 * top)
    axes.text(truth, 1.02 * top, "truth ", color=INK, fontsize=10, va="bottom", ha="right")
    axes.legend(loc="upper right", ncols=1)
    axes.set(xlabel="estimated natural direct effect", ylabel="samples")
    return fig


@paper.figure(
    jobs,
    title="Job-search workshops and depression: effects over bootstrap resamples",
    caption="JOBS II: effect of the workshop on depressive symptoms (scale 1 to 5), and the part through confidence in "
    "job search. Linear mediation formula with interaction and nine covariates; bars are 95 % bootstrap intervals.",
)
def workshops(results: Results) -> Any:
    """Bootstrap distributions on the jobs table."""
    from claimwise.lab.figures import COLOURS, INK, figure

    stored = results[jobs]
    fig, axes = figure(4.4, 3.2, 3, 1, sharex=True)
    rows = [("total", "total", COLOURS.grey), ("direct", "natural_direct", COLOURS.blue),
            ("indirect", "natural_indirect", COLOURS.orange)]  # fmt: skip
    for panel, (label, name, colour) in zip(axes, rows, strict=True):
        estimate, low, high = stored["effects"][0][stored.rows("effects").index(f"{name}, linear")]
        panel.hist(stored[f"{name}_draws"][0], 60, color=colour, alpha=0.5)
        top = panel.get_ylim()[1]
        panel.plot([low, high], [1.12 * top] * 2, color=INK, linewidth=2.2)
        panel.plot(estimate, 1.12 * top, "o", color=INK)
        panel.axvline(0, color=INK, linewidth=0.9, linestyle=":")
        panel.set(yticks=[], ylim=(0, 1.3 * top))
        panel.spines["left"].set_visible(False)
        panel.set_ylabel(label, rotation=0, ha="right", va="center", color=colour, fontsize=10)
    axes[-1].set_xlabel("change of depressive symptoms")
    return fig

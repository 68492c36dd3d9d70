"""Direct and indirect effects: structural causal models, counterfactuals, and estimation from one's own table.

Three ways to an effect, by how much is known:

- the model and a finite background: exact, ``units=model.enumerate()``;
- the model: Monte Carlo with the same draws in every world, ``units=model.sample(draws, generator=...)``;
- a table of observations: :func:`mediation_formula`, under the assumptions that :func:`identifiable` tests on a graph.
"""

from claimwise.causal.bootstrap import Estimate
from claimwise.causal.causal_graph import CausalGraph
from claimwise.causal.controlled_direct_effect import controlled_direct_effect
from claimwise.causal.decomposition import Decomposition, decompose
from claimwise.causal.effect import Effect
from claimwise.causal.identification import NaturalEffects, experimental_formula, identifiable
from claimwise.causal.mediation_formula import MediationEstimates, mediation_formula
from claimwise.causal.natural_direct_effect import natural_direct_effect
from claimwise.causal.natural_indirect_effect import natural_indirect_effect
from claimwise.causal.noise import Bernoulli, Draws, Finite, Noise, Normal
from claimwise.causal.path_specific_effect import along, path_specific_effect
from claimwise.causal.structural_model import SCM, Counterfactual, Units, Variable
from claimwise.causal.total_effect import total_effect

__all__ = [
    "SCM",
    "Bernoulli",
    "CausalGraph",
    "Counterfactual",
    "Decomposition",
    "Draws",
    "Effect",
    "Estimate",
    "Finite",
    "MediationEstimates",
    "NaturalEffects",
    "Noise",
    "Normal",
    "Units",
    "Variable",
    "along",
    "controlled_direct_effect",
    "decompose",
    "experimental_formula",
    "identifiable",
    "mediation_formula",
    "natural_direct_effect",
    "natural_indirect_effect",
    "path_specific_effect",
    "total_effect",
]

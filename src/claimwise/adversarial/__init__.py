"""Adversarial examples: make them, train against them, measure what they do, on one's own model and data.

After I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015,
https://arxiv.org/abs/1412.6572.
"""

from claimwise.adversarial.adversarial_training import AdversarialObjective
from claimwise.adversarial.box_lbfgs import BoxLBFGS, box_lbfgs
from claimwise.adversarial.contrast_normalisation import ContrastNormalisation
from claimwise.adversarial.cppn import CPPNEncoding, CPPNGenomes
from claimwise.adversarial.direct_encoding import DirectEncoding
from claimwise.adversarial.epsilon_sweep import logits_along
from claimwise.adversarial.fast_gradient_sign import fgsm, fgsm_direction
from claimwise.adversarial.fooling_ascent import Ascent, fooling_ascent
from claimwise.adversarial.fooling_class import add_fooling_class, with_extra_class
from claimwise.adversarial.genomes import Encoding
from claimwise.adversarial.hsv import hsv_to_rgb
from claimwise.adversarial.linear_worst_case import LinearWorstCase, adversarial_logistic_loss, linear_worst_case
from claimwise.adversarial.lipschitz import (
    LayerBound,
    LipschitzBound,
    LocalLipschitz,
    lipschitz_bound,
    local_lipschitz,
)
from claimwise.adversarial.localisation import hoyer_sparsity
from claimwise.adversarial.map_elites import Elites, MapElites, class_probabilities, fool
from claimwise.adversarial.maxout import Maxout, MaxoutConv2d, max_col_norm_, maxout_network
from claimwise.adversarial.mistakes import Mistakes, mistakes
from claimwise.adversarial.noise import sign_noise, uniform_noise
from claimwise.adversarial.operator_norms import cap_operator_norm_, operator_norm
from claimwise.adversarial.pattern import Periodicity, mask_copies, mirror_symmetry, periodicity
from claimwise.adversarial.rbf import RBFClassifier, rbf_loss
from claimwise.adversarial.rubbish import RubbishError, fooling_images, rubbish, rubbish_error
from claimwise.adversarial.transfer import Agreement, TransferMatrix, agreement_on_mistakes, transfer_matrix
from claimwise.adversarial.transfer_study import TransferStudy, transfer_study
from claimwise.undisturbed import undisturbed

__all__ = [
    "AdversarialObjective",
    "Agreement",
    "Ascent",
    "BoxLBFGS",
    "CPPNEncoding",
    "CPPNGenomes",
    "ContrastNormalisation",
    "DirectEncoding",
    "Elites",
    "Encoding",
    "LayerBound",
    "LinearWorstCase",
    "LipschitzBound",
    "LocalLipschitz",
    "MapElites",
    "Maxout",
    "MaxoutConv2d",
    "Mistakes",
    "Periodicity",
    "RBFClassifier",
    "RubbishError",
    "TransferMatrix",
    "TransferStudy",
    "add_fooling_class",
    "adversarial_logistic_loss",
    "agreement_on_mistakes",
    "box_lbfgs",
    "cap_operator_norm_",
    "class_probabilities",
    "fgsm",
    "fgsm_direction",
    "fool",
    "fooling_ascent",
    "fooling_images",
    "hoyer_sparsity",
    "hsv_to_rgb",
    "linear_worst_case",
    "lipschitz_bound",
    "local_lipschitz",
    "logits_along",
    "mask_copies",
    "max_col_norm_",
    "maxout_network",
    "mirror_symmetry",
    "mistakes",
    "operator_norm",
    "periodicity",
    "rbf_loss",
    "rubbish",
    "rubbish_error",
    "sign_noise",
    "transfer_matrix",
    "transfer_study",
    "undisturbed",
    "uniform_noise",
    "with_extra_class",
]

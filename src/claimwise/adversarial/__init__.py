"""Adversarial examples: make them, train against them, measure what they do, on one's own model and data.

After I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015,
https://arxiv.org/abs/1412.6572.
"""

from claimwise.adversarial.adversarial_training import AdversarialObjective
from claimwise.adversarial.epsilon_sweep import logits_along
from claimwise.adversarial.fast_gradient_sign import fgsm, fgsm_direction
from claimwise.adversarial.linear_worst_case import LinearWorstCase, adversarial_logistic_loss, linear_worst_case
from claimwise.adversarial.localisation import hoyer_sparsity
from claimwise.adversarial.maxout import Maxout, MaxoutConv2d, max_col_norm_, maxout_network
from claimwise.adversarial.mistakes import Mistakes, mistakes
from claimwise.adversarial.noise import sign_noise, uniform_noise
from claimwise.adversarial.rbf import RBFClassifier, rbf_loss
from claimwise.adversarial.rubbish import RubbishError, fooling_images, rubbish, rubbish_error
from claimwise.adversarial.transfer import Agreement, TransferMatrix, agreement_on_mistakes, transfer_matrix
from claimwise.adversarial.undisturbed import undisturbed

__all__ = [
    "AdversarialObjective",
    "Agreement",
    "LinearWorstCase",
    "Maxout",
    "MaxoutConv2d",
    "Mistakes",
    "RBFClassifier",
    "RubbishError",
    "TransferMatrix",
    "adversarial_logistic_loss",
    "agreement_on_mistakes",
    "fgsm",
    "fgsm_direction",
    "fooling_images",
    "hoyer_sparsity",
    "linear_worst_case",
    "logits_along",
    "max_col_norm_",
    "maxout_network",
    "mistakes",
    "rbf_loss",
    "rubbish",
    "rubbish_error",
    "sign_noise",
    "transfer_matrix",
    "undisturbed",
    "uniform_noise",
]

"""Seeing what a network sees: projections of activations, gradients, occlusion and directions, on one's own model."""

from claimwise.explain.correspondence import Correspondence, correspondence
from claimwise.explain.deconvnet import deconvnet
from claimwise.explain.gradients import gradient_saliency, guided_backpropagation
from claimwise.explain.layers_by_name import find_layer, record
from claimwise.explain.natural_basis import (
    Purity,
    StrongestImages,
    maximise,
    mean_similarity,
    purity,
    random_directions,
    strongest_images,
)
from claimwise.explain.occlusion import OcclusionMaps, occlusion
from claimwise.explain.strongest_activations import StrongestActivations, strongest_activations

__all__ = [
    "Correspondence",
    "OcclusionMaps",
    "Purity",
    "StrongestActivations",
    "StrongestImages",
    "correspondence",
    "deconvnet",
    "find_layer",
    "gradient_saliency",
    "guided_backpropagation",
    "maximise",
    "mean_similarity",
    "occlusion",
    "purity",
    "random_directions",
    "record",
    "strongest_activations",
    "strongest_images",
]

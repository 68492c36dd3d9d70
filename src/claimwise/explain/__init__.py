"""Seeing what a network sees: projections of activations, gradients, occlusion and directions, on one's own model."""

from claimwise.explain.deconvnet import deconvnet
from claimwise.explain.gradients import gradient_saliency, guided_backpropagation
from claimwise.explain.layers_by_name import find_layer, record

__all__ = [
    "deconvnet",
    "find_layer",
    "gradient_saliency",
    "guided_backpropagation",
    "record",
]

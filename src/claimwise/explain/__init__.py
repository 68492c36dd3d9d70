"""Seeing what a network sees: projections of activations, gradients, occlusion and directions, on one's own model."""

from claimwise.explain.layers_by_name import find_layer, record

__all__ = ["find_layer", "record"]

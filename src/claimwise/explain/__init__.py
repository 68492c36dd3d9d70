"""Seeing what a network sees: projections of activations, gradients, occlusion and directions, on one's own model."""

__all__: list[str] = []

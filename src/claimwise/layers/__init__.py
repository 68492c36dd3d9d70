"""Layers for very deep networks, rectifiers and their initial weights, fixed kernels, scale space and pooling."""

__all__: list[str] = []

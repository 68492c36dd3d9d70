"""Experiments that several papers need, e.g. trained source networks, one module each; used by ``run.needs``."""

import subprocess
import sys

import pytest
import torch

from claimwise.recurrent import GRU, LSTM, RNN

COMPILES = """
import torch
from claimwise.recurrent import GRU, LSTM, RNN
for module in (LSTM(2, 4, variant="FGR", cells_per_block=2), GRU(2, 3, form="reset-before"), RNN(2, 3)):
    x = torch.randn(2, 2, 2)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x)[0], module(x)[0], atol=1e-6)
print("compiled")
"""


def test_one_graph_for_a_compiler():
    """In a process of its own: the signature checks that tests install are what a compiler cannot follow."""
    done = subprocess.run([sys.executable, "-c", COMPILES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "compiled", done.stderr


@pytest.mark.parametrize(("layer", "numbers"), [(LSTM, 6), (GRU, 5), (RNN, 1)])
def test_memory_is_what_the_documentation_says(layer, numbers):
    """Numbers kept for the way back a unit, step and sequence, beside the input."""
    kept = {}

    def keep(tensor):
        if len(tensor) == 640:  # not parameters and states
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(8, 8)(torch.randn(20, 32, 8))
    assert sum(kept.values()) == (numbers + 1) * 640 * 8

from itertools import pairwise

import pytest
import torch
from torch import nn

from claimwise.vision import VGG, parameter_counts


def test_counts_by_layer_against_the_arithmetic_of_table_1():
    counts = parameter_counts(VGG("A", device="meta"))
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    expected = [(9 * i * o, o) for i, o in pairwise(channels)]
    expected += [(512 * 49 * 4096, 4096), (4096 * 4096, 4096), (4096 * 1000, 1000)]
    assert [(layer.weights, layer.biases) for layer in counts.layers] == expected
    assert counts.weights == sum(w for w, _ in expected)
    assert counts.biases == sum(b for _, b in expected)
    assert counts.total == counts.weights + counts.biases == sum(layer.total for layer in counts.layers)
    assert counts.layers[0].name == "features.0"
    assert counts.layers[-1].kind == "Linear"


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU()),
        nn.LSTM(3, 5, num_layers=2, bidirectional=True),
        nn.MultiheadAttention(8, 2),
        nn.TransformerEncoderLayer(8, 2),
        nn.Bilinear(2, 3, 4),
        nn.Embedding(10, 3),
        nn.ReLU(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_total_of_any_module(model):
    counts = parameter_counts(model)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.biases == sum(p.numel() for name, p in model.named_parameters() if "bias" in name)


def test_a_shared_parameter_counts_once():
    tied = nn.ModuleDict({"embed": nn.Embedding(10, 3), "score": nn.Linear(3, 10)})
    tied["score"].weight = tied["embed"].weight
    counts = parameter_counts(tied)
    assert counts.total == 30 + 10
    assert [layer.name for layer in counts.layers] == ["embed", "score"]
    assert counts.layers[1].weights == 0
    same = nn.Linear(2, 2)
    assert parameter_counts(nn.Sequential(same, same)).total == 6


def test_a_parameter_of_the_module_itself_is_listed():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

    assert [(layer.name, layer.kind, layer.weights) for layer in parameter_counts(Scale()).layers] == [("", "Scale", 3)]


def test_prints_a_table_with_its_total():
    lines = str(parameter_counts(nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 2)))).splitlines()
    assert lines[0].split() == ["0", "Linear", "1,000,000", "1,000"]
    assert lines[-1].split() == ["total", "1,002,000", "1,002"]
    assert len({len(line) for line in lines}) == 1


def test_refuses_a_layer_without_shape():
    with pytest.raises(ValueError, match=r"parameter_counts: 0\.weight has no shape yet; run the model on one batch"):
        parameter_counts(nn.Sequential(nn.LazyLinear(3)))

"""Modules of every topic under torch's own compiler: same outputs, same gradients. Needs a C++ compiler; minutes."""

import shutil

import pytest
import torch
from torch import nn

from claimwise.adversarial import maxout_network
from claimwise.layers import HighwayStack, PReLU
from claimwise.recurrent import GRU, LSTM, RNN, GatedFeedback
from claimwise.vision import LeNet

IMAGES = (2, 1, 28, 28)
SEQUENCES = (5, 3, 4)
CASES = {
    "adversarial": (lambda: maxout_network(6, 3, hidden=(8, 8), pieces=2), (4, 6)),
    "layers, a stack": (lambda: HighwayStack(6, 4), (3, 6)),
    "layers, a rectifier": (lambda: nn.Sequential(nn.Linear(6, 5), PReLU(5), nn.Linear(5, 2)), (3, 6)),
    "recurrent, vanilla": (lambda: LSTM(4, 6), SEQUENCES),
    "recurrent, without peepholes": (lambda: LSTM(4, 6, variant="NP", bidirectional=True), SEQUENCES),
    "recurrent, reset before": (lambda: GRU(4, 6, form="reset-before"), SEQUENCES),
    "recurrent, plain": (lambda: RNN(4, 6), SEQUENCES),
    "recurrent, gated feedback": (lambda: GatedFeedback(4, 6, 2, cell="gru"), SEQUENCES),
    "vision, LeNet": (lambda: LeNet(10), IMAGES),
}


@pytest.mark.long
@pytest.mark.usefixtures("unchecked")
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", CASES)
def test_compiled_is_equal(name):
    build, shape = CASES[name]
    torch.manual_seed(0)
    model = build().eval()
    x = torch.randn(shape)

    def outcome(module):
        given = x.clone().requires_grad_()
        output = module(given)
        output = output[0] if isinstance(output, tuple) else output
        (weight, *_) = (parameter for parameter in model.parameters() if parameter.requires_grad)
        return output, *torch.autograd.grad(output.square().sum(), [given, weight])

    for plain, compiled in zip(outcome(model), outcome(torch.compile(model, backend="inductor")), strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)

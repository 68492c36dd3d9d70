import pytest
import torch
from torch import nn

from claimwise.recurrent import GRU, LSTM, RNN, GatedFeedback, recurrent_connections

PLAIN = {
    "torch RNN": lambda: nn.RNN(2, 3, 3),
    "torch GRU batch first": lambda: nn.GRU(2, 3, 3, batch_first=True),
    "torch LSTM": lambda: nn.LSTM(2, 3, 3),
    "RNN": lambda: RNN(2, 3, 3),
    "GRU": lambda: GRU(2, 3, 3),
    "GRU reset before": lambda: GRU(2, 3, 3, form="reset-before"),
    "LSTM": lambda: LSTM(2, 3, 3),
    "LSTM with gate recurrence": lambda: LSTM(2, 3, 3, variant="FGR"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_in_a_plain_stack_a_layer_sees_its_own_last_state_only(name):
    torch.manual_seed(0)
    stack = PLAIN[name]()
    assert (recurrent_connections(stack) > 0).equal(torch.eye(3, dtype=torch.bool))
    assert (recurrent_connections(stack, direct=False) > 0).equal(torch.ones(3, 3, dtype=torch.bool).tril())


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("gated", [True, False])
def test_with_gated_feedback_every_layer_sees_all(cell, gated):
    torch.manual_seed(0)
    stack = GatedFeedback(2, 3, 3, cell, gated=gated)
    assert (recurrent_connections(stack) > 0).all()
    with torch.no_grad():
        stack.feedback(2, 0).zero_()
        if gated:  # the gates of all that feeds layer 0 see layer 2 as well
            stack.weight_gate_hh[0, :, 6:] = 0
    mask = torch.ones(3, 3, dtype=torch.bool)
    mask[0, 2] = False
    assert (recurrent_connections(stack) > 0).equal(mask)


def test_is_the_norm_of_the_jacobian():
    torch.manual_seed(0)
    stack = nn.LSTM(2, 3, 2).double()
    found = recurrent_connections(stack, direct=False, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    x, h, c = (
        2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1 for shape in ((1, 2), (2, 1, 3), (2, 1, 3))
    )
    jacobians = torch.autograd.functional.jacobian(lambda h, c: stack(x.unsqueeze(0), (h, c))[1], (h, c))
    expected = torch.zeros(2, 2, dtype=torch.float64)
    for blocks in jacobians:
        for block in blocks:  # (target, 1, 3, source, 1, 3)
            expected += block.square().sum((1, 2, 4, 5))
    assert torch.allclose(found, expected.sqrt(), rtol=1e-10)


def test_leaves_the_module_as_it_was():
    torch.manual_seed(0)
    stack = nn.GRU(2, 3, 2, dropout=0.5)
    before, random = [p.clone() for p in stack.parameters()], torch.get_rng_state()
    first = recurrent_connections(stack)
    assert recurrent_connections(stack).equal(first)
    assert torch.get_rng_state().equal(random)
    assert stack.training
    assert all(
        p.equal(q) and p.requires_grad and p.grad is None for p, q in zip(stack.parameters(), before, strict=True)
    )


def test_refuses():
    with pytest.raises(TypeError, match="with input_size, got Linear"):
        recurrent_connections(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="got a bidirectional one"):
        recurrent_connections(nn.GRU(2, 3, bidirectional=True))

    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_size = 2
            self.layers = nn.ModuleList([nn.RNN(2, 3), nn.RNN(3, 3)])

        def forward(self, x, state):
            first, second = (None, None) if state is None else state.unsqueeze(1)
            x, first = self.layers[0](x, first)
            x, second = self.layers[1](x, second)
            return x, torch.cat([first, second])

    assert (recurrent_connections(Renamed(), direct=False) > 0).equal(torch.tensor([[True, False], [True, True]]))
    with pytest.raises(ValueError, match="found 0 in Renamed; use direct=False"):
        recurrent_connections(Renamed())

import pytest
import torch
from torch import nn

from claimwise.explain import find_layer, record


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten())


class Reuse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act, self.idle = nn.Linear(3, 3), nn.Linear(3, 2), nn.ReLU(), nn.Tanh()
        self.memory = nn.LSTM(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.memory(self.act(self.second(self.act(self.first(x)))))[0]


def test_find_by_name_and_by_module():
    model = nn.Sequential(small(), nn.Linear(2, 2))
    assert find_layer(model, "0.1") is model[0][1]
    assert find_layer(model, model[0][1]) is model[0][1]
    assert find_layer(model, "") is model


def test_unknown_name_lists_near_ones():
    with pytest.raises(ValueError, match=r"Reuse has no layer 'secnd'; nearest: 'second'"):
        find_layer(Reuse(), "secnd")
    with pytest.raises(ValueError, match=r"has no layer 'zzz'; its layers: '0'"):
        find_layer(small(), "zzz")
    with pytest.raises(ValueError, match="it has no layers"):
        find_layer(nn.ReLU(), "0")


def test_foreign_module_and_wrong_types():
    with pytest.raises(ValueError, match="is not a module of the Sequential"):
        find_layer(small(), small()[0])
    with pytest.raises(ValueError, match="record: Sequential has no layer"):
        record(small(), "nope", torch.ones(1, 1, 5, 5))
    with pytest.raises(ValueError, match="at least one"):
        record(small(), [], torch.ones(1, 1, 5, 5))


def test_record_is_what_the_layers_put_out_before_an_in_place_rectifier():
    model = small().eval()
    x = torch.randn(2, 1, 5, 5)
    found = record(model, ["1", model[2]], x)
    before = model[1](model[0](x))
    torch.testing.assert_close(found["1"], before)
    assert (found["1"] < 0).any()
    torch.testing.assert_close(found["2"], before.relu())


def test_record_leaves_the_model_alone_also_after_an_exception():
    model = small().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    record(model, "0", torch.randn(4, 1, 5, 5))
    with pytest.raises(RuntimeError):
        record(model, "0", torch.randn(4, 9, 5, 5))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_as_is_moves_statistics():
    model = small().train()
    record(model, "0", torch.randn(4, 1, 5, 5), mode="as-is")
    assert int(model[1].num_batches_tracked) == 1


def test_reused_module_must_be_told_apart():
    model = Reuse()
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"'act' \(ReLU\) ran 2 times .* call=0..1"):
        record(model, "act", x)
    torch.testing.assert_close(record(model, "act", x, call=0)["act"], model.first(x).relu())
    torch.testing.assert_close(record(model, "act", x, call=1)["act"], model.second(model.first(x).relu()).relu())
    with pytest.raises(ValueError, match="ran 2 times in one pass, got call=2"):
        record(model, "act", x, call=2)
    with pytest.raises(ValueError, match="call must be >= 0"):
        record(model, "act", x, call=-1)


def test_idle_layer_and_tuple_output_are_refused():
    with pytest.raises(ValueError, match=r"'idle' \(Tanh\) did not run"):
        record(Reuse(), "idle", torch.randn(2, 3))
    with pytest.raises(TypeError, match="'memory' must put out one tensor, got tuple"):
        record(Reuse(), "memory", torch.randn(2, 3))


def test_gradients_flow_where_enabled():
    model = small()
    x = torch.randn(1, 1, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(record(model, "0", x)["0"].sum(), x)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        assert not record(model, "0", x)["0"].requires_grad

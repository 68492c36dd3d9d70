import pytest
import torch
from torch import nn

from claimwise.undisturbed import undisturbed


class Counter(nn.Module):
    """A module that counts its calls in eval mode too, once in place and once by rebinding."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("rebound", torch.zeros(()), persistent=False)
        self.register_buffer("absent", None)

    def forward(self, x):
        self.in_place += 1
        self.rebound = self.rebound + 1
        return x


def test_restores_modes_of_every_module_and_buffers():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(Counter(), nn.Dropout()))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    counter = model[1][0]
    in_place, rebound = counter.in_place, counter.rebound
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        model(torch.zeros(1))
        assert counter.in_place == counter.rebound == 1
    assert [module.training for module in model.modules()] == modes
    assert counter.in_place is in_place
    assert counter.rebound is rebound
    assert counter.in_place == counter.rebound == 0


def test_restores_after_an_exception():
    model = nn.Sequential(Counter())
    with pytest.raises(ZeroDivisionError), undisturbed(model):
        _ = model(torch.zeros(1)) / (1 // 0)
    assert model.training
    assert model[0].in_place == 0


def test_an_unchanged_buffer_is_not_written():
    model = nn.BatchNorm1d(2)
    loss = model(torch.rand(4, 2)).sum()  # the graph saved nothing of eval mode, but versions must not move
    versions = [buffer._version for buffer in model.buffers()]
    with undisturbed(model):
        model(torch.rand(4, 2))
    assert [buffer._version for buffer in model.buffers()] == versions
    loss.backward()


def test_uses_a_modules_own_train():
    class Merges(nn.Module):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = Merges()
    with undisturbed(model):
        assert model.merged
    assert not model.merged


def test_as_is_does_nothing():
    model = nn.Sequential(Counter())
    with undisturbed(model, "as-is"):
        assert model.training
        model(torch.zeros(1))
    assert model[0].in_place == 1


def test_inference_tensors_as_buffers():
    with torch.inference_mode():
        model = Counter()
        with undisturbed(model):
            model(torch.zeros(1))
        assert model.in_place == 0


@pytest.mark.usefixtures("unchecked")
def test_refuses_another_mode():
    with (
        pytest.raises(ValueError, match="mode must be 'eval' or 'as-is', got 'train'"),
        undisturbed(nn.ReLU(), "train"),
    ):
        pass

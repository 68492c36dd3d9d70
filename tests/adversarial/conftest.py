import pytest
import torch
from torch import nn


@pytest.fixture
def digits_like() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small trained-mode network with dropout and batch norm, inputs in [0, 1] and labels."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(4 * 36, 5)
    )
    return model, torch.rand(7, 1, 8, 8, generator=generator), torch.randint(5, (7,), generator=generator)

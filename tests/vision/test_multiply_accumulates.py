import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from claimwise.vision import VGG, multiply_accumulates


def loops(outputs, inputs, kernel, side):
    """Multiplications of a convolution that keeps the size, counted one by one."""
    count = 0
    for _ in range(outputs):
        for _ in range(side * side):
            for _ in range(inputs):
                count += kernel * kernel
    return count


def test_equals_a_count_one_by_one():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 5, padding=2), nn.Flatten(), nn.Linear(2 * 36, 7)
    )
    counts = multiply_accumulates(model, (3, 6, 6))
    assert [layer.operations for layer in counts.layers] == [loops(4, 3, 3, 6), loops(2, 4, 5, 6), 72 * 7]
    assert [layer.output for layer in counts.layers] == [(4, 6, 6), (2, 6, 6), (7,)]
    assert [layer.name for layer in counts.layers] == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (VGG("E", device="meta"), (3, 224, 224)),
        (nn.Sequential(nn.Conv2d(8, 8, 3, groups=4, stride=2, dilation=2), nn.Conv2d(8, 6, 1)), (8, 17, 19)),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.ConvTranspose2d(6, 1, 2)), (4, 9, 9)),
        (nn.Sequential(nn.Conv1d(2, 3, 5), nn.Linear(12, 4)), (2, 16)),
        (nn.Conv3d(2, 3, 3), (2, 6, 7, 8)),
    ],
)
def test_equals_torchs_own_counter(model, size):
    counter = FlopCounterMode(display=False)
    with counter, torch.device("meta"):
        model.to("meta")(torch.empty(1, *size))
    assert 2 * multiply_accumulates(model, size).total == counter.get_total_flops()


def test_a_layer_that_is_used_twice_counts_twice():
    layer = nn.Linear(3, 3)
    (count,) = multiply_accumulates(nn.Sequential(layer, nn.ReLU(), layer), (3,)).layers
    assert count.operations == 18


def test_the_model_is_neither_run_nor_changed():
    class Counting(nn.Linear):
        runs = 0

        def forward(self, x):
            assert x.device.type == "meta"
            return super().forward(x)

    model = Counting(3, 4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert multiply_accumulates(model, (3,)).total == 12
    assert model.training
    assert not model._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_prints_a_table_with_its_total():
    lines = str(multiply_accumulates(nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 2)), (1000,))).splitlines()
    assert lines[0].split() == ["0", "Linear", "1000", "1,000,000"]
    assert lines[-1].split() == ["total", "1,002,000"]


def test_refuses_a_size_that_is_none():
    with pytest.raises(ValueError, match=r"multiply_accumulates: sizes must be at least 1, got input_size=\(3, 0\)"):
        multiply_accumulates(nn.Linear(3, 3), (3, 0))
    with pytest.raises(RuntimeError):
        multiply_accumulates(nn.Linear(3, 3), (4,))

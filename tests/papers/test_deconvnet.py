from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from claimwise.lab import Matrix
from claimwise.lab.run import Hardware, Run, Workspace, execute
from claimwise.papers import deconvnet as paper
from claimwise.papers.deconvnet import DIGITS, PASTED_DIGITS, Inside, Network, Pasted

TINY = replace(DIGITS, images=120, epochs=1, tests=60, channels=(4, 4, 4, 4, 4), hidden=8)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def measured(experiment, setup, workspace, seed=0):
    return execute(experiment, setup, seed, workspace).measurements


def a_run(workspace, seed=0):
    folder = workspace.runs / "a run"
    folder.mkdir(exist_ok=True)
    return Run(paper.network, TINY, seed, Hardware(), workspace, folder)


def layers_of(setup, side=32):
    model = paper.network_of(setup, 3, side, torch.Generator())
    sizes, x = {}, torch.zeros(1, 3, side, side)
    for name, layer in model.named_children():
        x = layer(x)
        sizes[name] = tuple(x.shape[1:])
    return sizes


def test_the_network_is_the_papers_in_small():
    sizes = layers_of(Network())
    assert [name for name in sizes if name.startswith(("conv", "fc"))] == [
        *(f"conv{n}" for n in range(1, 6)),
        *("fc6", "fc7", "fc8"),
    ]
    assert sizes["conv1"] == (16, 32, 32)
    assert sizes["conv2"] == (32, 8, 8)
    assert sizes["pool5"] == (48, 4, 4)
    assert sizes["fc8"] == (10,)


def test_coarse_filters_leave_the_stride_of_the_whole_as_it_was():
    coarse = layers_of(replace(Network(), first_kernel=7, first_stride=2, second_stride=1))
    assert coarse["conv1"] == (16, 16, 16)
    assert coarse["conv2"] == layers_of(Network())["conv2"]


@pytest.mark.parametrize("without", [(3, 4), (7,), (6, 7), (3, 4, 6, 7)])
def test_layers_are_left_out(without):
    sizes = layers_of(replace(Network(), without=without))
    gone = {f"conv{n}" if n < 6 else f"fc{n}" for n in without}
    assert gone.isdisjoint(sizes)
    assert sizes["fc8"] == (10,)


def test_similarity_is_centred_kernel_alignment():
    torch.manual_seed(0)
    a = torch.randn(20, 6, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert paper.similarity(a, 3 * a @ rotation + 1) == pytest.approx(1)
    b = torch.randn(20, 4, dtype=torch.float64)
    x, y = a - a.mean(0), b - b.mean(0)
    expected = (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    assert paper.similarity(a, b) == pytest.approx(float(expected))


def test_changes_do_what_they_say():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 3] = 1.0
    assert paper.changed(image, "shift", 0.25)[0, 0].nonzero().tolist() in ([[0, 3]], [[4, 3]])
    assert torch.allclose(paper.changed(image, "turn", 180.0), image.rot90(2, (2, 3)), atol=1e-5)
    assert torch.allclose(paper.changed(image, "scale", 1.0), image, atol=1e-6)
    bright = torch.ones(1, 1, 8, 8)
    assert paper.changed(bright, "scale", 1.8).min() > 0.99, "enlarging shows no border"


def test_purity_counts_the_commonest_class():
    """One map that images of class 1 excite: nine of them lead."""
    model = nn.Sequential()
    model.add_module("relu1", nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU()))
    nn.init.ones_(model[0][0].weight)
    images = torch.linspace(0.1, 1, 30).reshape(30, 1, 1, 1).expand(-1, -1, 4, 4).contiguous()
    labels = torch.zeros(30, dtype=torch.long)
    labels[-6:] = 1
    leaders = paper.leading(model, ["relu1"], images, size=7)["relu1"]
    assert leaders.tolist() == [list(range(29, 20, -1))]
    assert paper.purity(labels, leaders) == pytest.approx(6 / 9)
    nn.init.zeros_(model[0][0].weight)
    assert paper.leading(model, ["relu1"], images)["relu1"].shape == (0, 9), "a dead map has no leaders"


def test_pairs_alike_among_nine():
    animal = torch.tensor([True] * 6 + [False] * 3)
    leaders = torch.stack([torch.arange(9), torch.zeros(9, dtype=torch.long)])
    assert paper.alike_pairs(animal, leaders).tolist() == pytest.approx([(6 * 5 + 3 * 2) / 72, 1])


def test_places_of_the_patch():
    setup = Pasted(object=6, canvas=12, patch=4)
    top = left = torch.tensor([0, 2, 4, 6, 8])
    on, off, central = paper.places(top, left, torch.tensor([[2, 4]]), setup)
    assert on[0].nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    for i, t in enumerate(top.tolist()):
        for j, s in enumerate(left.tolist()):
            apart = t + 4 <= 2 or t >= 8 or s + 4 <= 4 or s >= 10
            assert bool(off[0, i, j]) == apart
            assert bool(central[0, i, j]) == (2 <= t + 2 <= 8 and 4 <= s + 2 <= 10)
    values = torch.arange(25.0).reshape(1, 5, 5)
    assert paper.mean_over(values, on) == (7 + 8 + 12 + 13) / 4


def test_pasted_things_are_where_they_are_said_to_be():
    setup = Pasted(object=4, canvas=12)
    images, corners = paper.paste(torch.ones(5, 1, 8, 8), setup, torch.Generator().manual_seed(0))
    for image, (top, left) in zip(images, corners.tolist(), strict=True):
        inside = torch.zeros(12, 12, dtype=torch.bool)
        inside[top : top + 4, left : left + 4] = True
        assert image[0][inside].min() > image[0][~inside].max()


def test_few_takes_so_many_of_each():
    labels = torch.tensor([0, 1, 2] * 10)
    chosen = paper.few(labels, 4, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [4, 4, 4]
    assert len(set(chosen.tolist())) == 12


def test_softmax_on_features_separates_what_can_be_separated():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(20)
    x = torch.randn(60, 5) + 8 * nn.functional.one_hot(labels, 5)
    assert torch.equal(paper.softmax_on(x[:30], labels[:30], x[30:], 3), labels[30:])


def test_pictures_are_kept_and_drawn_again():
    images = torch.rand(2, 3, 4, 4)
    kept = paper.kept_images(images)
    assert isinstance(kept, Matrix)
    back = paper.drawable(kept.values, paper.channels_of(kept.values))
    expected = images[1].permute(1, 2, 0).numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert np.abs(back[1] - expected).max() < 2e-3


def test_dead_filters_are_counted():
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, 5, 1, bias=False))
    model.conv1.weight.data[:, 0, 0, 0] = torch.tensor([1.0, 1.1, 0.9, 0.05, -1.0])
    assert paper.dead(model, torch.rand(3, 1, 4, 4)) == 2


def test_together_is_a_rank_correlation():
    a = torch.rand(2, 3, 3)
    assert paper.together(a, a.exp()).tolist() == pytest.approx([1, 1])
    assert paper.together(a, -a).tolist() == pytest.approx([-1, -1])


def test_experiments_return_what_claims_and_figures_read(workspace):
    grown = measured(paper.network, TINY, workspace)
    assert grown["gone_1"].y[0] == 0
    assert grown["gone_7"].y[-1] == pytest.approx(1)
    found = measured(paper.inside, Inside(TINY, 60, 20, 2), workspace)
    assert found["outside_the_field"].value == 0
    assert found["patches_1"].values.shape == (18, 9)
    assert found["evolution"].values.shape == (4 * 8, 64)
    setup = replace(PASTED_DIGITS, network=replace(PASTED_DIGITS.network, images=100, epochs=1), occluded=3, groups=2)
    pasted = measured(paper.pasted, setup, workspace)
    assert 0 <= pasted["same_5"].value <= 1
    assert pasted["found"].total <= 3

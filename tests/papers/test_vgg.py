from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from torch import nn

from claimwise.lab.run import Hardware, Run, Workspace, execute
from claimwise.papers import vgg
from claimwise.papers.vgg import Network, Shards, Sizes, Stacks, Starts
from claimwise.vision import VGG, multiply_accumulates

TINY = Network(
    "A", "digits", images=100, width=1 / 32, fc_width=16, crop=7, pools=1, low=8, high=8, flip=False, epochs=1
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def measured(experiment, setup, workspace, seed=0):
    return execute(experiment, setup, seed, workspace).measurements


def a_run(workspace, setup=TINY, seed=0):
    folder = workspace.runs / "a run"
    folder.mkdir(exist_ok=True)
    return Run(vgg.network, setup, seed, Hardware(), workspace, folder)


def test_stacks_are_counted_from_modules(workspace):
    found = measured(vgg.stacks, Stacks(channels=3), workspace)
    assert [found[f"field_of_{n}"].value for n in ("one", "two", "three")] == [3, 5, 7]
    assert found["miscounted"].value == 0
    assert found["least_excess_of_7x7"].value == pytest.approx(49 / 27 - 1)
    rings = found["layers_needed"].values
    for row in range(9):
        for column in range(9):
            distance = max(abs(row - 4), abs(column - 4))
            assert rings[row, column] == (max(distance, 1) if distance <= 3 else 0)


def test_sizes_are_those_of_the_full_networks(workspace):
    found = measured(vgg.sizes, Sizes(), workspace)
    assert found["millions_D"].value == pytest.approx(138.357544)
    assert found["layers_E"].value == 19
    by_part = found["millions_by_part"].values
    assert by_part.sum(0) == pytest.approx([found[f"millions_{vgg.measured_as(n)}"].value for n in vgg.TABLE_1])
    assert by_part[5, 0] == pytest.approx((25088 * 4096 + 4096) / 1e6)
    assert by_part[0, 0] == pytest.approx((27 * 64 + 64) / 1e6)


def test_the_signal_is_what_random_networks_show():
    model = VGG("A", width=1 / 4, image_size=1, pools=0, classes=50, channels=300)
    draw = torch.Generator().manual_seed(0)
    # one pixel: only the middle of each kernel is seen, so count 1x1 kernels
    for index, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            model.features[index] = nn.Conv2d(layer.in_channels, layer.out_channels, 1)
    expected = vgg.signal(model, 0.1)
    ratios = []
    with torch.no_grad():
        for _ in range(20):
            for parameter in model.parameters():
                parameter.normal_(0, 0.1, generator=draw) if parameter.dim() > 1 else parameter.zero_()
            x = torch.randn(20, 300, 1, 1, generator=draw)
            ratios.append(float(model.eval()(x).square().mean() / x.square().mean()))
    # 20 networks of ten layers: the mean square is known to some ten per cent
    assert sqrt(np.mean(ratios)) == pytest.approx(expected, rel=0.2)


def test_shards_make_the_gradient_only_if_equal(workspace):
    found = measured(vgg.sharding, Shards(), workspace)
    assert found["difference"].value < 1e-12
    assert found["difference_of_unequal_shards"].value > 1e-3
    with pytest.raises(RuntimeError, match="devices must divide batch_size=10, got devices=4"):
        measured(vgg.sharding, Shards(batch_size=10), workspace)


def test_pictures_are_centred_by_the_networks_own_training_images(workspace):
    run = a_run(workspace)
    x, y, tests, test_labels = vgg.pictures(run, TINY)
    assert x.shape == (100, 1, 8, 8)
    assert abs(x.mean()) < 1e-5
    assert x.std() == pytest.approx(1, abs=1e-5)
    data = run.data("digits")
    assert (y.numpy() == data["train"]["y"][:100]).all()
    assert len(tests) == len(test_labels) == len(data["test"]["y"])

    seen, labels, *_ = vgg.pictures(run, replace(TINY, classes=5))
    assert set(labels.tolist()) == set(range(5))
    other, other_labels, other_tests, other_test_labels = vgg.pictures(run, replace(TINY, classes=5), range(5, 10), 30)
    assert len(other) == 30
    assert set(other_labels.tolist()) <= set(range(5, 10))
    assert set(other_test_labels.tolist()) == set(range(5, 10))
    assert len(other_tests) == int((data["test"]["y"] >= 5).sum())
    raw = torch.from_numpy(data["train"]["x"][data["train"]["y"] >= 5][:30])
    raw_seen = torch.from_numpy(data["train"]["x"][data["train"]["y"] < 5][:100])
    torch.testing.assert_close(other[:, 0], (raw - raw_seen.mean()) / raw_seen.std())
    assert abs(seen.mean()) < 1e-5


def test_training_follows_its_schedule_and_keeps_the_loss_of_each_step(workspace, monkeypatch):
    setup = replace(TINY, epochs=5, batch_size=10)  # 50 steps
    run = a_run(workspace, setup)
    x, y, *_ = vgg.pictures(run, setup)
    model = vgg.build(run, setup, 1)
    rates, means = [], []
    fit = run.fit

    def watched(*args, **settings):
        inner = settings["after_step"]

        def after_step(step):
            rates.append(settings["optimizer"].param_groups[0]["lr"])
            inner(step)

        means.extend(fit(*args, **settings | {"after_step": after_step})["loss"])

    monkeypatch.setattr(run, "fit", watched)
    losses = vgg.train(run, setup, model, x, y, "A")
    assert rates == pytest.approx([0.01] * 35 + [0.001] * 10 + [0.0001] * 5)
    assert losses.reshape(5, 10).mean(1) == pytest.approx(means, rel=1e-4)


def test_the_same_seed_trains_the_same_network(workspace, tmp_path):
    one = execute(vgg.network, TINY, 3, workspace)
    two = execute(vgg.network, TINY, 3, Workspace(tmp_path / "other"))
    three = execute(vgg.network, TINY, 4, workspace)
    for name, value in one.load("model").items():
        assert torch.equal(value, two.load("model")[name])
    assert one.measurements == two.measurements
    assert one.measurements != three.measurements


def test_evaluations_are_posteriors_and_agree_at_the_training_size(workspace):
    run = a_run(workspace)
    model = vgg.build(run, TINY, 1).eval()
    images = torch.randn(7, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    expected = (model(images).softmax(1) + model(images.flip(3)).softmax(1)).detach() / 2
    for evaluate in (vgg.dense_at, vgg.centre_crops, vgg.grid_of_crops):
        torch.testing.assert_close(evaluate(model, images, 7, True), expected)
        torch.testing.assert_close(evaluate(model, images, 7, False), model(images).softmax(1).detach())
        assert not torch.allclose(evaluate(model, images, 9, False), evaluate(model, images, 7, False))


def test_errors_are_counted():
    posteriors = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = vgg.errors(posteriors, torch.tensor([0, 0, 1]))
    assert (found.successes, found.total) == (2, 3)
    by_scale = {7: posteriors, 8: posteriors.flip(1)}
    assert vgg.best(by_scale, torch.tensor([0, 0, 1])).successes == 1


def test_a_linear_probe_finds_what_is_linear():
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(3, 20, generator=draw)
    x = torch.randn(400, 20, generator=draw)
    y = (x @ direction.T).argmax(1) + 5
    found = vgg.linear_probe(x[:300], y[:300], x[300:], y[300:])
    assert found.total == 100
    assert found.successes < 20
    shuffled = vgg.linear_probe(x[:300], y[:300].roll(1), x[300:], y[300:])
    assert shuffled.successes > 40


def test_trained_experiments_run_on_digits(workspace):
    depth = measured(vgg.depth, TINY, workspace)
    assert set(depth) == {f"error_{vgg.measured_as(name)}" for name in (*vgg.DEPTHS, "D_and_E")}
    assert depth["error_E"].total == depth["error_D_and_E"].total
    scales = measured(vgg.scales, TINY, workspace)
    assert len(scales) == 9
    assert scales["fixed_best_scale"].successes <= scales["fixed_one_scale"].successes
    transfer = measured(vgg.transfer, replace(TINY, classes=5), workspace)
    assert transfer["error_of_features"].total == transfer["error_of_pixels"].total < depth["error_A"].total


def test_starts_watch_every_rule(workspace):
    setup = Starts("digits", images=200, epochs=8, crop=7, scale=8, pools=1, width=1 / 32, fc_width=16, flip=False)
    found = measured(vgg.starts, setup, workspace)
    for name in ("std_001", "he", "glorot", "variance_001", "shallow", "preinitialised"):
        assert found[f"{name}_curve"].x.tolist() == [5, 15, 25]
        assert found[f"{name}_loss"].value == pytest.approx(found[f"{name}_curve"].y[-3:].mean())
    # weights too small for their width: the scores are the same for every image
    assert found["std_001_loss"].value == pytest.approx(vgg.GUESSING, abs=0.02)


def test_stand_ins_cost_what_the_budget_says():
    # the budget's times are per step of 50 images; the work behind them must not grow unnoticed
    def work(setup, name):
        model = VGG(
            name, width=setup.width, fc_width=setup.fc_width, image_size=setup.crop, pools=setup.pools, classes=10,
            device="meta",
        )  # fmt: skip
        return multiply_accumulates(model, (3, setup.crop, setup.crop)).total

    small, scales = vgg.depth.plans["small"].setup, vgg.scales.plans["small"].setup
    assert work(small, "E") < 8e6
    assert work(scales, "D") < 16e6
    assert small.images * small.epochs / small.batch_size == 840
    assert scales.images * scales.epochs / scales.batch_size == 720


def test_every_figure_draws(workspace):
    from claimwise.lab.figures import themed_svg
    from claimwise.lab.stored import Stored

    starts = Starts("digits", images=100, epochs=5, crop=7, scale=8, pools=1, width=1 / 32, fc_width=16, flip=False)
    setups = {vgg.stacks: Stacks(1), vgg.sizes: Sizes(), vgg.depth: TINY, vgg.starts: starts}
    seeds = {vgg.depth: 2, vgg.starts: 2}
    results = {
        experiment: Stored.of(
            experiment, [execute(experiment, setup, seed, workspace) for seed in range(seeds.get(experiment, 1))]
        )
        for experiment, setup in setups.items()
    }
    for spec in vgg.paper.figures:
        svg = themed_svg(spec.draw(results))
        assert svg.startswith("<svg")
        sizes = [float(size) for size in __import__("re").findall(r"font-size: ?([\d.]+)px", svg)]
        assert sizes
        assert min(sizes) >= 9

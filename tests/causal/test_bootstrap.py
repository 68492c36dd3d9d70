import numpy as np
import pytest
import torch

from claimwise.causal.bootstrap import PlugIn, bootstrap


class Mean(PlugIn):
    """Mean and ratio of means, as sums over rows."""

    def __init__(self, rows):
        self.data = torch.as_tensor(rows, dtype=torch.float64)  # (rows, 2)
        self.rows = len(self.data)

    def table_statistics(self):
        return self.data.sum(0, keepdim=True)

    def resampled_statistics(self, index):
        return self.data[index].sum(1)

    def left_out_statistics(self, rows):
        return self.table_statistics() - self.data[rows]

    def estimates(self, statistics):
        return torch.stack([statistics[:, 0] / self.rows, statistics[:, 0] / statistics[:, 1]], 1)


@pytest.fixture
def skewed():
    generator = torch.Generator().manual_seed(0)
    return Mean(torch.rand(60, 2, generator=generator).double().log().neg() + torch.tensor([0.0, 1.0]))


def test_percentile_interval_equals_the_loop(skewed):
    estimates, undefined = bootstrap(skewed, draws=400, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    data = skewed.data.numpy()
    values = []
    for index in torch.randint(60, (400, 60), generator=generator, dtype=torch.int32):
        rows = data[index.numpy()]
        values.append([rows[:, 0].mean(), rows[:, 0].mean() / rows[:, 1].mean()])
    for i, estimate in enumerate(estimates):
        column = np.array(values)[:, i]
        assert estimate.draws == pytest.approx(column, rel=1e-12)
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(column, [0.025, 0.975])), rel=1e-12)
        assert estimate.standard_error == pytest.approx(column.std(ddof=1), rel=1e-12)
    assert undefined == 0


def test_chunks_change_nothing(skewed, monkeypatch):
    whole, _ = bootstrap(skewed, draws=50, interval="bca", generator=torch.Generator().manual_seed(7))
    monkeypatch.setattr("claimwise.causal.bootstrap.CHUNK", 130)
    pieces, _ = bootstrap(skewed, draws=50, interval="bca", generator=torch.Generator().manual_seed(7))
    for a, b in zip(whole, pieces, strict=True):
        assert a.draws == pytest.approx(b.draws, rel=1e-12)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-12)


def test_bca_interval_equals_scipy_s():
    stats = pytest.importorskip("scipy.stats")
    data = np.random.default_rng(0).exponential(size=(25, 2)) ** 2 + [0.0, 1.0]
    skewed = Mean(data)
    ours, _ = bootstrap(skewed, draws=40_000, interval="bca", level=0.9, generator=torch.Generator().manual_seed(1))
    plain, _ = bootstrap(skewed, draws=40_000, level=0.9, generator=torch.Generator().manual_seed(1))
    peer = stats.bootstrap(
        (data[:, 0], data[:, 1]),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        paired=True,
        n_resamples=40_000,
        confidence_level=0.9,
        method="BCa",
        rng=np.random.default_rng(0),
        vectorized=True,
    ).confidence_interval
    # Both ends are quantiles of 40,000 resamples: their Monte-Carlo error is about 1 % of the standard error.
    tolerance = 0.04 * ours[1].standard_error
    assert (ours[1].low, ours[1].high) == pytest.approx((peer.low, peer.high), abs=tolerance)
    assert (
        abs(plain[1].low - peer.low) + abs(plain[1].high - peer.high) > 2 * tolerance
    )  # the correction is not nothing


class Fragile(Mean):
    """Undefined unless the resample has row 0."""

    def resampled_statistics(self, index):
        statistics = super().resampled_statistics(index)
        statistics[(index != 0).all(1) & (torch.arange(len(index)) % 10 == 0)] = float("nan")
        return statistics


def test_undefined_resamples_are_dropped_and_counted(skewed):
    estimates, undefined = bootstrap(Fragile(skewed.data), draws=500, generator=torch.Generator().manual_seed(0))
    assert 0 < undefined <= 25
    assert len(estimates[0].draws) == 500 - undefined


class Hopeless(Mean):
    def resampled_statistics(self, index):
        statistics = super().resampled_statistics(index)
        statistics[::2] = float("nan")
        return statistics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": -1}, "draws must be 0 or at least 2, got -1"),
        ({"draws": 1}, "draws must be 0 or at least 2, got 1"),
        ({"generator": None}, "needs generator=torch.Generator"),
        ({"level": 95.0}, r"level must lie in \(0, 1\), got 95.0"),
    ],
)
def test_bad_settings_are_refused(skewed, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(skewed, **{"draws": 10, "generator": torch.Generator(), **settings})


def test_too_many_undefined_resamples_are_an_error(skewed):
    with pytest.raises(ValueError, match=r"at most 5 % of the resamples may leave an effect undefined, got 50 of 100"):
        bootstrap(Hopeless(skewed.data), draws=100, generator=torch.Generator())


def test_no_resamples_no_interval(skewed):
    estimates, _ = bootstrap(skewed, draws=0, generator=None)
    assert estimates[0].value == pytest.approx(float(skewed.data[:, 0].mean()))
    assert estimates[0].low is estimates[0].high is estimates[0].standard_error is None

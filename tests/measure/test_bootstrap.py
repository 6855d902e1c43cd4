from __future__ import annotations

import numpy as np
import pytest

from edgekit.accuracy.metrics.regression import MeanSquaredError
from edgekit.measure.bootstrap import drop_interval, metric_interval
from edgekit.measure.metrics import Mean, Metric, Sqnr, Top1


def top1(right: np.ndarray) -> Metric:
    """Two classes, label 0; the scores are right where told."""
    metric = Top1()
    for hit in right:
        metric.add({"y": np.array([[1.0, 0.0] if hit else [0.0, 1.0]])}, np.array([0]))
    return metric


def test_a_share_has_the_binomials_width() -> None:
    """Standard error sqrt(p (1 − p) / n) = 0.0179 at p = 0.8, n = 500; 1.96 of them on each side."""
    found = metric_interval(top1(np.arange(500) % 5 != 0))
    assert found is not None and found.value == 0.8
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0179, rel=0.1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = metric_interval(top1(random.random(150) < 0.9))
        hits += found is not None and found.low <= 0.9 <= found.high
    assert hits / 200 >= 0.90  # nominal 0.95; 0.90 is three standard errors below


def test_a_drop_is_paired() -> None:
    """Both miss the same hard samples: the drop is known far better than either value."""
    easy = np.random.default_rng(1).random(1000) < 0.7
    worse = easy.copy()
    worse[np.flatnonzero(easy)[:20]] = False
    drop = drop_interval(top1(worse), top1(easy))
    alone = metric_interval(top1(worse))
    assert drop is not None and alone is not None
    assert drop.value == pytest.approx(0.02)
    assert 0.01 < drop.low < 0.02 < drop.high < 0.03
    assert drop.high - drop.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize(("n", "slack"), [(100, 0.0362), (899, 0.0041)])
def test_without_a_single_miss_the_bound_is_exact(n: int, slack: float) -> None:
    """Clopper–Pearson: 1 − 0.025^(1/n)."""
    perfect = top1(np.ones(n, bool))
    found, drop = metric_interval(perfect), drop_interval(perfect, top1(np.ones(n, bool)))
    assert found is not None and (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - slack, abs=1e-4)
    assert drop is not None and (drop.low, drop.high) == (
        pytest.approx(-slack, abs=1e-4),
        pytest.approx(slack, abs=1e-4),
    )
    none = metric_interval(top1(np.zeros(n, bool)))
    assert none is not None and (none.low, none.high) == (0.0, pytest.approx(slack, abs=1e-4))


def test_lower_is_better_turns_the_drop_around() -> None:
    random = np.random.default_rng(2)
    worse, better = (Mean(lambda outputs, label: float(outputs["y"]), "f", higher_is_better=False) for _ in range(2))
    for _ in range(100):
        error = random.random()
        worse.add({"y": np.array(error + 0.5)})
        better.add({"y": np.array(error)})
    drop = drop_interval(worse, better)
    assert drop is None or drop.value == pytest.approx(0.5)
    worse.add({"y": np.array(3.0)})
    better.add({"y": np.array(0.0)})
    drop = drop_interval(worse, better)
    assert drop is not None and drop.low > 0


def test_a_ratio_of_sums_is_resampled_as_one() -> None:
    metric = Sqnr()
    random = np.random.default_rng(3)
    for _ in range(200):
        signal = random.standard_normal(10)
        metric.add({"y": signal + 0.01 * random.standard_normal(10)}, None, {"y": signal})
    found = metric_interval(metric)
    assert found is not None and found.low < found.value < found.high
    assert found.value == pytest.approx(40.0, abs=1.0)
    assert found.high - found.low < 1.5


def test_there_is_no_interval_where_nothing_can_be_said() -> None:
    one, exact = MeanSquaredError(), Sqnr()
    one.add({"y": np.ones(3)}, None, {"y": np.zeros(3)})
    assert metric_interval(one) is None
    one.add({"y": np.ones(3)}, None, {"y": np.zeros(3)})
    assert metric_interval(one) is None  # two samples, both alike
    for _ in range(3):
        exact.add({"y": np.ones(3)}, None, {"y": np.ones(3)})
    assert metric_interval(exact) is None  # infinite


def test_the_same_samples_give_the_same_interval() -> None:
    right = np.arange(100) % 7 != 0
    assert metric_interval(top1(right)) == metric_interval(top1(right))

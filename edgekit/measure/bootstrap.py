"""The interval of a metric over samples, and of its drop against a reference on the same samples: a paired bootstrap.

A replicate draws as many samples as there are, with replacement, and computes the metric of those; the interval runs
between the (1 ∓ confidence)/2 quantiles of the replicates. For the drop both metrics are computed on the same draw, so
that what is hard for both cancels out. A metric is a function of sums over samples, so a draw is a weighted sum.

Where the samples show no variation at all (every answer right), resampling has nothing to say; a share then has the
exact binomial bounds.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Koehn, "Statistical significance
tests for machine translation evaluation" (2004), for the paired draw; Clopper and Pearson (Biometrika 1934).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric
from .statistics import Estimate

CONFIDENCE = 0.95
_SEED = 20240229  # the same samples always give the same interval
_CHUNK = 2**22  # counts, or sums, held at once


def metric_interval(metric: Metric, confidence: float = CONFIDENCE) -> Estimate | None:
    """The metric with its interval; None where there is no telling: one sample, or all alike, or an infinite value."""
    sums = metric.contributions()
    if len(sums) < 2 or not np.isfinite(metric.value()):
        return None
    if metric.is_share and len(np.unique(sums[:, 0] / sums[:, 1])) == 1 and metric.value() in (0.0, 1.0):
        slack = _slack(len(sums), confidence)
        return Estimate(1.0, 1 - slack, 1.0) if metric.value() == 1.0 else Estimate(0.0, 0.0, slack)
    return _interval(metric.resampled, metric.value(), metric, confidence)


def drop_interval(metric: Metric, reference: Metric, confidence: float = CONFIDENCE) -> Estimate | None:
    """How much worse than the reference (positive: worse), with its interval; None as in `metric_interval`.

    Args:
        metric: over the engine's outputs.
        reference: the same metric over the reference's outputs for the same samples, in the same order.
        confidence: of the interval.
    """
    ours, theirs = metric.contributions(), reference.contributions()
    sign = 1.0 if metric.higher_is_better else -1.0
    drop = sign * (reference.value() - metric.value())
    if len(ours) < 2 or len(ours) != len(theirs) or not np.isfinite(drop):
        return None
    if metric.is_share and np.array_equal(ours, theirs):
        slack = _slack(len(ours), confidence)  # of the share of samples on which the two could differ
        return Estimate(0.0, -slack, slack)

    def drops(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return sign * (reference.resampled(counts) - metric.resampled(counts))

    return _interval(drops, drop, metric, confidence)


def _slack(n: int, confidence: float) -> float:
    """The largest share that n samples without a single case leave open: (1 − p)^n = (1 − confidence)/2."""
    return float(1 - ((1 - confidence) / 2) ** (1 / n))


def _interval(
    resampled: Callable[[NDArray[np.float64]], NDArray[np.float64]], value: float, metric: Metric, confidence: float
) -> Estimate | None:
    random, n = np.random.default_rng(_SEED), metric.samples
    found: list[NDArray[np.float64]] = []
    rows = max(1, _CHUNK // max(n, metric.contributions().shape[1]))
    for start in range(0, metric.replicates, rows):
        size = min(rows, metric.replicates - start)
        counts = random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)  # [size, n]
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw for which the metric is not defined is NaN
            found.append(resampled(counts))
    drawn = np.concatenate(found)
    if not np.isfinite(drawn).all() or drawn.min() == drawn.max():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))

"""What may be concluded from latencies: pure functions from samples to numbers with their uncertainty.

Samples come as ``samples[process][block]``, an array of seconds in the order they were taken: fresh processes that ran
one after the other, each measured in several blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .autocorrelation import autocorrelation_time
from .distributions import percentile_ranks, student_t_quantile
from .early_stopping import minimum_samples

Series: TypeAlias = NDArray[np.float64]
Samples: TypeAlias = Sequence[Sequence[Series]]
Verdict = Literal["steady", "noisy", "drifting"]

CONFIDENCE = 0.95
PERCENTILES = (0.5, 0.9, 0.99)

SPREAD_LIMIT = 0.05
"""Beyond this relative difference between processes, or width of the median's interval on one side, a run is noisy."""
DRIFT_LIMIT = 0.05
"""Beyond this relative difference between the halves of a run, the same way in every process, it is drifting."""
_TAIL = 0.9
_CLOCK_S = 1e-9  # the clock's tick: a latency of 0 is one that it could not tell from nothing


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval, in the value's unit."""

    value: float
    low: float
    high: float

    @property
    def relative_error(self) -> float:
        """The larger side of the interval as a share of the value."""
        return max(self.high - self.value, self.value - self.low) / self.value if self.value else math.inf

    def widened(self, step: float) -> Estimate:
        """The same, where the clock that it was read from goes in steps: each reading may be one off, either way."""
        return Estimate(self.value, max(0.0, self.low - step), self.high + step)

    def to_json(self) -> dict[str, float]:
        """``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


def ratio_by_clock(ratio: Estimate, medians: Iterable[float], clock_s: float) -> Estimate:
    """A ratio of two medians, each of which may be one step of the clock off: their relative errors add up."""
    return ratio.widened(ratio.value * sum(clock_s / max(item, clock_s) for item in medians)) if clock_s else ratio


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the samples do not support a statement: ``p99 needs 662 samples, have 200``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of the latency in seconds. One that the samples cannot support is None, and ``refused`` says why."""

    p50: Estimate | None
    p90: Estimate | None
    p99: Estimate | None
    n: int
    effective_n: int  # independent samples that would tell as much about the median
    processes: int
    mean_s: float
    refused: tuple[str, ...]
    confidence: float = CONFIDENCE


def summarize(samples: Samples, confidence: float = CONFIDENCE) -> Summary:
    """p50, p90 and p99, each with the interval of `percentile_interval` or the reason why there is none.

    Raises:
        ValueError: there are no samples, or one is not a finite time.
    """
    groups = _by_process(samples)
    found = [percentile_interval(samples, q, confidence) for q in PERCENTILES]
    p50, p90, p99 = (item if isinstance(item, Estimate) else None for item in found)
    pooled = np.concatenate(groups)
    return Summary(
        p50=p50,
        p90=p90,
        p99=p99,
        n=pooled.size,
        effective_n=_effective(groups, 0.5),
        processes=len(groups),
        mean_s=float(pooled.mean()),
        refused=tuple(item.reason for item in found if isinstance(item, Refused)),
        confidence=confidence,
    )


def percentile(series: Series, q: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least a share ``q`` of all does not exceed.

    Always a latency that really occurred (Hyndman and Fan 1996, definition 1; MLPerf LoadGen uses the same).
    """
    rank = max(math.ceil(q * series.size - 1e-9), 1) - 1
    return float(np.partition(series, rank)[rank])


def percentile_interval(samples: Samples, q: float, confidence: float = CONFIDENCE) -> Estimate | Refused:
    """Percentile ``q`` of a process's latency, averaged over processes, with its interval.

    Within: over all runs, the order statistics between which the percentile lies, taken for as many independent samples
    as the n correlated ones are worth (`autocorrelation_time` of "at most its process's percentile" as 0 and 1).

    Between: let y_p be the logarithm of process p's own percentile, P the number of processes and s the standard
    deviation of y. The value is exp(ȳ), the interval exp(ȳ ± t·s/√P) with t Student's quantile for P − 1 degrees of
    freedom. s holds all that makes one process unlike the next: noise however correlated within it, memory layout,
    clocks that changed meanwhile. With three processes t is 4.3: that is what three can know.

    One process gives the first alone, which says nothing about other processes; several the hull of both.

    Refused where the effective samples are fewer than LoadGen needs (p50 11, p90 64, p99 662), or, of several
    processes, fewer than 2/(1 − q) in each: a percentile of so few is biased.

    Source: order statistics: `percentile_ranks`; effective samples in them: Woodruff, JASA 47 (1952), with the design
    effect τ; independent replications: Law, "Simulation Modeling and Analysis" (2015), sections 9.4 and 9.5.
    """
    groups = _by_process(samples)
    name, n, needed = f"p{100 * q:g}", sum(group.size for group in groups), minimum_samples(q)
    if n < needed:
        return Refused(f"{name} needs {needed} samples, have {n}")
    effective = _effective(groups, q)
    if effective < needed:
        return Refused(f"{name} needs {needed} independent samples; {n} correlated ones are worth {effective}")
    within = _order_statistics(np.concatenate(groups), q, effective, confidence)
    if isinstance(within, Refused) or len(groups) == 1:
        return within
    least, each = int(min(group.size for group in groups) * effective / n), math.ceil(2 / (1 - q) - 1e-9)
    if least < each:
        return Refused(f"{name} needs {each} independent samples in every process, one has {least}")
    between = mean_interval([percentile(group, q) for group in groups], confidence)
    return Estimate(between.value, min(between.low, within.low), max(between.high, within.high))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of independent positive values, with Student's t interval of their logarithms.

    Args:
        values: one a process, at least two.
        confidence: of the interval.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    logs = np.log(np.maximum(values, _CLOCK_S))
    middle = float(logs.mean())
    half = student_t_quantile((1 + confidence) / 2, len(values) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(min(middle + half, 700.0)))


def verdict(samples: Samples, summary: Summary | None = None) -> tuple[Verdict, list[str]]:
    """Whether the run can be relied on, with every reason against it; none where it is steady.

    Drifting: the median moved by more than `DRIFT_LIMIT` between the halves of every process, the same way, or from
    the first half of the processes to the second, every one of which is beyond all of the first. Noisy: the processes'
    medians, or the interval of the overall one, spread by more than `SPREAD_LIMIT`, or the samples support no median.
    """
    groups = _by_process(samples)
    summary = summary or summarize(samples)
    if summary.p50 is None:
        return "noisy", [f"too few runs to say: {summary.refused[0]}"]
    medians, noisy = [percentile(group, 0.5) for group in groups], []
    spread = (max(medians) - min(medians)) / max(summary.p50.value, _CLOCK_S)
    if spread > SPREAD_LIMIT:
        noisy.append(f"the medians of {len(medians)} processes differ by {spread:.0%}")
    if summary.p50.relative_error > SPREAD_LIMIT:
        noisy.append(f"the median is known to ±{min(summary.p50.relative_error, 9.99):.0%} only")
    change = _drift(groups, medians)
    drifting = [f"runs got {abs(change):.0%} {'slower' if change > 0 else 'faster'} while measured"] if change else []
    return ("drifting" if drifting else "noisy" if noisy else "steady"), [*drifting, *noisy]


def _drift(groups: Sequence[Series], medians: Sequence[float]) -> float:
    """The relative change over the run, where it is a drift; else 0."""
    halves = [_change_between_halves(group) for group in groups if group.size >= 2 * minimum_samples(0.5)]
    if halves and (min(halves) > DRIFT_LIMIT or max(halves) < -DRIFT_LIMIT):
        return float(np.median(halves))
    if len(medians) < 4:  # two against two, at the least
        return 0.0
    half = len(medians) // 2
    first, second = medians[:half], medians[-half:]
    change = sum(second) / max(sum(first), _CLOCK_S) - 1
    apart = min(second) > max(first) or max(second) < min(first)
    return change if apart and abs(change) > DRIFT_LIMIT else 0.0


def _change_between_halves(series: Series) -> float:
    half = series.size // 2
    return percentile(series[half:], 0.5) / max(percentile(series[:half], 0.5), _CLOCK_S) - 1


def _order_statistics(series: Series, q: float, effective: int, confidence: float) -> Estimate | Refused:
    ranks = percentile_ranks(effective, q, confidence)
    if ranks is None:
        return Refused(f"{effective} independent samples do not bound p{100 * q:g} at {confidence:.0%}")
    n, (lower, upper) = series.size, ranks
    # The ranks among the effective samples, as shares of all: rounded outwards, so that equal counts give equal ranks.
    low, high = math.floor(lower * n / effective), min(math.ceil(upper * n / effective), n)
    ordered = np.partition(series, [low - 1, high - 1])
    return Estimate(percentile(series, q), float(ordered[low - 1]), float(ordered[high - 1]))


def _effective(groups: Sequence[Series], q: float) -> int:
    """How many independent samples would know percentile ``q`` as well as these do.

    n / τ of the indicators, in each process, of not exceeding its own percentile. Few runs lie beyond p99, too few to
    see them come in clusters: its τ is not taken to be below half of that of p90.
    """
    time = _indicator_time(groups, q)
    if q > _TAIL:
        time = max(time, _indicator_time(groups, _TAIL) / 2)
    return max(1, int(sum(group.size for group in groups) / time))


def _indicator_time(groups: Sequence[Series], q: float) -> float:
    return autocorrelation_time([(group <= percentile(group, q)).astype(np.float64) for group in groups])


def _by_process(samples: Samples) -> list[Series]:
    """Each process's blocks as one series; processes without any are left out."""
    groups = [np.concatenate(list(process)) for process in samples if any(block.size for block in process)]
    if not groups:
        raise ValueError("there are no samples")
    for group in groups:
        if not np.isfinite(group).all() or group.min() < 0:
            raise ValueError("a latency is not a finite time")
    return groups

"""What may be concluded from latencies: pure functions from samples to numbers with their uncertainty.

Samples come as ``samples[process][block]``, an array of seconds in the order they were taken: several fresh processes,
each measured in several blocks apart in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Series: TypeAlias = NDArray[np.float64]
Samples: TypeAlias = Sequence[Sequence[Series]]
Verdict = Literal["steady", "noisy", "drifting"]

CONFIDENCE = 0.95
PERCENTILES = (0.5, 0.9, 0.99)
REPLICATES = 1000
_CHUNKS = 20  # a process with fewer blocks than this has them cut into so many pieces, so that there is a spread to see
_SEED = 20240229  # the same samples always give the same interval

SPREAD_LIMIT = 0.05
"""Beyond this relative difference between processes, or width of the median's interval on one side, a run is noisy."""
DRIFT_LIMIT = 0.05
"""Beyond this relative difference between the halves of a run, the same way in every process, it is drifting."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval, in the value's unit."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of the latency in seconds. One that n cannot support is None, and ``refused`` says why."""

    p50: Estimate | None
    p90: Estimate | None
    p99: Estimate | None
    n: int
    processes: int
    mean_s: float
    refused: tuple[str, ...]
    confidence: float = CONFIDENCE


def summarize(samples: Samples) -> Summary:
    """Percentiles over all samples, each with the interval of `percentile_intervals`.

    Raises:
        ValueError: there are no samples, or one is not a finite time.
    """
    pooled = _pool(samples)
    found: dict[float, Estimate | None] = dict.fromkeys(PERCENTILES)
    supported = [q for q in PERCENTILES if pooled.size >= minimum_samples(q)]
    found.update(zip(supported, percentile_intervals(samples, supported), strict=True))
    return Summary(
        p50=found[0.5],
        p90=found[0.9],
        p99=found[0.99],
        n=pooled.size,
        processes=sum(1 for process in samples if any(block.size for block in process)),
        mean_s=float(pooled.mean()),
        refused=tuple(
            f"p{100 * q:g} needs {minimum_samples(q)} samples, have {pooled.size}"
            for q in PERCENTILES
            if q not in supported
        ),
    )


def percentile(series: Series, q: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least a share ``q`` of all does not exceed.

    Always a latency that really occurred (Hyndman and Fan 1996, definition 1; MLPerf LoadGen uses the same).
    """
    return float(np.quantile(series, q, method="inverted_cdf"))


def minimum_samples(q: float, confidence: float = 0.99) -> int:
    """The fewest independent samples from which LoadGen's early stopping states percentile ``q``: 11, 64, 662.

    Early stopping takes the smallest h with I_q(h, t + 1) ≤ 1 − c (I: the regularised incomplete beta function, c: the
    confidence) and needs n = h + t. At its minimum t = 1, where I_q(h, 2) = q^h · (1 + h·(1 − q)).

    Source: MLPerf Inference policies, "early stopping"; github.com/mlcommons/inference, loadgen/early_stopping.cc.
    """
    h = 1
    while q**h * (1 + h * (1 - q)) > 1 - confidence:
        h += 1
    return h + 1


def percentile_intervals(
    samples: Samples, percentiles: Sequence[float], confidence: float = CONFIDENCE, replicates: int = REPLICATES
) -> list[Estimate]:
    """Pooled percentiles, with intervals by a hierarchical bootstrap.

    A replicate draws processes with replacement, then as many blocks of each as it has, with replacement: a block stays
    whole, so that correlation within it is kept. The interval runs between the (1 ∓ confidence)/2 quantiles of the
    replicates' percentiles, and always holds the estimate.

    Simulated coverage of a nominal 0.95, three processes: 0.93 or more on AR(1) series with ρ up to 0.99 (n = 10,000),
    but about 0.75 where the processes differ by half a standard deviation: three are too few to know their spread. With
    one process that spread is not in it at all.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), sections 3.8 (hierarchical data) and
    8.2.3 (block resampling).
    """
    groups = [_chunks(process) for process in samples if any(block.size for block in process)]
    values = np.concatenate([block for blocks in groups for block in blocks])
    owner = np.repeat(np.arange(sum(map(len, groups))), [block.size for blocks in groups for block in blocks])
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], owner[order]
    shares = np.array(percentiles)
    random = np.random.default_rng(_SEED)
    drawn = np.empty((replicates, shares.size))
    for row in range(replicates):
        # Drawing a block k times is weighting its samples by k: no need to copy and sort them again.
        cumulative = np.cumsum(_block_counts([len(blocks) for blocks in groups], random)[owner])
        ranks = np.ceil(shares * cumulative[-1])
        drawn[row] = ordered[np.searchsorted(cumulative, ranks)]
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(drawn, [tail, 1 - tail], axis=0)
    estimates = []
    for q, low, high in zip(percentiles, lows, highs, strict=True):
        value = percentile(ordered, q)
        estimates.append(Estimate(value, min(float(low), value), max(float(high), value)))
    return estimates


def verdict(samples: Samples) -> tuple[Verdict, list[str]]:
    """Whether the run can be relied on, with every reason against it; none where it is steady.

    Drifting: the median of the second half of a process is off that of its first half by more than `DRIFT_LIMIT`, the
    same way in every process. Noisy: the processes' medians, or the interval of the overall one, spread by more than
    `SPREAD_LIMIT`, or n supports no median.
    """
    series = [np.concatenate(list(process)) for process in samples if any(block.size for block in process)]
    summary = summarize(samples)
    if summary.p50 is None:
        return "noisy", [f"too few runs to say: {summary.refused[0]}"]
    middle, noisy, drifting = summary.p50.value, [], []
    medians = [percentile(item, 0.5) for item in series]
    spread = (max(medians) - min(medians)) / middle
    if spread > SPREAD_LIMIT:
        noisy.append(f"the medians of {len(medians)} processes differ by {spread:.0%}")
    width = max(summary.p50.high - middle, middle - summary.p50.low) / middle
    if width > SPREAD_LIMIT:
        noisy.append(f"the median is known to ±{width:.0%} only")
    changes = [_change_between_halves(item) for item in series if item.size >= 2 * minimum_samples(0.5)]
    if changes and (min(changes) > DRIFT_LIMIT or max(changes) < -DRIFT_LIMIT):
        change = float(np.median(changes))
        drifting.append(f"runs got {abs(change):.0%} {'slower' if change > 0 else 'faster'} while measured")
    return ("drifting" if drifting else "noisy" if noisy else "steady"), [*drifting, *noisy]


def _pool(samples: Samples) -> Series:
    blocks = [block for process in samples for block in process if block.size]
    if not blocks:
        raise ValueError("there are no samples")
    pooled = np.concatenate(blocks)
    if not np.isfinite(pooled).all() or pooled.min() < 0:
        raise ValueError("a latency is not a finite time")
    return pooled


def _chunks(process: Sequence[Series]) -> list[Series]:
    """The blocks of a process; where they are few, each cut into contiguous pieces."""
    blocks = [block for block in process if block.size]
    pieces = -(-_CHUNKS // len(blocks))
    return [piece for block in blocks for piece in np.array_split(block, min(pieces, block.size))]


def _block_counts(sizes: Sequence[int], random: np.random.Generator) -> NDArray[np.int64]:
    """How often each block of each process is drawn in one replicate, processes one after another."""
    processes = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)))
    return np.concatenate(
        [
            random.multinomial(int(times) * size, np.full(size, 1 / size))
            for times, size in zip(processes, sizes, strict=True)
        ]
    )


def _change_between_halves(series: Series) -> float:
    half = series.size // 2
    return percentile(series[half:], 0.5) / percentile(series[:half], 0.5) - 1

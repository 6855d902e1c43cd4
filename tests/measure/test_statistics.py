from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import betainc

from edgekit.measure.statistics import (
    Series,
    minimum_samples,
    percentile,
    percentile_intervals,
    summarize,
    verdict,
)


def noise(seed: int, n: int, centre: float = 1.0, spread: float = 0.01) -> Series:
    return centre + spread * np.random.default_rng(seed).standard_normal(n)


def processes(count: int = 3, n: int = 1000, **options: float) -> list[list[Series]]:
    return [np.array_split(noise(seed, n, **options), 10) for seed in range(count)]


@pytest.mark.parametrize(("q", "n"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)])
def test_minimum_samples_are_loadgens(q: float, n: int) -> None:
    # Published by MLPerf and obtained from LoadGen's own early_stopping.cc.
    assert minimum_samples(q) == n


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_minimum_samples_against_the_incomplete_beta_function(q: float) -> None:
    h = minimum_samples(q) - 1
    assert betainc(h, 2, q) <= 0.01 < betainc(h - 1, 2, q)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays("float64", st.integers(1, 50), elements=st.floats(0, 1e3)), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentile_is_the_nearest_rank(series: Series, q: float) -> None:
    value = percentile(series, q)
    assert value in series
    assert np.mean(series <= value) >= q
    below = series[series < value]
    assert below.size == 0 or np.mean(series <= below.max()) < q


def test_a_percentile_that_n_cannot_support_is_refused() -> None:
    summary = summarize([[noise(0, 200)]])
    assert summary.p50 is not None and summary.p90 is not None
    assert summary.p99 is None
    assert summary.refused == ("p99 needs 662 samples, have 200",)
    few = summarize([[noise(0, 5)]])
    assert few.p50 is few.p90 is few.p99 is None
    assert few.refused[0] == "p50 needs 11 samples, have 5"


def test_summary() -> None:
    summary = summarize(processes())
    assert (summary.n, summary.processes) == (3000, 3)
    assert summary.p50 is not None and summary.p90 is not None and summary.p99 is not None
    assert summary.p50.low < summary.p50.value < summary.p50.high
    assert summary.p50.value < summary.p90.value < summary.p99.value
    assert summary.p50.value == pytest.approx(1.0, abs=0.002)
    assert summary.p90.value == pytest.approx(1.0128, abs=0.002)
    assert summary.mean_s == pytest.approx(1.0, abs=0.002)
    assert summary.refused == ()


def test_the_same_samples_give_the_same_interval() -> None:
    assert summarize(processes()) == summarize(processes())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 99))
def test_an_interval_holds_its_estimate_and_lies_within_the_samples(sizes: list[list[int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [[random.exponential(size=n) for n in blocks] for blocks in sizes]
    everything = np.concatenate([block for process in samples for block in process])
    for estimate in percentile_intervals(samples, (0.5, 0.9), replicates=50):
        assert everything.min() <= estimate.low <= estimate.value <= estimate.high <= everything.max()


def test_processes_that_differ_widen_the_interval() -> None:
    (alike,) = percentile_intervals(processes(5), [0.5])
    (different,) = percentile_intervals(
        [np.array_split(noise(seed, 1000, 1 + seed / 20), 10) for seed in range(5)], [0.5]
    )
    assert different.high - different.low > 20 * (alike.high - alike.low)


def test_empty_blocks_count_for_nothing() -> None:
    padded = [[*blocks, np.empty(0)] for blocks in processes()] + [[np.empty(0)]]
    assert summarize(padded) == summarize(processes())


@pytest.mark.parametrize("samples", [[], [[]], [[np.empty(0)]]])
def test_no_samples(samples: list[list[Series]]) -> None:
    with pytest.raises(ValueError, match="there are no samples"):
        summarize(samples)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_what_is_no_latency(bad: float) -> None:
    with pytest.raises(ValueError, match="not a finite time"):
        summarize([[np.array([1.0, bad])]])


def test_coverage_on_correlated_samples() -> None:
    """AR(1) with ρ = 0.9 in three like processes: the nominal 95 % interval of the median holds the truth in 0.9."""
    from scipy.signal import lfilter

    random = np.random.default_rng(7)
    hits = 0
    for _ in range(100):
        shocks = random.standard_normal((3, 2000)) * np.sqrt(1 - 0.9**2)
        series = 10 + lfilter([1], [1, -0.9], shocks, axis=1)
        (interval,) = percentile_intervals([np.array_split(row, 20) for row in series], [0.5], replicates=200)
        hits += interval.low <= 10 <= interval.high
    assert hits >= 90


def test_a_quiet_run_is_steady() -> None:
    assert verdict(processes()) == ("steady", [])


def test_processes_that_differ_are_noisy() -> None:
    judged, reasons = verdict([np.array_split(noise(seed, 1000, 1 + seed / 10), 10) for seed in range(3)])
    assert judged == "noisy"
    assert reasons[0] == "the medians of 3 processes differ by 18%"


def test_slower_and_slower_is_drifting() -> None:
    ramp = np.linspace(1.0, 1.3, 1000)
    judged, reasons = verdict([np.array_split(noise(seed, 1000) * ramp, 10) for seed in range(3)])
    assert judged == "drifting"
    assert reasons[0] == "runs got 14% slower while measured"


def test_one_process_that_drifts_alone_is_not_a_drift() -> None:
    ramp = np.linspace(1.0, 1.3, 1000)
    judged, _ = verdict([[noise(0, 1000) * ramp], [noise(1, 1000)], [noise(2, 1000)]])
    assert judged == "noisy"


def test_too_few_runs_to_say() -> None:
    assert verdict([[np.ones(4)]]) == ("noisy", ["too few runs to say: p50 needs 11 samples, have 4"])

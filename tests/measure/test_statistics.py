from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.measure.statistics import (
    Estimate,
    Refused,
    Series,
    mean_interval,
    percentile,
    percentile_interval,
    summarize,
    verdict,
)


def noise(seed: int, n: int, centre: float = 1.0, spread: float = 0.01) -> Series:
    return centre + spread * np.random.default_rng(seed).standard_normal(n)


def processes(count: int = 3, n: int = 1000, **options: float) -> list[list[Series]]:
    return [np.array_split(noise(seed, n, **options), 10) for seed in range(count)]


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


def median(samples: list[list[Series]], q: float = 0.5) -> Estimate:
    found = percentile_interval(samples, q)
    assert isinstance(found, Estimate), found
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 99))
def test_an_interval_holds_its_estimate(sizes: list[list[int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [[random.exponential(size=n) for n in blocks] for blocks in sizes]
    for q in (0.5, 0.9):
        found = percentile_interval(samples, q)
        if isinstance(found, Estimate):
            assert 0 < found.low <= found.value <= found.high
        else:
            assert found.reason.startswith(f"p{100 * q:g} needs ")


def test_one_process_has_the_interval_of_the_order_statistics() -> None:
    series = np.random.default_rng(0).permutation(np.arange(1.0, 12.0))
    assert percentile_interval([[series]], 0.5) == Estimate(6.0, 2.0, 10.0)


def test_several_processes_have_students_interval() -> None:
    """Medians 1, 1.1 and 1.21: equal steps of the logarithm, s = log 1.1, t = 4.303."""
    found = median([[np.full(100, value)] for value in (1.0, 1.1, 1.21)])
    assert found.value == pytest.approx(1.1)
    assert found.high / found.value == pytest.approx(1.1 ** (4.303 / 3**0.5), rel=1e-3)
    assert found.value / found.low == pytest.approx(found.high / found.value)


def test_the_interval_is_never_narrower_than_one_process_has_it() -> None:
    alike = noise(0, 1000)
    several, one = median([[alike], [alike], [alike]]), median([[np.tile(alike, 3)]])
    assert several.low <= one.low and several.high >= one.high
    assert several.high > several.low


def test_processes_that_differ_widen_the_interval() -> None:
    alike = median(processes(5))
    different = median([np.array_split(noise(seed, 1000, 1 + seed / 20), 10) for seed in range(5)])
    assert different.high - different.low > 20 * (alike.high - alike.low)


def test_correlated_samples_are_refused_where_they_are_worth_too_little() -> None:
    ramp = np.linspace(1.0, 2.0, 1000)
    found = percentile_interval([[ramp]], 0.5)
    assert isinstance(found, Refused)
    assert found.reason.startswith("p50 needs 11 independent samples; 1000 correlated ones are worth ")


def test_every_process_needs_samples_beyond_its_percentile() -> None:
    found = percentile_interval([[noise(seed, 150)] for seed in range(5)], 0.99)
    assert isinstance(found, Refused)
    assert found.reason.startswith("p99 needs 200 independent samples in every process, one has 1")


def test_an_interval_of_one_value() -> None:
    with pytest.raises(ValueError, match="an interval needs at least 2 values, got 1"):
        mean_interval([1.0])


def test_latencies_below_the_clocks_tick() -> None:
    found = mean_interval([0.0, 0.0])
    assert found.low <= found.value <= found.high <= 1e-8


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
    assert reasons[0].startswith("runs got 14% slower while measured")


def test_one_process_that_drifts_alone_is_not_a_drift() -> None:
    ramp = np.linspace(1.0, 1.3, 1000)
    judged, _ = verdict([[noise(0, 1000) * ramp], [noise(1, 1000)], [noise(2, 1000)]])
    assert judged == "noisy"


def test_too_few_runs_to_say() -> None:
    assert verdict([[np.ones(4)]]) == ("noisy", ["too few runs to say: p50 needs 11 samples, have 4"])


def test_a_step_between_processes_is_a_drift() -> None:
    judged, reasons = verdict([[noise(seed, 1000, 1.0 if seed < 2 else 1.2)] for seed in range(5)])
    assert judged == "drifting"
    assert reasons[0] == "runs got 20% slower while measured"
    assert "the medians of 5 processes differ by" in reasons[1]


def test_a_clock_that_goes_in_steps_widens_the_interval() -> None:
    """A page's clock goes in steps of 5 µs: "10 µs ±0.01" would say what nobody knows."""
    wide = Estimate(10e-6, 10e-6, 10.02e-6).widened(5e-6)
    assert (wide.value, wide.low, wide.high) == pytest.approx((10e-6, 5e-6, 15.02e-6))
    assert Estimate(3e-6, 2e-6, 4e-6).widened(5e-6).low == 0
    assert Estimate(1.0, 0.9, 1.1).widened(0.0) == Estimate(1.0, 0.9, 1.1)

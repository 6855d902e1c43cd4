from __future__ import annotations

import numpy as np
import pytest

from edgekit.measure.endurance import Endurance, drift, judge_run
from edgekit.measure.state import DeviceState, Snapshot
from edgekit.measure.statistics import Estimate, Series


def blocks(trend: float, count: int = 300, seed: int = 0, noise: float = 0.01) -> tuple[list[Series], list[float]]:
    """A block a second; the latency grows by the share ``trend`` from the first to the last."""
    random = np.random.default_rng(seed)
    times = [float(index) for index in range(count)]
    made = [1e-3 * (1 + trend * at / count) * (1 + noise * random.standard_normal(50)) for at in times]
    return made, times


def state(before: int, after: int) -> DeviceState:
    return DeviceState(
        Snapshot(0.0, throttle_count=before, temperatures_c={"cpu": 40.0}),
        (),
        Snapshot(300.0, throttle_count=after, temperatures_c={"cpu": 85.0}),
    )


def test_a_run_that_holds() -> None:
    found = judge_run(*blocks(0.0), duration_s=300)
    assert found.verdict == "holds"
    assert isinstance(found.first_p50_s, Estimate) and isinstance(found.last_p50_s, Estimate)
    assert found.ratio is not None and found.ratio.low < 1 < found.ratio.high
    assert found.window_s == 60
    value = found.to_json(state(0, 0))
    assert value["thermal"] == "not throttled"
    assert value["thermal_reason"] == "the clocks held; 40 °C at first, 85 °C at most"


def test_a_run_that_gets_slower() -> None:
    found = judge_run(*blocks(0.5), duration_s=300)
    assert found.verdict == "slower"
    assert found.ratio is not None and found.ratio.value == pytest.approx(1.45 / 1.1 * 1.0, rel=0.05)
    assert found.drift_per_minute.low > 0.05
    value = found.to_json(state(3, 7))
    assert value["thermal"] == "throttled"
    assert "throttled 4 times" in value["thermal_reason"]
    assert found.to_json(None)["thermal"] == "unknown"


def test_a_run_that_gets_faster() -> None:
    assert judge_run(*blocks(-0.4), duration_s=300).verdict == "faster"


def test_a_change_too_small_to_matter_holds() -> None:
    assert judge_run(*blocks(0.03), duration_s=300).verdict == "holds"


def test_the_interval_of_the_drift_holds_a_known_one() -> None:
    """1 % a minute for ten minutes, in noise that is correlated from block to block (ρ = 0.8)."""
    from scipy.signal import lfilter

    held = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        times = np.arange(600.0)
        noise = lfilter([1], [1, -0.8], 0.01 * random.standard_normal(600))
        medians = 1e-3 * np.exp(np.log1p(0.01) * times / 60 + noise)
        found = drift([np.array([value]) for value in medians], list(times))
        held += found.low <= 0.01 <= found.high
    assert held >= 186  # 93 %


def test_too_few_blocks_for_a_line() -> None:
    found = drift([np.ones(3), np.ones(3)], [0.0, 1.0])
    assert (found.value, found.low, found.high) == (0.0, -np.inf, np.inf)


def test_too_few_runs_at_the_ends() -> None:
    made, times = blocks(0.0, count=4)
    found: Endurance = judge_run([block[:2] for block in made], times, duration_s=4)
    assert found.verdict == "unknown"
    assert found.to_json(None)["ratio"] is None

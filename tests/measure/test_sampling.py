"""On a scripted worker: what a real one does is in test_worker.py, the whole in tests/test_benchmarking.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Placement
from edgekit.errors import UsageError
from edgekit.measure.client import Memory, WorkerInfo
from edgekit.measure.sampling import Plan, sample

INFO = WorkerInfo("1", 0.5, 0.1, 0.2, 0.01, Placement(), {})


class Scripted:
    """A worker whose runs take what ``latency(process)`` says, without the time passing."""

    opened = 0

    def __init__(self, latency: Callable[[int], float], waits: float = 0.0) -> None:
        self.latency_s = latency(Scripted.opened)
        self.waits = waits
        self.random = np.random.default_rng(Scripted.opened)
        Scripted.opened += 1
        self.info = INFO

    def measure(self, seconds: float = 0.0, *, warmup_s: float = 0.0, **_: Any) -> np.ndarray[Any, Any]:
        time.sleep(self.waits)
        n = max(1, round(seconds / self.latency_s))
        return np.asarray(self.latency_s * (1 + 0.001 * self.random.standard_normal(n)))

    def memory(self) -> Memory:
        return Memory(None, None)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def run(latency: Callable[[int], float], plan: Plan, waits: float = 0.0, info: WorkerInfo = INFO) -> Any:
    Scripted.opened = 0

    def open_worker() -> Scripted:
        worker = Scripted(latency, waits)
        worker.info = info
        return worker

    return sample(open_worker, plan)  # type: ignore[arg-type,return-value]


def test_stops_as_soon_as_it_is_precise() -> None:
    done = run(lambda _: 0.001, Plan(precision=0.02))
    assert done.stopped.because == "precise"
    assert len(done.samples) == len(done.infos) == 5
    assert done.stopped.reached < 0.02


def test_adds_processes_until_it_is_precise() -> None:
    """Medians off by 1 %, up and down: five processes give ±1.4 %, so that 1 % takes more."""
    done = run(lambda process: 0.001 * (1.01 if process % 2 else 0.99), Plan(precision=0.01))
    assert done.stopped.because == "precise"
    assert 6 <= len(done.samples) <= 10


def test_stops_where_the_engines_clock_tells_no_more() -> None:
    """Steps of 0.1 ms in 1 ms: p50 is known to 10 %, however many runs there are."""
    stepping = replace(INFO, in_force={"clock": 1e-4})
    done = run(lambda _: 0.001, Plan(precision=0.02), info=stepping)
    assert done.stopped.because == "clock"
    assert done.stopped.reached == pytest.approx(0.1, abs=0.01)
    fine = run(lambda _: 0.001, Plan(precision=0.2), info=stepping)
    assert fine.stopped.because == "precise"


def test_stops_when_the_time_is_spent_and_says_what_is_known() -> None:
    done = run(lambda process: 0.001 * (1 + process % 2), Plan(precision=0.01, max_time_s=0.3), waits=0.02)
    assert done.stopped.because == "time"
    assert done.stopped.asked == 0.01
    assert done.stopped.reached > 0.01
    assert done.stopped.to_json()["because"] == "time"


def test_exactly_as_long_as_is_asked() -> None:
    done = run(lambda _: 0.001, Plan(seconds=0.8, processes=4))
    assert done.stopped.because == "seconds"
    assert len(done.samples) == 4
    assert sum(block.sum() for process in done.samples for block in process) == pytest.approx(0.8, rel=0.2)


def test_a_slow_model_is_run_until_its_patience_ends() -> None:
    done = run(lambda _: 0.004, Plan(seconds=0.2, processes=2), waits=0.0)
    assert sum(block.size for process in done.samples for block in process) >= 300


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"seconds": 0.0}, "the time to measure must be more than 0 seconds, got 0"),
        ({"max_time_s": float("inf")}, "the longest time to measure must be more than 0 seconds, got inf"),
        ({"precision": 2.0}, "the precision must lie between 0 and 1 (2 % is 0.02), got 2"),
        ({"processes": 0}, "the number of processes must be 1 or more, got 0"),
    ],
)
def test_plans_that_cannot_be(values: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Plan(**values)
    assert text in str(raised.value)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.api.compare import CompareResult, Turns, compare, conclude, ratio_of_rounds, stop
from edgekit.bundle import Bundle
from edgekit.contracts import Artifact
from edgekit.devices.local import LocalDevice
from edgekit.errors import BundleError, UsageError
from edgekit.measure.client import Worker
from edgekit.measure.sampling import Stopped
from edgekit.measure.statistics import Estimate
from edgekit.report.compare import compare_text

pytestmark = pytest.mark.alone

SLEEPING = """
import time
from dataclasses import dataclass
from edgekit.runtimes.null import Null, NullSession

class Session(NullSession):
    def __init__(self, artifact, delay_s):
        super().__init__(artifact, 0)
        self.delay_s = delay_s
    def bind(self, feeds):
        return lambda: time.sleep(self.delay_s)

class Sleeping(Null):
    @dataclass(frozen=True)
    class Options:
        threads: int = 0
        delay_s: float = 0.0
    def open(self, artifact, options):
        return Session(artifact, options.delay_s)
"""


@pytest.fixture
def sleeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Bundle]) -> Any:
    """Bundles whose runs sleep: 2 ms for `quick.edgekit`, 3 ms for `slow.edgekit`."""
    from edgekit.devices import local

    (tmp_path / "sleeping.py").write_text(SLEEPING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def open_sleeping(self: LocalDevice, artifact: Artifact, runtime: str, options: Any, feeds: Any) -> Worker:
        delay_s = 0.003 if "slow.edgekit" in str(artifact.path) else 0.002
        return Worker(local._COMMAND, artifact, "sleeping:Sleeping", {"delay_s": delay_s}, feeds)

    monkeypatch.setattr(LocalDevice, "open", open_sleeping)
    return make_bundle(tmp_path / "quick.edgekit").path, make_bundle(tmp_path / "slow.edgekit").path


@pytest.mark.slow
def test_slower_faster_and_equal(sleeping: tuple[Path, Path]) -> None:
    quick, slow = sleeping
    worse = compare(quick, slow, max_time_s=12, precision=None)
    assert worse.verdict == "slower", worse.reasons
    assert worse.ratio.value == pytest.approx(1.5, rel=0.1)
    better = edgekit.compare(slow, quick, max_time_s=12, precision=None)
    assert better.verdict == "faster", better.reasons
    assert better.ratio.high < 0.8
    check_json(better)


def test_a_bundle_against_itself(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle()
    result = compare(bundle.path, bundle.path, max_time_s=4)
    assert result.rounds >= 2
    assert result.control.low <= result.control.value <= result.control.high
    assert len(result.samples["a"]) == len(result.samples["b"]) == len(result.samples["control"]) == result.rounds
    value = check_json(result)
    assert value["a"] == value["b"] == str(bundle.path)
    text = compare_text(value, colour=False, width=110)
    assert "B ÷ A" in text and "the control: must hold 1" in text


def check_json(result: CompareResult) -> dict[str, Any]:
    value = result.to_json()
    json.dumps(value, allow_nan=False)
    assert value["schema"] == 1
    assert value["ratio"]["low"] <= value["ratio"]["value"] <= value["ratio"]["high"]
    assert value["verdict"] in ("faster", "slower", "indistinguishable")
    assert value["latency"]["a"]["processes"] == value["rounds"] == result.rounds
    assert value["stopped"]["because"] in ("precise", "clock", "time")
    return value


@pytest.mark.parametrize(
    ("ratio", "control", "outcome", "reason"),
    [
        ((0.5, 0.49, 0.51), (1.0, 0.99, 1.01), "faster", None),
        ((1.5, 1.49, 1.51), (1.0, 0.99, 1.01), "slower", None),
        ((1.0, 0.98, 1.02), (1.0, 0.99, 1.01), "indistinguishable", "lies between 0.980 and 1.020, which holds 1"),
        ((1.5, 1.49, 1.51), (1.2, 1.1, 1.3), "indistinguishable", "too noisy to tell: A differs from itself by 20.0%"),
    ],
)
def test_what_is_concluded(
    ratio: tuple[float, ...], control: tuple[float, ...], outcome: str, reason: str | None
) -> None:
    said, reasons = conclude(Estimate(*ratio), Estimate(*control))
    assert said == outcome
    assert (not reasons) if reason is None else reason in reasons[0]


def test_medians_of_a_clock_that_goes_in_steps_are_a_step_off() -> None:
    """10 and 20 µs by a clock of 5 µs: 2.00 ± 25 % ± 50 %; the same by a clock of 0.1 µs is 2.00 ± 1.5 %."""
    sides = {"a": [[np.full(50, 10e-6)]] * 6, "b": [[np.full(50, 20e-6)]] * 6}
    for clock_s, low, high in ((5e-6, 0.5, 3.5), (1e-7, 1.97, 2.03), (0.0, 2.0, 2.0)):
        turns = Turns(sides, clock_s, Stopped("time", 0.01, None, 1.0))
        found = turns.ratio("b")
        assert (found.value, found.low, found.high) == pytest.approx((2.0, low, high))
        assert turns.by_clock_alone == (clock_s > 0)


def test_a_step_that_is_small_beside_the_runs_is_not_what_limits_the_ratio() -> None:
    rounds = np.linspace(9e-3, 11e-3, 6)
    sides = {"a": [[np.full(50, 10e-3)]] * 6, "b": [[np.full(50, value)] for value in rounds]}
    assert not Turns(sides, 5e-6, Stopped("time", 0.01, None, 1.0)).by_clock_alone


def test_it_never_stops_for_what_the_ratio_says() -> None:
    clear, vague = ratio_of_rounds([1.0] * 6, [2.0] * 6), ratio_of_rounds([1.0, 1.1, 0.9], [2.0, 2.0, 2.0])
    assert stop(clear, clear, 6, 0.01)
    assert not stop(clear, clear, 5, 0.01)
    assert not stop(clear, vague, 6, 0.01)
    assert not stop(vague, clear, 6, 0.01)
    assert not stop(clear, clear, 60, None)


def test_what_cannot_be_compared(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle()
    with pytest.raises(BundleError, match=r"gone\.edgekit' does not exist"):
        compare(bundle.path, tmp_path / "gone.edgekit")
    with pytest.raises(UsageError, match="the longest time to measure must be more than 0 seconds"):
        compare(bundle.path, bundle.path, max_time_s=0)
    bare = make_bundle(tmp_path / "bare.edgekit", golden=[])
    with pytest.raises(UsageError, match=r"bare\.edgekit' holds no golden inputs to measure with"):
        compare(bundle.path, bare.path)


def test_a_machine_that_a_bundle_was_not_made_for_tells_nothing(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    ours = make_bundle(changes={"arch": ("riscv64",)})
    result = compare(ours, ours, max_time_s=1.0)
    assert result.verdict == "indistinguishable"
    assert result.reasons[0].startswith("made for riscv64, measured on ")

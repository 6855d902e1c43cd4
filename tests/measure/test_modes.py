"""The modes of `bench`, on a real bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgekit import bench
from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.measure.modes import Mode, Server, Sustained, Throughput, _share
from edgekit.report.bench import bench_text

pytestmark = pytest.mark.alone


def run(bundle: Bundle, mode: Mode, **options: Any) -> tuple[dict[str, Any], str]:
    value = bench(bundle, mode=mode, warmup_s=0.05, **options).to_json()
    json.dumps(value, allow_nan=False)
    assert value["mode"] == mode.name
    return value[mode.name], bench_text(value, colour=False, width=200)


def test_throughput(make_bundle: Callable[..., Bundle]) -> None:
    told, text = run(make_bundle(), Throughput(2), seconds=0.4, processes=2)
    assert told["streams"] == told["rounds"] == 2
    assert told["per_s"]["low"] <= told["per_s"]["value"] <= told["per_s"]["high"]
    assert told["per_s"]["value"] > 1000
    assert "runs/s" in text and "in 2 streams" in text


def test_throughput_of_one_round_has_no_interval(make_bundle: Callable[..., Bundle]) -> None:
    told, _ = run(make_bundle(), Throughput(1), seconds=0.1, processes=1)
    assert told["per_s"]["low"] is None


def test_server(make_bundle: Callable[..., Bundle]) -> None:
    told, text = run(make_bundle(), Server(200.0, 1.0), seconds=1.0, processes=2)
    assert 120 < told["requests"] < 290  # Poisson: 200 ± 6·√200
    assert told["misses"] == 0
    assert told["missed_share"]["low"] == 0 and told["missed_share"]["high"] == pytest.approx(3 / told["requests"])
    assert f"0 of {told['requests']} requests missed the deadline of 1.00 s" in text


def test_a_deadline_that_nothing_meets(make_bundle: Callable[..., Bundle]) -> None:
    told, _ = run(make_bundle(), Server(100.0, 1e-9), seconds=0.4, processes=2)
    assert told["missed_share"]["value"] == 1.0


@pytest.mark.slow
def test_sustained(make_bundle: Callable[..., Bundle]) -> None:
    told, text = run(make_bundle(), Sustained(5.0))
    assert told["duration_s"] == 5 and told["window_s"] == 1
    assert told["verdict"] in ("holds", "slower", "faster", "unknown")
    assert told["thermal"] in ("throttled", "not throttled", "unknown") and told["thermal_reason"]
    assert "drift" in text


def test_a_share_over_processes() -> None:
    assert _share([0.1, 0.1], [100, 100]) == pytest.approx({"value": 0.1, "low": 0.1, "high": 0.1})
    wide = _share([0.0, 0.2], [100, 100])
    assert (wide["value"], wide["low"], wide["high"]) == (0.1, 0.0, 1.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Throughput(0), "the number of streams must be 1 or more, got 0"),
        (lambda: Sustained(1.0), "a sustained run takes 5 s or more, got 1"),
        (lambda: Server(0.0, 1.0), "the rate must be more than 0, got 0"),
        (lambda: Server(1.0, float("nan")), "the deadline must be more than 0, got nan"),
    ],
)
def test_modes_that_cannot_be(make: Callable[[], Mode], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()

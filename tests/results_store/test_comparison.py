from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.errors import DataError
from edgekit.measure.statistics import Estimate
from edgekit.report.kept import comparison_text, conclusion, since_text
from edgekit.results_store import Record, Store, keep
from edgekit.results_store.comparison import compare_records, ratio, since_last


def bench(p50: float, half: float, **changes: Any) -> Record:
    value = {"latency": {"p50_s": {"value": p50, "low": p50 - half, "high": p50 + half}}, "bundle": "a.edgekit"}
    fields: dict[str, Any] = {"bundle_sha256": "1", "fingerprint": "2", "versions": {"edgekit": "0.1.0"}}
    return Record("a", "bench", "", {**value, **changes.pop("value", {})}, **{**fields, **changes})


@pytest.mark.parametrize(
    ("b", "verdict", "words"),
    [
        (0.5, "faster", "b is 2.0x faster than a."),
        (2.0, "slower", "b is 2.0x slower than a."),
        (1.02, "indistinguishable", "Not"),
    ],
)
def test_the_verdict(b: float, verdict: str, words: str) -> None:
    found = compare_records(bench(1.0, 0.03), bench(b, 0.03, bundle_sha256="2"))
    assert found.verdict == verdict
    assert conclusion(found).startswith(words)
    assert found.to_json()["interleaved"] is False


def test_what_else_differed_is_named() -> None:
    other = bench(
        1.0, 0.1, bundle_sha256="x", fingerprint="y", versions={"edgekit": "0.2.0"}, device={"cpu": "Other"},
        value={"runtime": {"name": "r", "options": {"threads": 2}}, "verdict": "noisy"},
    )  # fmt: skip
    assert compare_records(bench(1.0, 0.1, device={"cpu": "One"}), other).differences == (
        "bundle: a.edgekit and a.edgekit",
        "device: One and Other",
        "version of edgekit: 0.1.0 and 0.2.0",
        "option threads: None and 2",
    )
    assert compare_records(bench(1.0, 0.1), bench(1.0, 0.1)).differences == ()


def test_a_run_that_was_not_steady_supports_no_difference() -> None:
    found = compare_records(bench(1.0, 0.03, value={"verdict": "noisy"}), bench(0.5, 0.03, bundle_sha256="2"))
    assert found.verdict == "indistinguishable"
    assert conclusion(found).startswith("Not distinguishable: a was noisy. Taken at different times")


def test_a_bundle_that_differs_from_itself_tells_of_the_machine() -> None:
    found = compare_records(bench(1.0, 0.03), bench(0.8, 0.03))
    assert "which is the same bundle: the machine was not the same." in conclusion(found)


def test_the_interval_of_the_ratio_covers() -> None:
    """Two means of normal samples, 2,000 times: about 95 % of the intervals hold the true ratio."""
    random = np.random.default_rng(0)
    error = 0.02
    hits = 0
    for x, y in zip(random.normal(1.0, error, 2000), random.normal(1.5, 1.5 * error, 2000), strict=True):
        found = ratio(Estimate(x, x - 1.96 * error, x + 1.96 * error), Estimate(y, y - 2.94 * error, y + 2.94 * error))
        hits += found.low <= 1.5 <= found.high
    assert 0.93 < hits / 2000 < 0.97


def test_a_result_without_a_median_cannot_be_compared() -> None:
    nothing = Record("e1", "evaluate", "", {"metric": {"name": "top1", "value": 1.0}})
    with pytest.raises(DataError, match=r"result e1 \(evaluate\) states no median latency with an interval"):
        compare_records(bench(1.0, 0.1), nothing)


def test_two_models_are_said_first() -> None:
    sources = [
        {"source": {"spec": f"m.py:{name}", "parameters": count}} for name, count in (("tiny", 5418), ("big", 9))
    ]
    found = compare_records(bench(1.0, 0.03, value=sources[0]), bench(0.5, 0.03, value=sources[1]))
    text = comparison_text(found, colour=False, width=100)
    assert text.startswith("A and B are different models: they have 5,418 and 9 parameters.")
    assert found.to_json()["different_models"] == "A and B are different models: they have 5,418 and 9 parameters"


def speed(factor: float) -> dict[str, Any]:
    return {"speed": {"integer_s": 1e-4 * factor, "float_s": 1e-5 * factor, "memory_s": 1e-4 * factor}}


def test_a_machine_that_changed_as_much_explains_the_difference() -> None:
    found = compare_records(bench(84e-6, 1e-6, value=speed(1.0)), bench(125e-6, 1e-6, value=speed(1.45)))
    assert found.verdict == "indistinguishable"
    assert found.machine == pytest.approx(1.45)
    said = "Not distinguishable: the machine was 1.45x slower for b by its probe, which explains it."
    assert conclusion(found).startswith(said)


def test_a_machine_that_did_not_change_explains_nothing() -> None:
    found = compare_records(bench(84e-6, 1e-6, value=speed(1.0)), bench(125e-6, 1e-6, value=speed(1.02)))
    assert found.verdict == "slower"
    assert "machine     as fast for b as for a, as far as its probe tells (1.02x the time)" in comparison_text(
        found, colour=False, width=110
    )
    assert "the machine was not the same" not in conclusion(found), "it was: its probe says so"


def test_a_machine_that_changed_the_other_way_explains_nothing_either() -> None:
    found = compare_records(bench(84e-6, 1e-6, value=speed(1.0)), bench(168e-6, 1e-6, value=speed(0.6)))
    assert found.verdict == "slower"
    other = bench(84e-6, 1e-6, value=speed(9.0), fingerprint="another")
    assert compare_records(bench(84e-6, 1e-6, value=speed(1.0)), other).machine is None


def test_bench_says_what_changed_since_last_time(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    store, path = Store(tmp_path / "results"), str(make_bundle().path)

    def kept(p50: float, machine: float, moment: str, mode: str = "latency") -> str:
        latency = {"p50_s": {"value": p50, "low": 0.99 * p50, "high": 1.01 * p50}}
        value = {"bundle": path, "device": {"cpu": "x"}, "latency": latency, "mode": mode, **speed(machine)}
        record = keep("bench", value, store=store).record
        assert record.folder is not None
        record.folder.rename(record.folder.with_name(f"{moment}-bench-{record.id}"))
        return record.id

    first = kept(84e-6, 1.0, "20260101T000000")
    assert since_last(store, first) is None
    kept(9e-6, 1.0, "20260102T000000", mode="throughput")
    found = since_last(store, kept(125e-6, 1.45, "20260103T000000"))
    assert found is not None and found.a.id == first, "one that was measured otherwise is passed over"
    assert (since_text(found) or "").endswith(
        "1.49x the time now; the machine is 1.45x slower now, by its probe, which explains it."
    )
    found = since_last(store, kept(250e-6, 1.45, "20260104T000000"))
    assert found is not None
    assert (since_text(found) or "").endswith(
        "2.00x the time now; the machine is as fast now as then, as far as its probe tells (1.00x the time), "
        "which does not explain it."
    )
    found = since_last(store, kept(250e-6, 1.45, "20260105T000000"))
    assert found is not None and since_text(found) is None


def test_bench_compares_with_what_the_export_measured(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    store, path = Store(tmp_path / "results"), str(make_bundle().path)

    def kept(kind: str, moment: str, value: dict[str, Any]) -> str:
        record = keep(kind, {"bundle": path, "device": {"cpu": "x"}, **value}, store=store).record
        assert record.folder is not None
        record.folder.rename(record.folder.with_name(f"{moment}-{kind}-{record.id}"))
        return record.id

    def latency(p50: float) -> dict[str, Any]:
        return {"p50_s": {"value": p50, "low": 0.99 * p50, "high": 1.01 * p50}}

    rows = [
        {"name": "fast", "options": {"threads": 1}, "latency": {**latency(84e-6), **speed(1.0)}},
        {"name": "slow", "options": {"threads": 1}, "latency": {**latency(900e-6), **speed(9.0)}},
    ]
    made = kept("export", "20260101T000000", {"chosen": "fast", "candidates": rows})
    timed = {"latency": latency(125e-6), "mode": "latency", "runtime": {"options": {"threads": 1, "clock": 0}}}
    found = since_last(store, kept("bench", "20260102T000000", {**timed, **speed(1.45)}))
    assert found is not None and found.a.id == made
    assert (since_text(found) or "").endswith(
        "1.49x the time now; the machine is 1.45x slower now, by its probe, which explains it."
    )
    others = {**timed, "runtime": {"options": {"threads": 2}}, **speed(1.0)}
    assert since_last(store, kept("bench", "20260103T000000", others)) is None

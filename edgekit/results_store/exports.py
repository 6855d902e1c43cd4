"""A kept export as the value it was made from, so that it is told by the same code as a fresh one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contracts import PassRecord, Tolerance
from ..errors import DataError
from ..measure import probe
from ..measure.statistics import Estimate
from ..results import (
    CandidateResult,
    ExportResult,
    Latency,
    MemoryReport,
    MetricReport,
    Opinion,
    ParityReport,
    ReferenceReport,
    RolloutReport,
)


def export_result(value: Mapping[str, Any]) -> ExportResult:
    """The reverse of `ExportResult.to_json`; raw samples are not in it.

    Raises:
        DataError: the object is not a whole export's.
    """
    try:
        return _export(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"this is not a complete result of an export: {type(error).__name__} {error}") from error


def _export(value: Mapping[str, Any]) -> ExportResult:
    return ExportResult(
        target=value["target"],
        bundle=Path(value["bundle"]),
        size_bytes=value["size_bytes"],
        fp32_size_bytes=value["fp32_size_bytes"],
        source=value["source"],
        passes=tuple(PassRecord(**item) for item in value.get("passes", ())),
        candidates=tuple(_candidate(item) for item in value["candidates"]),
        chosen=value["chosen"],
        reason=value["reason"],
        placement=value["placement"],
        measured=value["not_measured_because"],
        calibration=value["calibration"],
        stages=tuple((item["name"], item["seconds"]) for item in value["stages"]),
        opset=value["opset"],
        graph_nodes=(value["nodes"]["exported"], value["nodes"]["after_passes"]),
        self_test=value["self_test"],
        device=value.get("device"),
        memory=_memory(value.get("memory")),
        reference=_reference(value.get("reference")),
        unverified=value.get("unverified"),
    )


def _memory(item: Mapping[str, Any] | None) -> MemoryReport | None:
    if item is None:
        return None
    return MemoryReport(item["limit_bytes"], item["peak_rss_bytes"], item["not_checked_because"])


def _reference(item: Mapping[str, Any] | None) -> ReferenceReport | None:
    """Results of an older edgekit have none."""
    if item is None:
        return None
    others = tuple(
        Opinion(
            other["name"],
            _number(other["sqnr_db"]) if other["agrees"] else other["sqnr_db"],  # null of equal outputs: infinite
            other["agrees"],
            other["why"],
        )
        for other in item["evaluators"]
    )
    return ReferenceReport(item["name"], item["decided_by"], item["samples"], others, item["first_node_that_differs"])


def _candidate(item: Mapping[str, Any]) -> CandidateResult:
    return CandidateResult(
        name=item["name"],
        runtime=item["runtime"],
        precision=item["precision"],
        options=item["options"],
        size_bytes=item["size_bytes"],
        nodes=item["nodes"],
        parity=_parity(item["parity"]) if item["parity"] else None,
        metric=MetricReport(**item["metric"]) if item["metric"] else None,
        rollout=_rollout(item["rollout"]) if item.get("rollout") else None,
        latency=_latency(item["latency"]) if item["latency"] else None,
        kept_float=tuple(item["kept_float"]),
        rejected=item["rejected"],
        withheld=item.get("withheld"),
        note=item["note"],
        peak_rss_bytes=item.get("peak_rss_bytes"),
    )


def _latency(item: Mapping[str, Any]) -> Latency:
    p90, speedup = item["p90_s"], item.get("speedup_over_fp32")
    return Latency(
        p50_s=estimate(item["p50_s"]),
        p90_s=estimate(p90) if p90 else None,
        n=item["n"],
        processes=item["processes"],
        screening=item["screening"],
        speedup=estimate(speedup) if speedup else None,
        machine_speed=probe.from_json(item.get("speed")),
    )


def _parity(item: Mapping[str, Any]) -> ParityReport:
    return ParityReport(
        passed=item["passed"],
        max_abs=_number(item["max_abs"]),
        rel_l2=_number(item["rel_l2"]),
        sqnr_db=_number(item["sqnr_db"]),
        samples=item["samples"],
        tolerance=Tolerance(**item["tolerance"]),
        reference=item["reference"],
        misses=tuple(item["misses"]),
        outputs={
            name: {key: v if key in ("part", "differ", "part_db") else _number(v) for key, v in row.items()}
            for name, row in item["outputs"].items()
        },
        part_db=_number(item["part_db"]) if "part_db" in item else math.nan,  # older records do not tell
        worst=item.get("worst", ""),
        differ=item.get("differ"),
    )


def _rollout(item: Mapping[str, Any]) -> RolloutReport:
    return RolloutReport(
        passed=item["passed"],
        steps=item["steps"],
        frames=item["frames"],
        worst_step=item["worst_step"],
        steps_db=tuple(map(_number, item["steps_db"])),
        state_bound=item["state_bound"],
        misses=tuple(item["misses"]),
        **{key: _number(item[key]) for key in ("sqnr_db", "max_abs", "first_db", "last_db", "tail_db", "worst_db")},
    )


def estimate(item: Mapping[str, Any]) -> Estimate:
    """From its JSON; an interval that the samples did not support is null there and not a number here."""
    ends = [math.nan if item[key] is None else float(item[key]) for key in ("low", "high")]
    return Estimate(float(item["value"]), *ends)


def _number(value: float | None) -> float:
    """Null stands for infinity: the signal-to-noise ratio of equal outputs."""
    return math.inf if value is None else value

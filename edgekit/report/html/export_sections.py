"""What the page tells of an export: the candidates and the pick, accuracy against latency, parity, passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ... import units
from ...measure.statistics import Samples
from ...results import CandidateResult, ExportResult, Latency
from ...results_store.exports import export_result
from ..stream import rollout_line, state_line
from ..text import accuracy_text, calibration_line, memory_text, parity_line, reference_line, source_line, worst_part
from . import figures
from .markup import Child, Markup, el, facts, table


def sections(
    value: Mapping[str, Any], series: Mapping[str, Samples], id: str
) -> Iterator[tuple[str, list[Child | figures.Figure]]]:
    """(heading, content) of each section.

    Args:
        value: the object of ``export --json``.
        series: candidate → its raw latencies.
        id: what the ids of figures begin with.
    """
    result = export_result(value)
    timed = [(item.name, found.p50_s.to_json(), item.name == result.chosen) for item, found in _timed(result)]
    yield (
        "Candidates",
        [
            el("p", source_line(result.source)),
            el("p", f"State: {state_line(result.source)}.") if result.source.get("state") else None,
            _candidates(result),
            el("p", "~ from a short round: not among the fastest, so not measured further.")
            if _screened(result)
            else None,
            el("p", f"Nothing was measured: {result.measured}.") if result.measured else None,
            el("p", f"Memory: {memory_text(result.memory)}.") if result.memory else None,
            figures.intervals(f"{id}-p50", _drawable(timed), "Median latency of the candidates"),
        ],
    )
    yield (
        "Speed and accuracy",
        [
            figures.distribution(f"{id}-ecdf", _ordered(result, series), "candidate"),
            _scatter(result, id),
        ],
    )
    yield "Parity with the reference", [_parity(result), _kept_float(result)]
    yield "The graph", [_graph(result), _passes(result)]


def _candidates(result: ExportResult) -> Markup:
    metric = _metric_title(result)
    told = ["threads", "nodes", "size", "p50", "vs fp32", metric or "metric", "SQNR", "worst part", "stream"]
    titles = ["candidate", *told, "remark"]
    rows = [_row(item, item.name == result.chosen) for item in result.candidates]
    mark = next(number for number, item in enumerate(result.candidates) if item.name == result.chosen)
    return table("Every way to ship the model that was tried", titles, rows, numeric=range(1, 1 + len(told)), mark=mark)


def _row(item: CandidateResult, picked: bool) -> list[Child]:
    remark = f"rejected: {item.rejected}" if item.rejected else (item.note or "")
    latency = item.latency
    return [
        item.name,
        str(item.options.get("threads") or ""),
        units.count(item.nodes) if item.nodes is not None else "",
        units.size(item.size_bytes) if item.size_bytes is not None else "",
        ("~" if latency.screening else "") + units.interval(latency.p50_s) if latency else "",
        units.ratio_interval(latency.speedup) if latency and latency.speedup else "",
        units.metric(item.metric.name, item.metric.value) if item.metric else "",
        accuracy_text(item.parity) if item.parity else "",
        worst_part(item.parity) if item.parity else "",
        units.decibels(item.rollout.sqnr_db) if item.rollout else "",
        el("strong", "◀ picked", f"; {remark}" if remark else None) if picked else remark,
    ]


def _timed(result: ExportResult) -> list[tuple[CandidateResult, Latency]]:
    return [(item, item.latency) for item in result.candidates if item.latency]


def _screened(result: ExportResult) -> bool:
    return any(item.latency and item.latency.screening for item in result.candidates)


def _drawable(rows: list[tuple[str, dict[str, float], bool]]) -> list[tuple[str, dict[str, float], bool]]:
    return [(name, {key: v for key, v in p50.items() if v == v}, picked) for name, p50, picked in rows]


def _ordered(result: ExportResult, series: Mapping[str, Samples]) -> dict[str, Samples]:
    """In the order of the table: the pick first."""
    return {item.name: series[item.name] for item in result.candidates if item.name in series}


def _scatter(result: ExportResult, id: str) -> figures.Figure | None:
    """Latency against the metric; where there is none, against the signal-to-noise ratio to the reference."""
    metric = _metric_title(result)
    points: list[dict[str, Any]] = []
    shown: list[list[str]] = []
    for item, latency in _timed(result):
        if item.metric is not None:
            y, text = item.metric.value, units.metric(item.metric.name, item.metric.value)
        elif not metric and item.parity is not None and item.parity.sqnr_db < float("inf"):
            y, text = item.parity.sqnr_db, units.decibels(item.parity.sqnr_db)
        else:
            continue
        p50 = latency.p50_s
        points.append({"name": item.name, "p50_s": p50.value, "y": y, "picked": item.name == result.chosen})
        shown.append([item.name, units.interval(p50), text])
    return figures.scatter(f"{id}-scatter", points, metric or "SQNR (dB)", shown)


def _metric_title(result: ExportResult) -> str:
    """``top1``, ``mse to labels``; '' where no metric was named."""
    found = next((item.metric for item in result.candidates if item.metric), None)
    return units.metric_title(found.name, found.compared_with) if found else ""


def _parity(result: ExportResult) -> Markup | None:
    parity = result.pick.parity
    if parity is None:
        return None
    rows: list[list[Child]] = [
        [name, *_sqnr(row), units.number(row["max_abs"]), units.number(row["rel_l2"])]
        for name, row in parity.outputs.items()
    ]
    titles = ["output", "SQNR", "worst part", "its SQNR", "max abs", "rel L2"]
    listed = table("The pick, output by output", titles, rows, numeric=(1, 3, 4, 5))
    asked = result.reference if result.reference and result.reference.decided_by != "pytorch" else None
    who = el("p", f"Reference: {reference_line(asked)}.") if asked else None
    rollout = result.pick.rollout
    streamed = el("p", f"Stream: {rollout_line(rollout)}.") if rollout else None
    return el("div", el("p", parity_line(parity)), who, listed if rows else None, streamed)


def _sqnr(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of the whole output, or how many integers differ; its worst part, and that one's."""
    whole = units.decibels(row["sqnr_db"])
    if row.get("differ") is not None:
        whole = f"{units.number(100 * row['differ'])} % differ"
    if row.get("part") is None:
        return whole, "", ""
    db = row["part_db"]
    return whole, row["part"] or "all of it, against what varies", units.decibels(math.inf if db is None else db)


def _kept_float(result: ExportResult) -> Markup | None:
    kept = result.pick.kept_float
    if not kept:
        return None
    names = el("ul", [el("li", el("code", name)) for name in kept])
    return el("details", el("summary", f"{len(kept)} nodes kept in floating point to hold the accuracy"), names)


def _graph(result: ExportResult) -> Markup:
    before, after = result.graph_nodes
    calibration = result.calibration or {}
    size = units.size(result.size_bytes)
    return facts(
        [
            ("nodes", f"{before} exported, {after} after the passes" if before else None),
            ("opset", str(result.opset) if result.opset else None),
            ("size", f"{size}, in fp32 {units.size(result.fp32_size_bytes)}" if result.fp32_size_bytes else size),
            ("calibrated on", _calibrated(calibration) if calibration.get("samples") else None),
            ("unverified", result.unverified),
            ("self-test of the bundle", result.self_test),
            ("the work took", units.duration(sum(seconds for _, seconds in result.stages))),
        ]
    )


def _calibrated(calibration: Mapping[str, Any]) -> str:
    if calibration.get("observed") or not calibration.get("real", True):
        return calibration_line(calibration)
    return f"{calibration['samples']} samples"


def _passes(result: ExportResult) -> Markup | None:
    if not result.passes:
        return None
    rows: list[list[Child]] = [
        [item.name, f"{item.nodes_before} → {item.nodes_after}" if item.modified else "no change", item.detail]
        for item in result.passes
    ]
    listed = table("Passes that every candidate shares", ["pass", "nodes", "what it did"], rows, numeric=(1,))
    return el("details", el("summary", f"{len(rows)} passes"), listed)

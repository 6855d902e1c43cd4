"""What the page tells of one result: its conclusion, then whatever the result holds, and how to repeat it.

A section appears only if its data is there: a benchmark without a profile has no roofline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import units
from ...errors import DataError
from ...measure.statistics import Samples
from ...results_store import Record
from ..kept import ODDITIES, command_line, made, odd, sentence_of, versions_text
from ..layout import cores_text
from . import export_sections, figures, state_sections
from .markup import Child, Markup, el, facts, join, table

Sections = Iterator[tuple[str, list[Child | figures.Figure]]]
"""(heading, paragraphs, tables and figures) of each section."""


@dataclass(slots=True)
class Article:
    """One result on the page."""

    id: str
    title: str
    record: Record
    conclusion: str
    mood: str  # "good", "bad" or ""
    sections: list[tuple[str, list[Child]]] = field(default_factory=list)
    figures: list[figures.Figure] = field(default_factory=list)

    @property
    def anchors(self) -> list[tuple[str, str]]:
        """(id, heading) of each section."""
        return [(f"{self.id}-{number}", heading) for number, (heading, _) in enumerate(self.sections, start=1)]

    def to_html(self) -> Markup:
        """The article, named by its heading."""
        record = self.record
        kind = " · ".join(
            part for part in (record.kind, record.id, made(record) + " UTC" * bool(record.created)) if part
        )
        parts = [
            el("section", el("h3", heading, id=anchor), *content, aria_labelledby=anchor)
            for (anchor, heading), (_, content) in zip(self.anchors, self.sections, strict=True)
        ]
        head = [el("p", kind, class_="kind"), el("h2", self.title, id=f"{self.id}-title")]
        conclusion = el("p", self.conclusion, class_=f"conclusion {self.mood}".strip())
        return el("article", head, conclusion, parts, id=self.id, aria_labelledby=f"{self.id}-title")


def article(record: Record, id: str) -> Article:
    """Everything there is to tell of a result; of an odd one, that it is: the others of the page are whole.

    Args:
        record: the result.
        id: of its element; those inside begin with it.
    """
    title = record.bundle or str(record.value.get("target") or record.kind)
    try:
        return _article(record, id, title)
    except (*ODDITIES, DataError) as error:
        found = error if isinstance(error, DataError) else odd(record.kind, error)
        return Article(id, title, record, f"Cannot be shown: {found.what}.", "bad")


def _article(record: Record, id: str, title: str) -> Article:
    conclusion, mood = sentence_of(record.kind, record.value)
    made_of = Article(id, title, record, conclusion, mood)
    for heading, content in _sections(record, id):
        parts: list[Child] = []
        for item in content:
            if isinstance(item, figures.Figure):
                made_of.figures.append(item)
                parts.append(item.to_html())
            elif item is not None:
                parts.append(item)
        if parts:
            made_of.sections.append((heading, parts))
    return made_of


def _sections(record: Record, id: str) -> Sections:
    value = record.value
    series, missing = _series(record)
    if record.kind == "export":
        yield from export_sections.sections(value, series, id)
    if record.kind == "bench":
        yield from _bench(value, series, id)
    if record.kind == "compare":
        yield from _compare(value, series, id)
    if record.kind == "evaluate":
        yield "Accuracy", [_metric(value)]
    if value.get("profile"):
        yield "Time by layer", list(state_sections.profile(value["profile"], id))
    if value.get("state"):
        yield "Device state", list(state_sections.state(value["state"], id))
    yield "Placement", [_placement(value)]
    yield "How it was measured", [_how(record), el("p", missing) if missing else None]
    yield "How to reproduce it", [_reproduce(record)]


def _series(record: Record) -> tuple[dict[str, Samples], str]:
    """The raw latencies that are there, and what is missing of them."""
    found: dict[str, Samples] = {}
    missing = []
    for name in record.series:
        try:
            found[name] = record.samples(name)
        except DataError as error:
            missing.append(error.what)
    return found, "; ".join(missing)


def _bench(value: Mapping[str, Any], series: Mapping[str, Samples], id: str) -> Sections:
    latency, why = value["latency"], value.get("not_measured", {})
    rows = [_percentile(key, latency[key], why) for key in ("p50_s", "p90_s", "p99_s") if key in latency]
    runs = f"{units.count(latency['n'])} runs in {latency['processes']} processes"
    reasons = el("ul", [el("li", text) for text in value.get("reasons", ())]) if value.get("reasons") else None
    yield (
        "Latency",
        [
            table(f"Latency over {runs}", ["percentile", "latency", "95 % interval", "remark"], rows, numeric=(1, 2)),
            reasons,
            *[figure for name in series for figure in _of_one_series(series[name], id)],
        ],
    )
    yield "Beside latency", [_beside(value, why)]


def _of_one_series(samples: Samples, id: str) -> Iterator[figures.Figure]:
    by_process = {f"process {number + 1}": [process] for number, process in enumerate(samples)}
    for figure in (figures.distribution(f"{id}-ecdf", by_process, "process"), figures.over_time(f"{id}-time", samples)):
        if figure is not None:
            yield figure


def _percentile(key: str, found: Mapping[str, Any] | None, why: Mapping[str, str]) -> list[Child]:
    name = key.removesuffix("_s")
    if not found:
        return [name, "not stated", None, why.get(f"latency.{key}", "")]
    unit = units.time_unit(found["value"])
    places = units.time_decimals(found["value"], unit) + 1
    ends = [units.time_in(unit, found[end], places) for end in ("low", "high") if found.get(end) is not None]
    return [name, units.time_in(unit, found["value"], places), " to ".join(ends), None]


def _beside(value: Mapping[str, Any], why: Mapping[str, str]) -> Markup:
    memory, energy = value.get("memory") or {}, value.get("energy_j")
    cold, harness = value.get("cold_start") or {}, (value.get("harness") or {}).get("p50_s")
    peak, throughput = memory.get("peak_rss_bytes"), value.get("throughput_per_s")
    return facts(
        [
            ("throughput", f"{units.count(throughput)} runs/s" if throughput else None),
            ("model", units.size(memory["model_bytes"]) if memory.get("model_bytes") is not None else None),
            ("memory at its peak", units.size(peak) if peak is not None else why.get("memory.peak_rss_bytes")),
            ("energy a run", _energy(energy) or f"not measured: {why.get('energy_j', 'no reason is given')}"),
            *((key.removesuffix("_s").replace("_", " "), _seconds(cold[key])) for key in cold if key.endswith("_s")),
            ("price of the harness", f"{units.latency(harness)} a run" if harness else None),
        ]
    )


def _seconds(value: Any) -> str | None:
    number = value.get("value") if isinstance(value, Mapping) else value
    return units.latency(number) if isinstance(number, (int, float)) else None


def _energy(energy: Any) -> str | None:
    number = energy.get("value") if isinstance(energy, Mapping) else energy
    if not isinstance(number, (int, float)):
        return None
    method = energy.get("method") if isinstance(energy, Mapping) else None
    return f"{units.number(number)} J" + (f", by {method}" if method else "")


def _compare(value: Mapping[str, Any], series: Mapping[str, Samples], id: str) -> Sections:
    rows: list[list[Child]] = []
    for name, key in (("b / a", "ratio"), ("control: a / a", "control")):
        found = value.get(key)
        if found and found.get("value") is not None:
            ends = [f"{found[end]:.3f}" for end in ("low", "high") if found.get(end) is not None]
            rows.append([name, f"{found['value']:.3f}", " to ".join(ends)])
    names = {"a": f"a: {value.get('a')}", "b": f"b: {value.get('b')}", "control": "control: a again"}
    named = {names.get(name, name): samples for name, samples in series.items()}
    yield (
        "Comparison",
        [
            table("Ratio of the median latencies", ["", "ratio", "95 % interval"], rows, numeric=(1, 2)),
            el("ul", [el("li", text) for text in value.get("reasons", ())]) if value.get("reasons") else None,
            figures.distribution(f"{id}-ecdf", named, "side"),
        ],
    )


def _metric(value: Mapping[str, Any]) -> Markup:
    metric = value["metric"]
    name = str(metric["name"])

    def shown(key: str) -> str | None:
        return units.metric(name, metric[key]) if isinstance(metric.get(key), (int, float)) else None

    def between(key: str) -> str | None:
        found = metric.get(key)
        return found and " to ".join(units.metric(name, found[end]) for end in ("low", "high"))

    verdict = metric.get("verdict")
    return facts(
        [
            (units.metric_title(name, metric.get("compared_with")), shown("value") or "exact"),
            ("of it", units.metric_details(metric.get("details") or {})),
            ("its 95 % interval", between("interval")),
            ("reference", shown("reference") and f"{shown('reference')} ({metric.get('reference_source')})"),
            ("the reference's 95 % interval", between("reference_interval")),
            ("worse by", shown("drop")),
            ("95 % interval of that", between("drop_interval")),
            ("against the reference", "not distinguishable" if verdict == "indistinguishable" else verdict),
            ("data", f"{value.get('data')}, {units.count(value.get('samples') or 0)} samples"),
        ]
    )


def _placement(value: Mapping[str, Any]) -> Markup | None:
    counts, nodes = value.get("placement"), value.get("placement_nodes")
    if not counts:
        why = (value.get("not_measured") or {}).get("placement")
        return el("p", f"Not known: {why}") if why else None
    rows = [[str(device), units.count(number)] for device, number in counts.items()]
    summary = table("Where the nodes ran", ["device", "nodes"], rows, numeric=(1,))
    if not nodes:
        return summary
    each = [[_text(node, key) for key in ("name", "op_type", "device", "precision", "reason")] for node in nodes]
    listed = table("Node by node", ["node", "operator", "device", "precision", "the engine's reason"], each)
    return join(summary, el("details", el("summary", f"All {len(nodes)} nodes"), listed))


def _text(item: Mapping[str, Any], key: str) -> str:
    return "" if item.get(key) is None else str(item[key])


def _how(record: Record) -> Markup:
    value, device = record.value, record.device
    runtime = value.get("runtime") or {}
    options = {**runtime.get("options", {}), **runtime.get("in_force", {})}
    memory = device.get("memory_bytes")
    return facts(
        [
            ("device", " ".join(str(device[key]) for key in ("board", "cpu", "machine") if device.get(key))),
            ("cores", cores_text(device, " used") if device.get("usable_cores") else None),
            ("memory", units.size(memory) if memory else None),
            ("system", _text(device, "os")),
            ("fingerprint of the device", record.fingerprint),
            ("engine", f"{runtime['name']} {runtime.get('version', '')}" if runtime.get("name") else None),
            ("options in force", ", ".join(f"{key}={item}" for key, item in options.items())),
            ("stopped", _stopped(value.get("stopped"))),
            ("versions", versions_text(record.versions)),
            ("hash of the bundle", record.bundle_sha256),
        ]
    )


def _stopped(stopped: Any) -> str | None:
    if not isinstance(stopped, Mapping):
        return None
    wanted, reached, spent = (stopped.get(key) for key in ("precision", "reached", "elapsed_s"))
    parts = [str(stopped.get("because", ""))]
    parts += [f"±{units.percent(wanted)} asked for"] if isinstance(wanted, float) else []
    parts += [f"±{units.percent(reached)} reached"] if isinstance(reached, float) else []
    parts += [f"after {units.duration(spent)}"] if isinstance(spent, (int, float)) else []
    return ", ".join(part for part in parts if part)


def _reproduce(record: Record) -> Markup:
    if not record.command:
        return el("p", "It was made from Python, or its command was not kept with it.")
    known = [f"edgekit {record.versions['edgekit']}"] if "edgekit" in record.versions else []
    known += [f"a bundle of hash {record.bundle_sha256[:12]}…"] if record.bundle_sha256 else []
    return join(
        el("pre", el("code", command_line(record.command)), tabindex="0"),
        el("p", f"With {', '.join(known)}, on the device above.") if known else None,
    )

"""Kept results as a person reads them on a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import units
from ..errors import DataError
from ..measure import probe
from ..measure.statistics import Estimate
from .compare import models_lines
from .layout import Ink, labelled, shorten, table, wrap

if TYPE_CHECKING:
    from ..results_store import Listing, Record, Row
    from ..results_store.comparison import Comparison

ODDITIES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What telling a result raises whose content is not what its command writes."""
_BUNDLE_WIDTH = 28
_DEVICE_WIDTH = 24


def listing_text(listing: Listing, colour: bool, width: int) -> str:
    """A line a result: id, time, kind, bundle, median, metric, what was concluded, device.

    Args:
        listing: what to show.
        colour: whether to use ANSI colours.
        width: columns of the terminal; the least telling columns are left out until a line fits.
    """
    ink = Ink(colour)
    if not listing.rows:
        return f"No results in {listing.store}. Make one: edgekit bench BUNDLE"
    rows = [_TITLES, *(_cells(row) for row in listing.rows)]
    keep = list(range(len(_TITLES)))
    for column in (None, *_EXPENDABLE):
        keep = [index for index in keep if _TITLES[index] != column]
        lines = table([[row[index] for index in keep] for row in rows], "".join(_ALIGN[index] for index in keep))
        if max(map(len, lines)) <= width:
            break
    out = [ink.label(lines[0])]
    for row, line in zip(listing.rows, lines[1:], strict=True):
        out.append(ink.bad(line) if row.problem else line)
        out += [f"          {ink.bad(part)}" for part in wrap(row.problem or "", width - 10) if part]
    shown = f"{len(listing.rows)} of {listing.total}" if listing.total > len(listing.rows) else str(listing.total)
    results = "results" if listing.total != 1 else "result"
    return "\n".join([*out, ink.faint(f"{shown} {results} in {listing.store}   Look closer: edgekit results show ID")])


_TITLES = ("id", "made (UTC)", "kind", "bundle", "hash", "p50", "metric", "conclusion", "device")
_ALIGN = "<<<<<><<<"
_EXPENDABLE = ("hash", "device", "metric")


def _cells(row: Row) -> tuple[str, ...]:
    metric = ""
    if row.metric is not None and row.metric_value is not None:
        metric = f"{row.metric.partition(',')[0]} {units.metric(row.metric, row.metric_value)}"
    return (
        row.id,
        row.created[:16].replace("T", " "),
        row.kind,
        shorten(row.bundle or "", _BUNDLE_WIDTH),
        (row.bundle_sha256 or "")[:8],
        _estimate(row.p50_s, row.p50_low_s, row.p50_high_s),
        metric,
        "cannot be read" if row.problem else shorten(row.conclusion or "", _BUNDLE_WIDTH),
        shorten(row.device or "", _DEVICE_WIDTH),
    )


def _estimate(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    if low is None or high is None:
        return units.latency(value)
    return units.interval(Estimate(value, low, high))


def record_text(record: Record, colour: bool, width: int) -> str:
    """A kept result: what it was made with, then what the command itself printed.

    Args:
        record: the result.
        colour: whether to use ANSI colours.
        width: columns of the terminal.
    """
    ink = Ink(colour)
    made = "   ".join(part for part in (record.id, record.kind, record.created) if part)
    lines = labelled("result", made, ink, width)
    if record.command:
        lines += labelled("command", command_line(record.command), ink, width)
    if record.bundle_sha256:
        lines += labelled("hash", record.bundle_sha256, ink, width)
    if record.fingerprint:
        lines += labelled("fingerprint", f"{record.fingerprint}   of the device", ink, width)
    if record.versions:
        lines += labelled("versions", versions_text(record.versions), ink, width)
    if record.folder is not None and record.series:
        lines += labelled("kept in", str(record.folder), ink, width)
    return "\n".join([*lines, "", value_text(record.kind, record.value, colour, width)])


def command_line(words: Sequence[str]) -> str:
    """Words as a shell takes them."""
    return shlex.join(words)


def versions_text(versions: Mapping[str, str]) -> str:
    """``edgekit 0.1.0, onnxruntime 1.32.0``."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def value_text(kind: str, value: Mapping[str, Any], colour: bool, width: int) -> str:
    """The object of a command's ``--json`` as that command prints it; of an unknown kind, as JSON.

    Raises:
        DataError: it is not what this edgekit's command writes.
    """
    try:
        return _value_text(kind, value, colour, width)
    except ODDITIES as error:
        raise odd(kind, error) from error


def odd(kind: str, error: Exception) -> DataError:
    """A result that can be read, and holds something else than it should."""
    return DataError(
        f"the result is not what edgekit {kind} writes: {type(error).__name__}: {error}",
        fix="Look at it as it is: edgekit results show ID --json",
    )


def _value_text(kind: str, value: Mapping[str, Any], colour: bool, width: int) -> str:
    from ..plain import to_json
    from .bench import bench_text, evaluate_text

    if kind == "bench":
        return bench_text({"samples": None, **value}, colour, width)
    if kind == "evaluate":
        return evaluate_text(value, colour, width)
    if kind == "export":
        from ..results_store.exports import export_result
        from .text import export_text

        return export_text(export_result(value), colour, width)
    return to_json(value)


def made(record: Record) -> str:
    """When it was made, to the minute, UTC; empty where that is not known."""
    return record.created[:16].replace("T", " ")


def p50_of(record: Record) -> Estimate | None:
    """The median latency it states: of a benchmark, or of the candidate that an export picked."""
    from ..results_store.index import summary

    row = summary(record)
    if row["p50_s"] is None:
        return None
    ends = [math.nan if row[key] is None else row[key] for key in ("p50_low_s", "p50_high_s")]
    return Estimate(row["p50_s"], *ends)


def sentence_of(kind: str, value: Mapping[str, Any]) -> tuple[str, str]:
    """What to conclude from a result, in one line, and whether that is "good", "bad" or neither ("")."""
    if kind == "export":
        from ..results_store.exports import export_result
        from .text import conclusion as export_conclusion

        return export_conclusion(export_result(value)), "good"
    reasons = "; ".join(value.get("reasons") or ())
    if kind == "bench":
        text = {
            "steady": "Steady: these numbers can be relied on.",
            "noisy": f"Noisy: measure again on a quieter machine ({reasons}).",
            "drifting": f"Drifting: the device was not the same at the end ({reasons}).",
        }.get(str(value.get("verdict")), "")
        return text, "good" if value.get("verdict") == "steady" else "bad"
    if kind == "compare":
        verdict = str(value.get("verdict"))
        told = {"indistinguishable": "Not distinguishable in speed."}.get(verdict, f"b is {verdict} than a.")
        return (f"{told} ({reasons})" if reasons else told), "good" if verdict == "faster" else ""
    if kind == "evaluate":
        metric = value["metric"]
        name, found = str(metric["name"]), metric.get("value")
        shown = "exact" if found is None else units.metric(name, found)
        drop = metric.get("drop")
        if drop is None:
            return f"{name} is {shown}; what it should be is not known.", ""
        if drop == 0:
            return f"{name} is {shown}, the same as the reference.", "good"
        word = "worse" if drop > 0 else "better"
        unclear = (
            ", which these samples cannot tell from chance" if metric.get("verdict") == "indistinguishable" else ""
        )
        return f"{name} is {shown}, {units.metric(name, abs(drop))} {word} than the reference{unclear}.", ""
    return "", ""


def comparison_text(found: Comparison, colour: bool, width: int) -> str:
    """Two results, their ratio, and what differs between them.

    Args:
        found: what `compare_records` returned.
        colour: whether to use ANSI colours.
        width: columns of the terminal.
    """
    ink = Ink(colour)
    lines = models_lines(found.different_models, width)
    for name, record, p50 in (("a", found.a, found.p50_a), ("b", found.b, found.p50_b)):
        text = f"{units.interval(p50)}   {record.id}   {record.bundle or ''}   {made(record)}"
        lines += labelled(name, text, ink, width)
    ratio = found.ratio
    interval = f"{ratio.low:.3f} to {ratio.high:.3f} with 95 % confidence"
    lines += labelled("b / a", f"{ratio.value:.3f}   {interval}", ink, width)
    if found.machine is not None:
        lines += labelled("machine", _machine(found.machine, "for b", "for a"), ink, width)
    for text in found.differences:
        lines += labelled("differs", text, ink, width)
    return "\n".join([*lines, *(ink.good(line) for line in wrap(conclusion(found), width))])


def since_text(found: Comparison) -> str | None:
    """What changed since the same bundle was measured before: it, or the machine. None: nothing is known to have."""
    changed = found.machine is not None and not 1 / probe.SAME <= found.machine <= probe.SAME
    if found.verdict == "indistinguishable" and not changed:
        return None
    before = f"Before ({found.a.id}, {made(found.a)} UTC): {units.interval(found.p50_a)}."
    if found.machine is None:
        return f"{before} How fast the machine was then is not known."
    ratio = found.ratio.value
    times = f"{ratio:.2f}x the time now" if ratio >= 1 else f"{1 / ratio:.2f}x faster now"
    explains = any("its probe" in text for text in found.unsteady)
    why = "which explains it" if explains else "which does not explain it"
    return f"{before} {times}; the machine is {_machine(found.machine, 'now', 'then')}, {why}."


def _machine(change: float, now: str, then: str) -> str:
    if 1 / probe.SAME <= change <= probe.SAME:
        return f"as fast {now} as {then}, as far as its probe tells ({change:.2f}x the time)"
    told = f"{change:.2f}x slower" if change > 1 else f"{1 / change:.2f}x faster"
    return f"{told} {now}, by its probe"


def conclusion(found: Comparison) -> str:
    """What to make of two kept results, in one sentence."""
    again = "Taken at different times; to be sure: edgekit compare A B."
    if found.unsteady:
        return f"Not distinguishable: {' and '.join(found.unsteady)}. {again}"
    if found.verdict == "indistinguishable":
        return f"Not distinguishable. {again}"
    times = units.ratio(found.ratio.value if found.verdict == "slower" else 1 / found.ratio.value)
    same = found.a.bundle_sha256 is not None and found.a.bundle_sha256 == found.b.bundle_sha256
    if same and not found.differences:
        why = "the machine was not the same"
        if found.machine is not None:
            why = "the machine's probe does not explain it"
        return f"b is {times} {found.verdict} than a, which is the same bundle: {why}. {again}"
    return f"b is {times} {found.verdict} than a. {again}"

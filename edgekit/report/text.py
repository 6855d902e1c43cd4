"""What an export found, as a person reads it on a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import units
from ..accuracy.same_graph import same_graph_text
from ..contracts import PassRecord, Tolerance
from ..results import CandidateResult, ExportResult, MemoryReport, Opinion, ParityReport, ReferenceReport
from .layout import Ink, columns, labelled, shorten, wrap
from .stream import rollout_line, state_line

_NAMES_SHOWN = 3
_SCREENING = "~"
_NAME_WIDTH = 40


def export_text(result: ExportResult, colour: bool, width: int) -> str:
    """The picture of an export: source, graph, candidates, parity, bundle, and the conclusion.

    Args:
        result: what `api.export` returned.
        colour: whether to use ANSI colours.
        width: columns of the terminal; the table leaves out columns rather than break its lines.
    """
    ink = Ink(colour)
    lines = labelled("source", source_line(result.source), ink, width)
    if result.source.get("made_up"):
        lines += labelled("inputs", made_up_line(result.source["made_up"]), ink, width)
    if result.source.get("state"):
        lines += labelled("state", state_line(result.source), ink, width)
    for note in result.source.get("notes") or ():
        lines += labelled("note", note, ink, width)
    lines += labelled("exported", _exported(result), ink, width)
    lines += _candidates(result, ink, width)
    if result.calibration and (result.calibration.get("observed") or not result.calibration.get("real", True)):
        lines += labelled("calibration", calibration_line(result.calibration), ink, width)
    if result.emulated is not None:
        lines += labelled("verified", verified_text(result), ink, width)
    elif result.measured is not None:
        lines += labelled("measured", f"nothing: {result.measured}", ink, width)
    if result.memory is not None:
        lines += labelled("memory", memory_text(result.memory), ink, width)
    lines += _kept_float(result.pick, ink, width)
    if result.reference is not None and result.reference.decided_by != "pytorch":
        lines += labelled("reference", reference_line(result.reference), ink, width)
    if result.pick.parity:
        lines += labelled("parity", parity_line(result.pick.parity), ink, width)
    if result.pick.rollout:
        lines += labelled("stream", rollout_line(result.pick.rollout), ink, width)
    if len(result.placement) > 1:
        lines += labelled("placement", placement_text(result.placement), ink, width)
    lines += labelled("bundle", _bundle(result), ink, width)
    lines += [ink.good(line) for line in wrap(conclusion(result), width)]
    return "\n".join(lines)


def memory_text(memory: MemoryReport) -> str:
    """``0.11 GB at its peak, of the target's 8.59 GB``, or why that is not known."""
    has = f"the target's {units.size(memory.limit_bytes)}"
    if memory.peak_rss_bytes is None:
        return f"not checked against {has}: {memory.not_checked}"
    return f"{units.size(memory.peak_rss_bytes)} at its peak, of {has}"


def source_line(source: Mapping[str, Any]) -> str:
    """``net.py:build   ResNet, 309 k parameters, 41.2 M MACs   image float32 1x1x32x32``, as far as it is known."""
    facts = [str(source[key]) for key in ("description", "quantized") if source.get(key)]
    facts += [f"{units.count(source[key])} {word}" for key, word in _SIZES if source.get(key) is not None]
    inputs = [tensor_line(item) for item in source.get("inputs", ())]
    return "   ".join(part for part in (str(source.get("spec", "")), ", ".join(facts), ", ".join(inputs)) if part)


def made_up_line(what: str) -> str:
    """``made-up images 1x3x32x32: latency and parity hold for these alone``."""
    return f"made-up {what}: latency and parity hold for these alone"


_SIZES = (("parameters", "parameters"), ("macs", "MACs"))


def tensor_line(spec: Any) -> str:
    """``image float32 1x1x32x32`` of a TensorSpec or its JSON."""
    if not isinstance(spec, Mapping):
        return str(spec)
    shape = "x".join(map(str, spec["shape"])) or "scalar"
    return f"{spec['name']} {spec['dtype']} {shape}"


def parity_line(parity: ParityReport) -> str:
    """How far the engine is from the reference, and how far it may be."""
    samples = f"{parity.samples} sample{'s' if parity.samples != 1 else ''}"
    errors = f"max abs {units.number(parity.max_abs)}, rel L2 {units.number(parity.rel_l2)}"
    found = ", ".join(filter(None, (accuracy_text(parity), worst_text(parity), f"{errors} on {samples}")))
    return f"{parity.reference} → bundle: {found}; tolerance {tolerance_text(parity.tolerance)}"


def reference_line(reference: ReferenceReport) -> str:
    """``ONNX Runtime 1.32.0 unoptimised: onnx.reference 1.23.2 agrees (128 dB on 8 samples)``."""
    samples = f"{reference.samples} sample{'s' if reference.samples != 1 else ''}"
    said = [_opinion(item, samples, reference.node) for item in reference.others]
    return reference.title + (f": {'; '.join(said)}" if said else "")


def _opinion(item: Opinion, samples: str, node: str | None) -> str:
    if item.agrees is None:
        return f"{item.name} cannot run it ({item.why})"
    known = item.sqnr_db is not None and item.sqnr_db > -math.inf
    found = f"{units.decibels(item.sqnr_db)} on {samples}" if known and item.sqnr_db is not None else item.why
    if item.agrees:
        return f"{item.name} agrees ({found})"
    return f"{item.name} differs ({found})" + (f", first at {node}" if node else "")


def calibration_line(calibration: Mapping[str, Any]) -> str:
    """``64 samples of digits.npz, 31 tensors; outliers: 'x' reaches 1e+30 in sample 3, 99.9 % of its values 3.36``.

    Without data: ``no data: ranges of made-up images 1x3x32x32 alone``.
    """
    if not calibration.get("real", True):
        return f"no data: ranges of {units.example_input(calibration['made_up'])} alone"
    samples, observed = calibration["samples"], calibration["observed"]
    head = f"{samples} sample{'s' if samples != 1 else ''} of {calibration['data']}, {len(observed['tensors'])} tensors"
    odd = [f"{len(observed[kind])} {kind}" for kind in ("constant", "saturated") if observed[kind]]
    return "; ".join([", ".join([head, *odd]), *observed["warnings"]])


def accuracy_text(parity: ParityReport) -> str:
    """``29 dB``; of integers alone, how many differ: ``0.3 % differ``."""
    if parity.differ is not None and len(parity.outputs) == sum(1 for row in parity.outputs.values() if _differs(row)):
        return f"{units.number(100 * parity.differ)} % differ"
    return units.decibels(parity.sqnr_db)


def worst_text(parity: ParityReport) -> str:
    """``worst part [:, 4:8] of 'output' 8 dB``; "" where nothing was told apart, or all is equal."""
    parts = [(row["part_db"], name, row["part"]) for name, row in parity.outputs.items() if row.get("part") is not None]
    parts = [(db, name, index) for db, name, index in parts if db is not None and math.isfinite(db)]
    if not parts:
        return ""
    db, name, index = min(parts)
    where = f"worst part {index} of '{name}'" if index else f"'{name}' against what varies in it"
    return f"{where} {units.decibels(db)}"


def _differs(row: Mapping[str, Any]) -> bool:
    return row.get("differ") is not None


def placement_text(placement: Mapping[str, int]) -> str:
    """``29 on CUDA, 2 on CPU``: numbers of nodes."""
    return ", ".join(f"{count} on {device}" for device, count in placement.items())


def verified_text(result: ExportResult) -> str:
    """Where the pick was checked instead of on the device, and what that showed."""
    shown = f"on the emulator ({result.emulated}): nodes: {placement_text(result.placement)}"
    same = result.pick.same_graph
    return "; ".join([shown, *([same_graph_text(same)] if same else []), "latency needs a device"])


def tolerance_text(tolerance: Tolerance) -> str:
    """``SQNR ≥ 25 dB, rel L2 ≤ 0.001``."""
    stated = []
    if tolerance.sqnr_db is not None:
        stated.append(f"SQNR ≥ {units.number(tolerance.sqnr_db)} dB")
    if tolerance.part_db is not None:
        stated.append(f"worst part ≥ {units.number(tolerance.part_db)} dB")
    if tolerance.rel_l2 is not None:
        stated.append(f"rel L2 ≤ {units.number(tolerance.rel_l2)}")
    if tolerance.max_abs is not None:
        stated.append(f"max abs ≤ {units.number(tolerance.max_abs)}")
    if tolerance.atol is not None:
        stated.append(f"each within {units.number(tolerance.atol)} + {units.number(tolerance.rtol or 0.0)}·|ref|")
    return ", ".join(stated) or "none stated"


def _exported(result: ExportResult) -> str:
    before, after = result.graph_nodes
    text = f"ONNX opset {result.opset}, {before} → {after} nodes after {_passes(result.passes)}"
    seconds = [took for name, took in result.stages if "export" in name]
    return f"{text}   {units.duration(sum(seconds))}" if seconds else text


def _passes(passes: Sequence[PassRecord]) -> str:
    changed = sum(1 for item in passes if item.modified)
    return f"{changed} of {len(passes)} passes" if changed != len(passes) else f"{len(passes)} passes"


def _candidates(result: ExportResult, ink: Ink, width: int) -> list[str]:
    """The table. A row: name, threads, nodes, size, p50, speed, metric, SQNR, and what is worth knowing."""
    # Columns are left out, the least telling first, until the table fits; at last names are shortened.
    for left_out in range(len(_EXPENDABLE) + 2):
        table = _cells(result, compact=left_out > len(_EXPENDABLE))
        keep = [i for i, name in enumerate(_COLUMNS) if name not in _EXPENDABLE[:left_out]]
        cells = columns([[row[i] for i in keep] for row in table], "<" + ">" * len(keep[1:]))
        lines = ["   ".join(row) for row in cells]
        if len(lines[0]) + len(_PICKED) <= width:
            break
    out = [ink.label(lines[0].rstrip())]
    for item, line in zip(result.candidates, lines[1:], strict=True):
        out += _row(line.rstrip(), item, item.name == result.chosen, ink, width)
    if any(item.latency and item.latency.screening for item in result.candidates):
        out.append(ink.faint(f"  {_SCREENING} from a short round: not among the fastest, so not measured further"))
    return out


_PICKED = "   ◀ picked"
_COLUMNS = ("name", "threads", "nodes", "size", "p50", "speed", "metric", "SQNR", "worst part", "stream")
_EXPENDABLE = ("nodes", "size", "threads", "SQNR")


def _cells(result: ExportResult, compact: bool) -> list[list[str]]:
    """The header, then a row a candidate; a column that is empty in every row has no title and takes no room."""
    timed = [item.latency.p50_s.value for item in result.candidates if item.latency]
    # One unit and one number of decimals for the whole column: those of the fastest.
    unit = units.time_unit(min(timed)) if timed else "ms"
    decimals = units.time_decimals(min(timed), unit) if timed else 2
    metric = next(
        (units.metric_title(item.metric.name, item.metric.compared_with) for item in result.candidates if item.metric),
        "",
    )
    p50 = _aligned([_p50(item, unit, decimals) for item in result.candidates])
    rows = [
        [
            "  " + shorten(item.name, _NAME_WIDTH // 2 if compact else _NAME_WIDTH),
            str(item.options.get("threads") or ""),
            str(item.nodes) if item.nodes is not None else "",
            units.size(item.size_bytes) if item.size_bytes is not None else "",
            p50[index],
            units.ratio_interval(item.latency.speedup) if item.latency and item.latency.speedup else "",
            units.metric(item.metric.name, item.metric.value) if item.metric else "",
            accuracy_text(item.parity) if item.parity else "",
            worst_part(item.parity) if item.parity else "",
            units.decibels(item.rollout.sqnr_db) if item.rollout else "",
        ]
        for index, item in enumerate(result.candidates)
    ]
    rounds = {item.latency.processes for item in result.candidates if item.latency and not item.latency.screening}
    how = f" ({max(rounds)} process{'es' if max(rounds) > 1 else ''} each)" if rounds and not compact else ""
    against = f"vs {'source' if result.source.get('quantized') else 'fp32'}"
    titles = [f"candidates{how}", "threads", "nodes", "size", "p50", against, metric, "SQNR", "worst part", "stream"]
    return [[title if any(row[i] for row in rows) else "" for i, title in enumerate(titles)], *rows]


def worst_part(parity: ParityReport) -> str:
    """In decibels; "" where no output's parts were told apart."""
    return units.decibels(parity.part_db) if any(row.get("part") is not None for row in parity.outputs.values()) else ""


def _p50(item: CandidateResult, unit: str, decimals: int) -> str:
    if item.latency is None:
        return ""
    return (_SCREENING if item.latency.screening else "") + units.interval(item.latency.p50_s, unit, decimals)


def _aligned(texts: Sequence[str]) -> list[str]:
    """Pad the values without an interval, so that all values stand under each other."""
    tails = {len(text) - len(text.partition(" ±")[0]) for text in texts}
    return [text if " ±" in text or not text else text + " " * max(tails) for text in texts]


def _row(line: str, item: CandidateResult, picked: bool, ink: Ink, width: int) -> list[str]:
    """A candidate's line, and under it what does not fit beside it."""
    if picked:
        line = ink.good(line + _PICKED)
        return [line, *_under(item.note, ink.faint, width)] if item.note else [line]
    said = f"rejected: {item.rejected}" if item.rejected else item.note
    paint = ink.bad if item.rejected else ink.faint
    if not said:
        return [line]
    if len(line) + 3 + len(said) <= width and "\n" not in said:
        return [f"{line}   {paint(said)}"]
    return [line, *_under(said, paint, width)]


def _under(text: str, paint: Callable[[str], str], width: int) -> list[str]:
    return [f"      {paint(line)}" for part in text.splitlines() for line in wrap(part.strip(), max(width - 6, 20))]


def _kept_float(item: CandidateResult, ink: Ink, width: int) -> list[str]:
    if not item.kept_float:
        return []
    shown = ", ".join(item.kept_float[:_NAMES_SHOWN])
    more = len(item.kept_float) - _NAMES_SHOWN
    total = f" of {item.nodes}" if item.nodes else ""
    text = (
        f"{len(item.kept_float)}{total} nodes, to hold the accuracy: {shown}{f' and {more} more' if more > 0 else ''}"
    )
    return labelled("kept float", text, ink, width)


def _bundle(result: ExportResult) -> str:
    size = units.size(result.size_bytes)
    if result.fp32_size_bytes is not None and result.fp32_size_bytes != result.size_bytes:
        size += f" (fp32: {units.size(result.fp32_size_bytes)})"
    return "   ".join(part for part in (str(result.bundle), size, result.self_test) if part)


def conclusion(result: ExportResult) -> str:
    """What the user gained, in one sentence: against the fastest fp32 candidate, at which accuracy.

    Where nothing was gained (fp32 was picked) or measured, the pipeline's reason.
    """
    pick = result.pick
    gain = pick.latency.speedup if pick.latency else None
    timed = [(item, item.latency) for item in result.candidates if item.latency and not item.rejected]
    whole = {"fp32", str(result.source.get("precision", "fp32"))}  # of a quantized source nothing is finer
    plain = [pair for pair in timed if pair[0].precision in whole]
    if pick.precision in whole or pick.latency is None or not plain:
        return _sentence(result.reason)
    fp32, latency = min(plain, key=lambda pair: (pair[1].screening, pair[1].p50_s.value))
    ours, theirs = pick.latency.p50_s, latency.p50_s
    overlap = theirs.low <= ours.high if gain is None else gain.low <= 1
    if overlap:  # False where an end is NaN: a short round has no interval to overlap
        speed = f"Not distinguishable in speed from {fp32.name}"
    elif gain is not None:
        speed = f"{units.ratio_interval(gain)} faster than {fp32.name}"
    else:
        about = "About " if latency.screening else ""
        speed = f"{about}{units.ratio(theirs.value / ours.value)} faster than {fp32.name}"
    aside = result.reason.partition("; ")[2]  # what else was decided: after what the speed says
    return " ".join(filter(None, (f"{speed}{_at_accuracy(pick)}.", _sentence(aside))))


def _at_accuracy(pick: CandidateResult) -> str:
    if pick.metric is None:
        return f", at {accuracy_text(pick.parity)} to {pick.parity.reference}" if pick.parity else ""
    metric = pick.metric
    value = units.metric(metric.name, metric.value)
    error = units.share_error(metric.name, metric.value, metric.samples)
    sampled = f"{f'{error} ' if error else ''}on {metric.samples} samples"
    title = units.metric_title(metric.name, metric.compared_with)
    if metric.drop == 0:
        return f" at the same {title} ({value} {sampled})"
    told = units.metric_details(metric.details)
    sampled += f"; {told}" if told else ""
    return f", {title} {value} instead of {units.metric(metric.name, metric.reference)} ({sampled})"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""

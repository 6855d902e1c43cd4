"""A benchmark, and an evaluation, as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from ..measure.benchmark import stream_text
from ..measure.statistics import Estimate
from .layers import energy_line, layer_lines, pinned_line
from .layout import Ink, cores_text, labelled, shorten
from .state import state_line
from .text import placement_text

TELLING_SHARE = 0.02
"""`run` is told of where it costs this share more than the bound call."""


def bench_text(result: Mapping[str, Any], colour: bool, width: int) -> str:
    """What was measured on what, each percentile with its interval, and what to make of it.

    Args:
        result: the object of ``bench --json``.
        colour: whether to use ANSI colours.
        width: columns of the terminal.
    """
    ink = Ink(colour)
    latency, memory, why = result["latency"], result["memory"], result["not_measured"]
    lines = labelled("bundle", f"{result['bundle']}   {units.size(memory['model_bytes'])}", ink, width)
    lines += labelled("device", device_line(result["device"]), ink, width)
    lines += labelled("runtime", _runtime(result["runtime"]), ink, width)
    placement = result["placement"]
    lines += labelled(
        "placement", placement_text(placement) if placement else f"not known: {why['placement']}", ink, width
    )
    for key in ("p50_s", "p90_s", "p99_s"):
        lines += labelled(key.removesuffix("_s"), _percentile(latency, key, why), ink, width)
    lines += _mode_lines(result, ink, width)
    if result.get("stream"):
        stream = result["stream"]
        lines += labelled("stream", f"{', '.join(stream['state'])}: {stream_text(stream['bound'])}", ink, width)
    if result["stopped"]:
        lines += labelled("time", stopped_line(result["stopped"], "p50"), ink, width)
    lines += labelled("cold start", _cold_start(result["cold_start"]), ink, width)
    if result.get("run") and result["run"]["adds_s"] >= TELLING_SHARE * result["run"]["bind_p50_s"]:
        run = result["run"]
        text = f"{units.latency(run['run_p50_s'])}: adds {units.latency(run['adds_s'])} to the engine's call, "
        lines += labelled("run()", f"{text}which p50 is of", ink, width)
    if result["harness"]["p50_s"] is not None:
        lines += labelled(
            "harness", f"{units.latency(result['harness']['p50_s'])} a run: the null runtime's p50", ink, width
        )
    if result["throughput_per_s"] is not None and result["mode"] == "latency":
        lines += labelled("throughput", _rate(result["throughput_per_s"], result["batch"]), ink, width)
    peak = memory["peak_rss_bytes"]
    text = f"{units.size(peak)} at its peak" if peak is not None else f"not known: {why['memory.peak_rss_bytes']}"
    if memory.get("peak_above_engine_bytes") is not None:
        text += f", {units.size(memory['peak_above_engine_bytes'])} of it above the idle engine"
    lines += labelled("memory", text, ink, width)
    if result["energy_j"] is None and "energy_j" in why:
        lines += labelled("energy", f"not measured: {why['energy_j']}", ink, width)
    elif result["energy_j"] is not None:
        lines += labelled("energy", energy_line(result["energy_j"]), ink, width)
    if result.get("pinned"):
        lines += labelled("pinned", pinned_line(result["pinned"]), ink, width)
    if result["state"]:
        lines += labelled("state", state_line(result["state"]), ink, width)
    lines += layer_lines(result, ink, width)
    if result["samples"]:
        lines += labelled("samples", result["samples"], ink, width)
    steady = result["verdict"] == "steady"
    verdict = "; ".join([result["verdict"], *result["reasons"]])
    paint = ink.good if steady else ink.bad
    return "\n".join([*lines, *(paint(line) for line in labelled("verdict", verdict, Ink(False), width))])


def _percentile(latency: Mapping[str, Any], key: str, why: Mapping[str, str]) -> str:
    value = latency[key]
    if value is None:
        return f"not stated: {why[f'latency.{key}']}"
    text = percentile_line(value)
    if key != "p50_s":
        return text
    processes = latency["processes"]
    runs = f"{latency['n']} runs in {processes} process{'es' if processes != 1 else ''}"
    return f"{text}   ({100 * latency['confidence']:.0f} % confidence, {runs})"


def percentile_line(value: Mapping[str, float]) -> str:
    """``0.212 ms ±0.001``."""
    found = Estimate(value["value"], value["low"], value["high"])
    unit = units.time_unit(found.value)
    return units.interval(found, unit, units.time_decimals(found.value, unit) + 1)


def stopped_line(stopped: Mapping[str, Any], what: str) -> str:
    """Why the measurement ended: known well enough, or the time was spent."""
    took, reached, asked = units.duration(stopped["elapsed_s"]), stopped["reached"], stopped["precision"]
    known = "is not known" if reached is None else f"is known to ±{reached:.1%}"
    if stopped["because"] == "precise":
        return f"stopped after {took}: {what} {known}, ±{asked:.1%} was asked"
    if stopped["because"] == "clock":
        return f"stopped after {took}: {what} {known}, which is as well as the engine's own clock tells"
    if stopped["because"] == "time":
        wish = "" if asked is None else f", ±{asked:.1%} was asked"
        return f"the time was spent after {took}: {what} {known}{wish}"
    return f"as long as was asked: {took}"


def _cold_start(cold: Mapping[str, Any]) -> str:
    parts = {"engine": "import_s", "model": "load_s", "first run": "first_run_s"}
    known = [f"{name} {units.latency(cold[key])}" for name, key in parts.items() if cold[key] is not None]
    return f"{units.latency(cold['first_result_s'])} to the first result: {', '.join(known)}"


def _mode_lines(result: Mapping[str, Any], ink: Ink, width: int) -> list[str]:
    """The answer to the question of a mode other than latency."""
    mode = result["mode"]
    told = result.get(mode) if mode != "latency" else None
    if told is None:
        return []
    if mode == "throughput":
        rate = told["per_s"]
        known = "" if rate["low"] is None else f" ({units.count(rate['low'])} to {units.count(rate['high'])})"
        text = f"{_rate(rate['value'], result['batch'])}{known} in {told['streams']} streams"
        return labelled(mode, text, ink, width)
    if mode == "server":
        share = told["missed_share"]
        known = "" if share["low"] is None else f" ({share['low']:.2%} to {share['high']:.2%})"
        text = f"{told['misses']} of {told['requests']} requests missed the deadline of "
        text += f"{units.latency(told['deadline_s'])} at {told['rate_per_s']:g} a second: {share['value']:.2%}{known}"
        return labelled(mode, text, ink, width)
    first, last, ratio, drift = (told[key] for key in ("first_p50_s", "last_p50_s", "ratio", "drift_per_minute"))
    if ratio is None:
        text = "the runs at the ends are too few to compare"
    else:
        ends = f"{percentile_line(first)} at first, {percentile_line(last)} at last"
        text = f"{ends}: {ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), {told['verdict']}"
    text += f"; drift {drift['value']:+.2%} a minute ({drift['low']:+.2%} to {drift['high']:+.2%})"
    return labelled(mode, f"{text}; {told['thermal']}: {told['thermal_reason']}", ink, width)


def _rate(runs_per_s: float, batch: int | None) -> str:
    """``412 runs/s``, and with a batch of 8 ``3.3 k samples/s``, which is what the user waits for."""
    text = f"{units.count(runs_per_s)} runs/s"
    return text if batch is None else f"{text} of {batch}: {units.count(runs_per_s * batch)} samples/s"


def device_line(device: Mapping[str, Any]) -> str:
    """Its name, architecture, cores and system."""
    name = device.get("board") or device.get("cpu") or "unknown device"
    parts = [f"{name} ({device.get('machine')})"]
    if device.get("usable_cores"):
        parts.append(cores_text(device))
    for key in ("os", "browser"):
        if device.get(key):
            parts.append(str(device[key]))
    return ", ".join(parts)


def _runtime(runtime: Mapping[str, Any]) -> str:
    # What the engine says is in force counts; the rest of what it tells is in the JSON.
    told = runtime.get("in_force", {})
    options = {**runtime["options"], **{key: told[key] for key in ("threads", "precision") if key in told}}
    return f"{runtime['name']} {runtime['version']}   " + ", ".join(f"{key}={value}" for key, value in options.items())


def evaluate_text(result: Mapping[str, Any], colour: bool, width: int) -> str:
    """The metric, what it is compared with, and what was lost.

    Args:
        result: the object of ``evaluate --json``.
        colour: whether to use ANSI colours.
        width: columns of the terminal.
    """
    ink = Ink(colour)
    metric = result["metric"]
    name = str(metric["name"])
    samples = f"{result['samples']} sample{'s' if result['samples'] != 1 else ''}"
    samples += " of one stream, each side with its own state" if result.get("streamed") else ""
    lines = labelled("bundle", result["bundle"], ink, width)
    lines += labelled("device", device_line(result["device"]), ink, width)
    lines += labelled("runtime", _runtime(result["runtime"]), ink, width)
    lines += labelled("data", f"{result['data']}   {samples}", ink, width)
    for note in result.get("notes") or ():
        lines += labelled("note", note, ink, width)
    value = "exact" if metric["value"] is None else units.metric(name, metric["value"])
    value += _bounds(name, metric.get("interval"))
    more = units.metric_details(metric.get("details") or {})
    value += f"   {more}" if more else ""
    title = shorten(units.metric_title(name, metric.get("compared_with")), 48)
    lines += [ink.label(f"{title:<12}") + ("" if len(title) < 12 else "  ") + ink.good(value)]
    known = metric["reference_source"]
    if metric["reference"] is None and known and known.endswith("same samples"):  # its SQNR to itself is infinite
        lines += labelled("reference", known, ink, width)
    elif metric["reference"] is None:
        why = f" ({known})" if known else ""
        lines += labelled("reference", f"not known{why}: name the model with --source", ink, width)
    else:
        reference = units.metric(name, metric["reference"]) + _bounds(name, metric.get("reference_interval"))
        lines += labelled("reference", f"{reference}   {metric['reference_source']}", ink, width)
    if metric["drop"] is not None:
        drop = metric["drop"]
        word = "worse by" if drop > 0 else "better by"
        text = "none" if drop == 0 else f"{word} {units.metric(name, abs(drop))}"
        lines += labelled("drop", text + _bounds(name, metric.get("drop_interval")), ink, width)
    if metric.get("verdict"):
        told = {"indistinguishable": "not distinguishable from the reference on these samples"}
        verdict = told.get(metric["verdict"], f"{metric['verdict']} than the reference")
        lines += labelled("verdict", f"{verdict} ({100 * metric['confidence']:.0f} % confidence)", ink, width)
    return "\n".join(lines)


def _bounds(name: str, interval: Mapping[str, float] | None) -> str:
    return (
        ""
        if interval is None
        else f" ({units.metric(name, interval['low'])} to {units.metric(name, interval['high'])})"
    )

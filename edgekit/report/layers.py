"""What `bench` measured beside the latency, as a person reads it: energy, cores, and the time of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from .layout import Ink, columns, labelled, shorten

_SHOWN = 15
_NAME_WIDTH = 40


def energy_line(energy: Mapping[str, Any]) -> str:
    """``0.0123 J a run (0.012 to 0.0126) above 8.1 W idle   RAPL: package``."""
    low, high = units.number(energy["low"]), units.number(energy["high"])
    text = f"{units.number(energy['value'])} J a run ({low} to {high}) above {units.number(energy['idle_w'])} W idle"
    unclear = ", not distinguishable from idle" if energy["low"] <= 0 else ""
    return f"{text}{unclear}   {energy['method']}"


def pinned_line(applied: Mapping[str, Any]) -> str:
    """The cores and the priority in force, and what was refused."""
    parts = []
    if applied["cores"] is not None:
        parts.append(f"cores {', '.join(map(str, applied['cores']))}")
    if applied["nice"] is not None:
        parts.append(f"nice {applied['nice']}")
    parts += [f"refused: {reason}" for reason in applied["refused"]]
    return ", ".join(parts)


def layer_lines(result: Mapping[str, Any], ink: Ink, width: int) -> list[str]:
    """The slowest layers: time, share, what they do a second, and how far that is from the machine's limit.

    Args:
        result: the object of ``bench --json``.
        ink: colours.
        width: columns of the terminal.
    """
    profile = result.get("profile")
    if profile is None:
        reason = result["not_measured"].get("profile")
        asked = reason is not None and not reason.startswith("not asked for")
        return labelled("profile", f"not measured: {reason}", ink, width) if asked else []
    rows = [["layers", "operator", "time", "share", "MAC/s", "byte/s", "of limit"]]
    rows += [_row(layer) for layer in profile["layers"][:_SHOWN]]
    table = ["   ".join(row).rstrip() for row in columns(rows, "<<>>>>>")]
    lines = labelled("profile", _summary(profile), ink, width)
    lines += [ink.label(table[0]), *table[1:]]
    rest = profile["layers"][_SHOWN:]
    if rest:
        share = sum(layer["share"] for layer in rest)
        lines.append(ink.faint(f"  {len(rest)} more, together {share:.0%}; all of them with --json"))
    return lines


def _row(layer: Mapping[str, Any]) -> list[str]:
    name = ", ".join(layer["modules"][:2]) or layer["name"]
    return [
        "  " + shorten(name, _NAME_WIDTH),
        layer["op_type"],
        units.latency(layer["time_s"]),
        f"{layer['share']:.1%}",
        units.count(layer["macs_per_s"]) if layer["macs_per_s"] else "",
        units.count(layer["bytes_per_s"]) if layer["bytes_per_s"] else "",
        f"{layer['of_limit']:.0%} {layer['limit']}" if layer["of_limit"] is not None else "",
    ]


def _summary(profile: Mapping[str, Any]) -> str:
    text = f"{units.latency(profile['total_s'])} in {len(profile['layers'])} layers, over {profile['runs']} runs"
    peaks = profile["peaks"]
    if peaks is not None:
        best = max(item["bytes_per_s"] for item in peaks["bytes_per_s"])
        threads = f"{peaks['threads']} thread{'s' if peaks['threads'] != 1 else ''}"
        text += f"; this machine with {threads}: {units.count(peaks['macs_per_s'])} MAC/s, {units.count(best)} byte/s"
    return "; ".join([text, *profile["notes"]])

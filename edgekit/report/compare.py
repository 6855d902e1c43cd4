"""A comparison, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from .bench import device_line, percentile_line, stopped_line
from .layout import Ink, labelled, wrap


def compare_text(result: Mapping[str, Any], colour: bool, width: int) -> str:
    """Both medians, their ratio, the control, and one line that says what to conclude.

    Args:
        result: the object of ``compare --json``.
        colour: whether to use ANSI colours.
        width: columns of the terminal.
    """
    ink, confidence = Ink(colour), result["confidence"]
    lines = models_lines(result.get("different_models"), width)
    lines += labelled("device", device_line(result["device"]), ink, width)
    for side in ("a", "b"):
        latency = result["latency"][side]
        p50 = percentile_line(latency["p50_s"]) if latency["p50_s"] else "p50 not stated"
        lines += labelled(side.upper(), f"{result[side]}   {p50}", ink, width)
    lines += labelled("B ÷ A", f"{_span(result['ratio'])}   ({100 * confidence:g} % confidence)", ink, width)
    lines += labelled("A ÷ A", f"{_span(result['control'])}   the control: must hold 1", ink, width)
    lines += labelled("rounds", f"{result['rounds']}   {stopped_line(result['stopped'], 'the ratio')}", ink, width)
    paint = {"faster": ink.good, "slower": ink.bad}.get(result["verdict"], str)
    return "\n".join([*lines, *(paint(line) for line in labelled("verdict", _verdict(result), Ink(False), width))])


def models_lines(why: str | None, width: int) -> list[str]:
    """What to know before anything else of a comparison: that it is not of two forms of one model. Empty: it is."""
    return [] if why is None else wrap(f"{why}.", width)


def _span(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f}   {value['low']:.3f} to {value['high']:.3f}"


def _verdict(result: Mapping[str, Any]) -> str:
    ratio = result["ratio"]["value"]
    if result["verdict"] == "faster":
        return f"B is faster: {units.ratio(1 / ratio)}"
    if result["verdict"] == "slower":
        return f"B is slower: A is {units.ratio(ratio)} as fast"
    return "; ".join(["indistinguishable", *result["reasons"]])

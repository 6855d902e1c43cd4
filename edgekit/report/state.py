"""The machine around a measurement, in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import units


def state_line(state: Mapping[str, Any]) -> str:
    """``governor performance; 2.6 to 2.61 GHz; 41 to 47 °C; others used 3 % of the machine; not readable: battery``.

    Args:
        state: see `measure.state.DeviceState.to_json`.
    """
    moments = [state["before"], *state["during"], state["after"]]
    unread = [name.removesuffix("_hz").removesuffix("_c").replace("_", " ") for name in state["unread"]]
    parts = [*_told(moments), *([f"not readable: {', '.join(unread)}"] if unread else [])]
    return "; ".join(parts)


def _told(moments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    governors = dict.fromkeys(name for item in moments for name in item["governors"] or ())
    if governors:
        yield f"governor {', '.join(governors)}"
    yield from _range([max(item["frequencies_hz"]) / 1e9 for item in moments if item["frequencies_hz"]], "GHz")
    yield from _range([max(item["temperatures_c"].values()) for item in moments if item["temperatures_c"]], "°C")
    counts = [item["throttle_count"] for item in moments if item["throttle_count"] is not None]
    if counts:
        yield f"{units.count(counts[-1] - counts[0])} throttle events"
    held = dict.fromkeys(name for item in moments for name in item["throttled"] or ())
    if held:
        yield f"held down by {', '.join(held)}"
    loads = [item["other_load"] for item in moments if item["other_load"] is not None]
    if loads:
        yield f"others used {sum(loads) / len(loads):.0%} of the machine"
    battery = moments[-1]["battery"]
    if battery:
        percent = "" if battery["percent"] is None else f" {battery['percent']} %"
        yield f"battery{percent} {battery['status'] or ''}".rstrip()
    for number, gpu in enumerate(moments[-1]["gpus"] or ()):
        each = [item["gpus"][number] for item in moments if item["gpus"] and len(item["gpus"]) > number]
        figures = [
            *_range([one["sm_clock_hz"] / 1e9 for one in each if one["sm_clock_hz"]], "GHz"),
            *_range([one["power_w"] for one in each if one["power_w"] is not None], "W"),
            *_range([one["temperature_c"] for one in each if one["temperature_c"] is not None], "°C"),
        ]
        yield f"{gpu['name'] or f'GPU {number}'} {', '.join(figures)}".rstrip()


def _range(values: Sequence[float], unit: str) -> Iterator[str]:
    if values:
        low, high = units.number(min(values)), units.number(max(values))
        yield f"{low} {unit}" if low == high else f"{low} to {high} {unit}"

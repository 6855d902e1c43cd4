"""What the page tells of the device while it measured, and of each layer's time against what the device can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ... import units
from . import figures
from .markup import Child, Markup, el, facts, table

_LAYERS = 15
"""So many layers have a bar, those that take the most time; the table holds all."""


def state(value: Mapping[str, Any], id: str) -> Iterator[Child | figures.Figure]:
    """Governor, clocks, temperatures and others' load, before, during and after: see `measure.state.DeviceState`."""
    moments = [item for item in (value.get("before"), *(value.get("during") or ()), value.get("after")) if item]
    if not moments:
        return
    first, last = moments[0], moments[-1]
    yield facts(
        [
            ("governor", ", ".join(first.get("governors") or ())),
            ("throttle events meanwhile", _events(first, last)),
            ("held down by", ", ".join(last.get("throttled") or ())),
            ("battery", _battery(last.get("battery"))),
            ("read", f"{len(moments)} times"),
        ]
    )
    cores: dict[str, list[tuple[float, float]]] = {}
    sensors: dict[str, list[tuple[float, float]]] = {}
    load: dict[str, list[tuple[float, float]]] = {}
    gpu_clocks: dict[str, list[tuple[float, float]]] = {}
    gpu_power: dict[str, list[tuple[float, float]]] = {}
    for item in moments:
        at = item["time_s"]
        clocks = item.get("frequencies_hz") or ()
        if clocks:
            cores.setdefault("fastest core", []).append((at, max(clocks) / 1e9))
            cores.setdefault("slowest core", []).append((at, min(clocks) / 1e9))
        for name, degrees in (item.get("temperatures_c") or {}).items():
            sensors.setdefault(str(name), []).append((at, degrees))
        if item.get("other_load") is not None:
            load.setdefault("other processes", []).append((at, 100 * item["other_load"]))
        for number, gpu in enumerate(item.get("gpus") or ()):
            name = f"GPU {number}: {gpu.get('name') or 'unnamed'}"
            for told, key, scale in (
                (gpu_clocks, "sm_clock_hz", 1e9),
                (gpu_power, "power_w", 1),
                (sensors, "temperature_c", 1),
            ):
                if gpu.get(key) is not None:
                    told.setdefault(name, []).append((at, gpu[key] / scale))
    yield figures.series(f"{id}-clock", "Clock of the cores", "GHz", cores, "GHz")
    yield figures.series(f"{id}-heat", "Temperature", "°C", sensors, "°C")
    yield figures.series(f"{id}-gpu-clock", "Clock of the GPUs", "GHz", gpu_clocks, "GHz")
    yield figures.series(f"{id}-gpu-power", "Power of the GPUs", "W", gpu_power, "W")
    yield figures.series(f"{id}-load", "Load from other processes", "% of all cores", load, "%")
    unread = value.get("unread") or {}
    if unread:
        rows: list[list[Child]] = [[str(name).replace("_", " "), str(why)] for name, why in unread.items()]
        yield el("details", el("summary", "What could not be read here"), table("Not readable", ["what", "why"], rows))


def _events(first: Mapping[str, Any], last: Mapping[str, Any]) -> str | None:
    before, after = first.get("throttle_count"), last.get("throttle_count")
    return None if before is None or after is None else units.count(after - before)


def _battery(battery: Mapping[str, Any] | None) -> str | None:
    if not battery:
        return None
    percent = battery.get("percent")
    return " ".join(
        part for part in (f"{percent} %" if percent is not None else "", battery.get("status") or "") if part
    )


def profile(value: Mapping[str, Any], id: str) -> Iterator[Child | figures.Figure]:
    """Each layer's time, and its rate under the roofline: see `measure.profile.to_json`."""
    layers: Sequence[Mapping[str, Any]] = value.get("layers") or ()
    if not layers:
        return
    unit = units.time_unit(max(layer["time_s"] for layer in layers))
    scale = units.seconds_in(unit)
    behind = _layers(layers)
    bars = [
        (_name(layer, number), layer["time_s"] / scale, layer["op_type"])
        for number, layer in enumerate(layers[:_LAYERS])
    ]
    yield el(
        "p", f"{units.latency(value['total_s'])} in all layers together, mean of {units.count(value['runs'])} runs."
    )
    yield figures.bars(f"{id}-layers", "Time by layer", bars, unit, behind)
    peaks = value.get("peaks") or {}
    rate, bandwidths = peaks.get("macs_per_s"), [item["bytes_per_s"] for item in peaks.get("bytes_per_s") or ()]
    points = [
        {
            "name": _name(layer, number),
            "intensity": layer["macs"] / layer["bytes"],
            "rate": layer["macs_per_s"],
            "share": layer["share"],
        }
        for number, layer in enumerate(layers)
        if layer.get("macs") and layer.get("bytes") and layer.get("macs_per_s")
    ]
    if rate and bandwidths:
        yield figures.roofline(f"{id}-roof", points, rate, (max(bandwidths), min(bandwidths)), behind)
        yield el("p", f"The limits were measured with {peaks.get('threads')} threads by {peaks.get('method')}.")
    for note in value.get("notes") or ():
        yield el("p", str(note))


def _layers(layers: Sequence[Mapping[str, Any]]) -> Markup:
    titles = ["layer", "operator", "time", "share", "MACs", "bytes", "rate", "limited by", "of the limit"]
    rows: list[list[Child]] = [
        [
            ", ".join(map(str, layer.get("modules") or ())) or str(layer["name"]),
            str(layer["op_type"]),
            units.latency(layer["time_s"]),
            units.percent(layer["share"]),
            units.count(layer["macs"]) if layer.get("macs") else "",
            units.size(layer["bytes"]) if layer.get("bytes") else "",
            f"{units.count(layer['macs_per_s'])}MAC/s" if layer.get("macs_per_s") else "",
            str(layer.get("limit") or ""),
            units.percent(layer["of_limit"]) if layer.get("of_limit") else "",
        ]
        for layer in layers
    ]
    return table("Time by layer", titles, rows, numeric=(2, 3, 4, 5, 6, 8))


def _name(layer: Mapping[str, Any], number: int) -> str:
    """A name that no other layer has: bars of the same name would be drawn on each other."""
    modules = layer.get("modules") or ()
    return f"{number + 1}. {modules[0] if modules else layer['name']} ({layer['op_type']})"

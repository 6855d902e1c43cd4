"""What the page's plots show, as plain data; assets/report.js draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import units
from ...measure.statistics import Samples
from .markup import Markup, el, table

MAX_POINTS = 240
"""A distribution is drawn from so many of its quantiles at most, a time series from so many of its blocks."""
_SHARES = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, the sentence that tells what it shows, and the table with the same content."""

    id: str
    kind: str  # a function of assets/report.js: "distribution", "intervals", "scatter", "series", "bars", "roofline"
    title: str
    text: str  # for who cannot see it
    data: Mapping[str, Any]
    behind: Markup
    hint: str = field(default="")

    def to_html(self) -> Markup:
        """The place that the script draws into, and the table behind it."""
        caption = el("figcaption", el("strong", self.title), el("span", self.hint) if self.hint else None)
        # A plot names itself by its text (role img); until it is drawn, and without JavaScript, the table stands alone.
        place = el("div", class_="plot", id=self.id, role="img", aria_label=self.text)
        return el("figure", caption, place, el("details", el("summary", "The numbers as a table"), self.behind))


def distribution(id: str, series: Mapping[str, Samples], what: str) -> Figure | None:
    """Cumulative distributions: which share of the runs was at most so slow. None where nothing was timed."""
    pooled = {name: np.sort(_pool(samples)) for name, samples in series.items()}
    pooled = {name: values for name, values in pooled.items() if values.size > 1}
    if not pooled:
        return None
    unit, scale = _unit(float(min(np.median(values) for values in pooled.values())))
    lines = [
        {
            "name": name,
            "points": [[_short(values[i] / scale), _short((i + 1) / values.size)] for i in _picks(values.size)],
        }
        for name, values in pooled.items()
    ]
    # Beyond the 99.5th percentile a few stray runs would squeeze everything else; the table has the slowest.
    limit = max(float(np.quantile(values, 0.995)) for values in pooled.values()) / scale
    rows = [
        [
            name,
            *(units.time_in(unit, float(np.quantile(values, q, method="inverted_cdf"))) for q in _SHARES),
            units.time_in(unit, float(values[-1])),
            units.count(values.size),
        ]
        for name, values in pooled.items()
    ]
    titles = [what, *(f"p{100 * q:g}" for q in _SHARES), "slowest", "runs"]
    fastest = min(pooled, key=lambda name: float(np.median(pooled[name])))
    return Figure(
        id,
        "distribution",
        "Latency distribution",
        f"Cumulative distribution of the latency, one line for each {what}: {', '.join(pooled)}. The lowest median, "
        f"{units.latency(float(np.median(pooled[fastest])))}, is that of {fastest}.",
        {"unit": unit, "lines": lines, "limit": _short(limit)},
        table("Latency at percentiles", titles, rows, numeric=range(1, len(titles))),
        "The share of runs that took at most so long. Steep: steady. A step to the side: two speeds.",
    )


def over_time(id: str, samples: Samples) -> Figure | None:
    """The median of each block, in the order of measuring, a line for each process. None with fewer than 3 blocks."""
    medians = [[float(np.median(block)) for block in process if block.size] for process in samples]
    if max(map(len, medians), default=0) < 3:
        return None
    unit, scale = _unit(float(np.median([value for process in medians for value in process])))
    lines = [
        {
            "name": f"process {number + 1}",
            "points": [[i + 1, _short(process[i] / scale)] for i in _picks(len(process))],
        }
        for number, process in enumerate(medians)
    ]
    rows = [
        [f"process {n + 1}", *(units.time_in(unit, v) for v in (p[0], float(np.median(p)), p[-1], max(p))), str(len(p))]
        for n, p in enumerate(medians)
        if p
    ]
    titles = ["process", "first block", "median block", "last block", "slowest block", "blocks"]
    return Figure(
        id,
        "series",
        "Latency while measured",
        f"Median latency of each block of runs in the order of measuring, for {len(medians)} processes.",
        {"unit": unit, "x": "block of runs, in order", "y": f"median latency ({unit})", "lines": lines},
        table("Median latency of blocks", titles, rows, numeric=range(1, len(titles))),
        "Level: steady. A slope: the device got slower or faster meanwhile. Apart: processes differ.",
    )


def intervals(id: str, rows: Sequence[tuple[str, Mapping[str, Any], bool]], title: str) -> Figure | None:
    """Median latencies with their intervals, a row each: (name, p50_s as JSON, whether it stands out)."""
    rows = [row for row in rows if row[1].get("value")]
    if len(rows) < 2:
        return None
    unit, scale = _unit(min(row[1]["value"] for row in rows))
    points = [
        {"name": name, "value": _short(p50["value"] / scale), **_ends(p50, scale), "picked": picked}
        for name, p50, picked in rows
    ]
    cells = [[name, units.time_in(unit, p50["value"]), _range(p50, unit)] for name, p50, _ in rows]
    return Figure(
        id,
        "intervals",
        title,
        f"Median latency with its 95 % interval: {', '.join(f'{row[0]} {row[1]}' for row in cells)}.",
        {"unit": unit, "points": points},
        table(title, ["", "p50", "95 % interval"], cells, numeric=(1, 2)),
    )


def scatter(id: str, points: Sequence[Mapping[str, Any]], y: str, shown: Sequence[Sequence[str]]) -> Figure | None:
    """Accuracy against latency. ``points``: name, p50_s, y, picked; ``shown``: the same as text."""
    if len(points) < 2:
        return None
    unit, scale = _unit(min(item["p50_s"] for item in points))
    data = [
        {"name": item["name"], "x": _short(item["p50_s"] / scale), "y": _short(item["y"]), "picked": item["picked"]}
        for item in points
    ]
    return Figure(
        id,
        "scatter",
        "Accuracy against latency",
        f"{y} over median latency, one dot for each candidate: {'; '.join(', '.join(row) for row in shown)}.",
        {"unit": unit, "points": data, "y": y},
        table("Accuracy against latency", ["candidate", "p50", y], shown, numeric=(1, 2)),
        "Up and to the left is better.",
    )


def series(id: str, title: str, y: str, lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> Figure | None:
    """Something over the seconds of a measurement, a line each: (seconds, value)."""
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return None
    rows = [
        [name, *(f"{units.number(v)} {unit}" for v in (points[0][1], *_span(points), points[-1][1]))]
        for name, points in lines.items()
    ]
    data = [
        {"name": name, "points": [[_short(points[i][0]), _short(points[i][1])] for i in _picks(len(points))]}
        for name, points in lines.items()
    ]
    return Figure(
        id,
        "series",
        title,
        f"{title} while measured: {'; '.join(f'{row[0]} from {row[2]} to {row[3]}' for row in rows)}.",
        {"unit": unit, "x": "seconds", "y": y, "lines": data},
        table(title, ["", "first", "lowest", "highest", "last"], rows, numeric=range(1, 5)),
    )


def bars(id: str, title: str, rows: Sequence[tuple[str, float, str]], unit: str, behind: Markup) -> Figure | None:
    """Horizontal bars: (name, value in ``unit``, group)."""
    if not rows:
        return None
    data = [{"name": name, "value": _short(value), "group": group} for name, value, group in rows]
    most = ", ".join(f"{name} {units.number(value)} {unit}" for name, value, _ in rows[:3])
    return Figure(id, "bars", title, f"{title}; the most: {most}.", {"unit": unit, "rows": data}, behind)


def roofline(
    id: str, points: Sequence[Mapping[str, Any]], peak: float, bandwidths: tuple[float, float], behind: Markup
) -> Figure | None:
    """Rate over arithmetic intensity, a dot a layer, under the device's limit.

    Args:
        id: of the element.
        points: name, intensity in MACs a byte, rate in MACs/s, share of the run.
        peak: the device's MACs/s.
        bandwidths: its bytes/s from the fastest cache, and from memory.
        behind: the table of layers.
    """
    if not points:
        return None
    data = [
        {"name": p["name"], "x": _short(p["intensity"]), "y": _short(p["rate"] / 1e9), "share": _short(p["share"])}
        for p in points
    ]
    return Figure(
        id,
        "roofline",
        "Roofline",
        f"Each layer's rate in GMAC/s over its MACs a byte of memory traffic, under the limit of this device: "
        f"{units.number(peak / 1e9)} GMAC/s, {units.number(bandwidths[0] / 1e9)} GB/s from its cache and "
        f"{units.number(bandwidths[1] / 1e9)} GB/s from memory, all measured.",
        {"points": data, "peak": _short(peak / 1e9), "bandwidths": [_short(each / 1e9) for each in bandwidths]},
        behind,
        "The lines are what this device can do at best, out of its cache and (dashed) out of memory. A dot near its "
        "line is near the limit; left of the bend the limit is bandwidth. Larger dots take more of the time.",
    )


def _pool(samples: Samples) -> np.ndarray[Any, np.dtype[np.float64]]:
    blocks = [block for process in samples for block in process]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _picks(size: int) -> list[int]:
    """At most `MAX_POINTS` positions of ``size``, evenly spread, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, size - 1, min(size, MAX_POINTS))}) if size else []


def _unit(seconds: float) -> tuple[str, float]:
    unit = units.time_unit(seconds)
    return unit, units.seconds_in(unit)


def _short(value: float) -> float:
    """Six significant digits: finer than any screen, and a page of half the size."""
    return float(f"{value:.6g}")


def _ends(p50: Mapping[str, Any], scale: float) -> dict[str, float]:
    low, high = p50.get("low"), p50.get("high")
    return {} if low is None or high is None else {"low": _short(low / scale), "high": _short(high / scale)}


def _range(p50: Mapping[str, Any], unit: str) -> str:
    if p50.get("low") is None or p50.get("high") is None:
        return ""
    return f"{units.time_in(unit, p50['low'])} to {units.time_in(unit, p50['high'])}"


def _span(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    values = [value for _, value in points]
    return min(values), max(values)

"""Numbers with their units, rounded to what a reader can use. Nothing else in edgekit rounds.

>>> time_in("ms", 0.000212), count(309_000), size(419_430), percent(0.98443)
('0.21 ms', '309 k', '0.42 MB', '98.44 %')
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .measure.statistics import Estimate

_SECONDS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_UNKNOWN = "±>100 %"


def time_unit(seconds: float) -> str:
    """The unit in which ``seconds`` reads best: at least 0.1 of it, so that neighbours in a table share it."""
    for unit in ("s", "ms", "µs"):
        if seconds >= 0.1 * _SECONDS[unit]:
            return unit
    return "ns" if seconds > 0 else "ms"


def seconds_in(unit: str) -> float:
    """How long one ``unit`` is: 0.001 for ms."""
    return _SECONDS[unit]


def time_in(unit: str, seconds: float, decimals: int | None = None) -> str:
    """``0.21 ms``."""
    value = seconds / _SECONDS[unit]
    return f"{value:.{_decimals(value) if decimals is None else decimals}f} {unit}"


def latency(seconds: float) -> str:
    """A latency in the unit that fits it."""
    return time_in(time_unit(seconds), seconds)


def interval(value: Estimate, unit: str | None = None, decimals: int | None = None) -> str:
    """``0.21 ms ±0.01``: the larger half of the interval, rounded up, so that the error is never told too small.

    An interval that the samples do not support (its ends are NaN) leaves the value alone; one that is wider than the
    value is ``±>100 %``.
    """
    unit = unit or time_unit(value.value)
    scale = _SECONDS[unit]
    places = time_decimals(value.value, unit) if decimals is None else decimals
    text = time_in(unit, value.value, places)
    half = max(value.value - value.low, value.high - value.value) / scale
    if not math.isfinite(half):
        return text
    if half * scale > value.value:
        return f"{text} {_UNKNOWN}"
    return f"{text} ±{_ceil(half, places):.{places}f}"


def time_decimals(seconds: float, unit: str) -> int:
    """How many decimals show a latency to about three digits."""
    return _decimals(seconds / _SECONDS[unit])


def duration(seconds: float) -> str:
    """Wall time of work: ``3.4 s``, ``48 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(size_bytes: float) -> str:
    """``0.42 MB``, decimal units as disks and downloads count them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= 0.1 * scale:
            return f"{_significant(size_bytes / scale, 2 if size_bytes < scale else 3)} {unit}"
    return f"{size_bytes:.0f} B"


def count(number: float) -> str:
    """``58``, ``309 k``, ``41.2 M``, ``7.61 G``."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{_significant(number / scale, 3)} {unit}"
    return f"{number:.0f}"


def percent(share: float) -> str:
    """``98.44 %``."""
    return f"{100 * share:.2f} %"


def decibels(value: float) -> str:
    """``34 dB``; ``exact`` where nothing differs (an infinite SQNR)."""
    if math.isinf(value):
        return "exact" if value > 0 else "-inf dB"
    return f"{value:.0f} dB"


def ratio(value: float) -> str:
    """``2.8x``."""
    return f"{value:.2f}x" if value < 2 else f"{value:.1f}x"


def ratio_interval(value: Estimate) -> str:
    """``2.91x ±0.05``: the larger half of the interval, rounded up."""
    half = max(value.value - value.low, value.high - value.value)
    return f"{value.value:.2f}x " + (_UNKNOWN if half > value.value else f"±{_ceil(half, 2):.2f}")


def number(value: float) -> str:
    """Three significant digits: ``0.00123``, ``1.2e-07``."""
    return f"{value:.3g}"


_SHARES = {"top1", "top5", "accuracy", "agreement"}
_IN_PERCENT = _SHARES | {"f1", "miou", "map", "detections", "wer"}


def metric(name: str, value: float) -> str:
    """A metric's value in the form its name calls for: a share in %, dB, or four digits."""
    name = metric_kind(name)
    if name in _IN_PERCENT:
        return percent(value)
    if name == "sqnr_db":
        return f"{value:.1f} dB"
    return f"{value:.4g}"


def metric_kind(name: str) -> str:
    """``top1`` of ``top1:logits``, ``detections`` of ``detections:output,layout=xyxy-scores``."""
    return re.split("[:,]", name, maxsplit=1)[0]


def metric_title(name: str, against: str | None) -> str:
    """``mse to labels``, ``detections to PyTorch``: without the options; top1 and top5 are of labels always.

    Args:
        name: as the user wrote it.
        against: what it compares with; None: only its author knows.
    """
    if against is None:
        return name
    short = name.partition(",")[0]
    return short if metric_kind(name) in ("top1", "top5") else f"{short} to {against}"


def metric_details(details: Mapping[str, float]) -> str:
    """``kept 98.20 %, false 2.40 %``: shares. What is named ``…_count`` is a count: ``120 reference``."""
    return ", ".join(
        f"{count(value)} {name.removesuffix('_count')}" if name.endswith("_count") else f"{name} {percent(value)}"
        for name, value in details.items()
    )


def share_error(name: str, share: float, samples: int) -> str:
    """``±0.8``, in percentage points: the 95 % interval of a share that was counted on so many samples.

    The normal approximation 1.96·√(p(1−p)/n); empty for metrics that are no shares, or where p is 0 or 1.
    """
    if metric_kind(name) not in _SHARES or samples < 1 or not 0 < share < 1:
        return ""
    return f"±{_ceil(100 * 1.96 * math.sqrt(share * (1 - share) / samples), 1):.1f}"


def _decimals(value: float) -> int:
    value = abs(value)
    return 2 if value < 10 else 1 if value < 100 else 0


def _significant(value: float, digits: int) -> str:
    """``value`` to so many significant digits without an exponent, and without zeros that say nothing."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _ceil(value: float, places: int) -> float:
    scale = 10.0**places
    # The tolerance keeps 0.01 from becoming 0.02 through binary fractions.
    return math.ceil(value * scale - 1e-9) / scale


def example_input(made_up: str | None) -> str:
    """``made-up images 1x3x32x32``, or ``the example input``: what there is where nobody gave data.

    Args:
        made_up: what of it nobody gave either, see `sources.source.Source.made_up`; None: it is the user's.
    """
    return f"made-up {made_up}" if made_up else "the example input"

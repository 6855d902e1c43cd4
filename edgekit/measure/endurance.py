"""What a long run shows: its first minute against its last, and the drift between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .autocorrelation import autocorrelation_time
from .distributions import student_t_quantile
from .state import DeviceState, complaints
from .statistics import CONFIDENCE, DRIFT_LIMIT, Estimate, Refused, Series, percentile

LEAST_S = 5.0
"""A shorter run shows nothing that lasts."""
LEAST_BLOCKS = 30
"""Blocks that a run is cut into, at least: the points of the fitted line."""
_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Endurance:
    """The first window's median against the last one's, and the line through all of them."""

    duration_s: float
    window_s: float
    first_p50_s: Estimate | Refused
    last_p50_s: Estimate | Refused
    ratio: Estimate | None  # last ÷ first
    drift_per_minute: Estimate  # relative change of the median; 0.01: 1 % slower each minute

    @property
    def verdict(self) -> Literal["holds", "slower", "faster", "unknown"]:
        """What became of the first minute's latency; a change below `DRIFT_LIMIT` counts as none."""
        if self.ratio is None:
            return "unknown"
        if self.ratio.low > 1 and self.ratio.value > 1 + DRIFT_LIMIT:
            return "slower"
        if self.ratio.high < 1 and self.ratio.value < 1 - DRIFT_LIMIT:
            return "faster"
        return "holds"

    def to_json(self, state: DeviceState | None) -> dict[str, Any]:
        """Plain values, with what the machine's state says of the cause."""
        thermal, why = _thermal(self.verdict, state)

        def shown(value: Estimate | Refused | None) -> dict[str, Any] | None:
            return value.to_json() if isinstance(value, Estimate) else None

        return {
            "duration_s": self.duration_s,
            "window_s": self.window_s,
            "first_p50_s": shown(self.first_p50_s),
            "last_p50_s": shown(self.last_p50_s),
            "ratio": shown(self.ratio),
            "drift_per_minute": self.drift_per_minute.to_json(),
            "verdict": self.verdict,
            "thermal": thermal,
            "thermal_reason": why,
        }


def judge_run(blocks: Sequence[Series], times_s: Sequence[float], duration_s: float) -> Endurance:
    """Compare the first and last minute (or fifth, of a run under five) and fit a line to the blocks' medians.

    Args:
        blocks: latencies in seconds, in order.
        times_s: when each block began, in seconds since the first.
        duration_s: of the whole run.
    """
    window_s = min(_WINDOW_S, duration_s / 5)
    first = [block for block, at in zip(blocks, times_s, strict=True) if at < window_s]
    last = [block for block, at in zip(blocks, times_s, strict=True) if at >= duration_s - window_s]
    ends = [_window(item) for item in (first, last)]
    return Endurance(duration_s, window_s, ends[0], ends[1], _ratio(*ends), drift(blocks, times_s))


def _window(blocks: Sequence[Series]) -> Estimate | Refused:
    """The geometric mean of the blocks' medians, with Student's t interval of the logarithms for n/τ of them.

    τ is that of what is left of a straight line through them, as in `drift`: a trend within the window is what is
    looked for, not noise that hides it, although it does widen the interval.
    """
    if len(blocks) < 3:
        return Refused(f"a window needs 3 blocks of runs, has {len(blocks)}")
    logs = _log_medians(blocks)
    _, residuals, _ = _line(np.arange(logs.size, dtype=np.float64), logs)
    worth = logs.size / autocorrelation_time([residuals])
    t = student_t_quantile((1 + CONFIDENCE) / 2, max(worth - 1, 1.0))
    middle, half = float(logs.mean()), t * float(logs.std(ddof=1)) / math.sqrt(worth)
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def drift(blocks: Sequence[Series], times_s: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The slope of log(block median) against time in minutes, by least squares, with its interval.

    The textbook's standard error is raised by √τ, τ the residuals' autocorrelation time, and Student's degrees of
    freedom are n/τ − 2: neighbouring blocks are alike.

    Source: least squares: Draper and Smith, "Applied Regression Analysis" (1998), section 1.4; the design effect τ: as
    in `statistics.percentile_interval`.
    """
    minutes, logs = np.asarray(times_s) / 60, _log_medians(blocks)
    if minutes.size < 3:
        return Estimate(0.0, -math.inf, math.inf)
    slope, residuals, spread = _line(minutes, logs)
    time = autocorrelation_time([residuals])
    degrees = max(minutes.size / time - 2, 1.0)
    error = math.sqrt(float(residuals @ residuals) / (minutes.size - 2) / spread * time)
    half = student_t_quantile((1 + confidence) / 2, degrees) * error
    return Estimate(*(math.expm1(value) for value in (slope, slope - half, slope + half)))


def _line(x: Series, y: Series) -> tuple[float, Series, float]:
    """Least squares: the slope, the residuals, and Σ (x − x̄)²."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    return slope, y - y.mean() - slope * centred, spread


def _log_medians(blocks: Sequence[Series]) -> Series:
    return np.log([max(percentile(block, 0.5), 1e-9) for block in blocks])


def _ratio(first: Estimate | Refused, last: Estimate | Refused) -> Estimate | None:
    """Last ÷ first; the relative half widths add in squares, as of independent quantities."""
    if not (isinstance(first, Estimate) and isinstance(last, Estimate)) or first.low <= 0:
        return None
    value = last.value / first.value
    up = math.hypot(math.log(last.high / last.value), math.log(first.value / first.low))
    down = math.hypot(math.log(last.value / last.low), math.log(first.high / first.value))
    return Estimate(value, value * math.exp(-down), value * math.exp(up))


def _thermal(verdict: str, state: DeviceState | None) -> tuple[str, str]:
    """``throttled``, ``not throttled`` or ``unknown``, and why."""
    if state is None:
        return "unknown", "the machine's state was not read"
    held_down, _ = complaints(state)
    if held_down:
        return "throttled", "; ".join(held_down)
    every = (state.before, *state.during, state.after)
    readable = [item for item in every if item.throttle_count is not None or item.throttled or item.frequencies_hz]
    if not readable:
        return "unknown", "this machine reports neither its clocks nor its throttle counters"
    hottest = [max(item.temperatures_c.values()) for item in every if item.temperatures_c]
    heat = f"{hottest[0]:.0f} °C at first, {max(hottest):.0f} °C at most" if hottest else "no temperature to be read"
    if verdict == "slower":
        return "not throttled", f"slower for another reason than the clocks; {heat}"
    return "not throttled", f"the clocks held; {heat}"

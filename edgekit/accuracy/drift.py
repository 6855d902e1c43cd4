"""How far an engine's stream runs away from the reference's when each keeps its own state.

With r_t the reference's output in step t of T, y_t the engine's, and r̄ the mean of all elements of all r_t (one
number), for each output:

    signal   = Σ_t ‖r_t − r̄‖² / T        what varies there in a step
    step_db  = 10 · log10( signal / ‖y_t − r_t‖² )      for each t; the worst output counts
    tail_db  = 10 · log10( signal / mean of ‖y_t − r_t‖² over the last quarter of the steps )

One signal for all steps, so that a quiet step does not look like a bad one. Where every step has the same frame a model
settles, and what varies is no measure: there, and where nothing varies, r̄ is 0. Elements that are compared exactly
(integers, booleans) count as in `measure.parity`: an error of 1 on a signal of 1; and an
output whose errors are all below what float32 resolves (`measure.resolution`) has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..contracts import Array, Outputs, Tolerance
from ..measure.parity import ParityMeter
from ..results import RolloutReport

TAIL = 0.25
"""The share of the steps, the last ones, that must hold the tolerance by themselves: an error that grows is seen there
before the mean over all steps shows it."""

RESOLUTION = 2.0**-23
"""Of float32, relative."""


@dataclass
class _Output:
    varied: bool  # whether the steps have frames of their own
    errors: list[float] = field(default_factory=list)  # ‖y_t − r_t‖², a step each
    energy: float = 0.0  # Σ_t ‖r_t‖²
    mean: float = 0.0  # r̄ of the steps so far
    varying: float = 0.0  # Σ_t ‖r_t − r̄‖²
    size: int = 0
    exact: bool = False

    def add(self, want: Array, got: Array) -> None:
        if want.dtype.kind in "biuOSU":
            self.exact = True
            self.errors.append(float(np.count_nonzero(want != got)))
            self.energy += want.size
            return
        reference, answer = want.astype(np.float64), got.astype(np.float64)
        with np.errstate(all="ignore"):
            finite = np.isfinite(reference) & np.isfinite(answer)
            error = np.where(finite, answer - reference, 0.0)
            reference = np.where(finite, reference, 0.0)
        self.errors.append(float(np.sum(error * error)))
        self.energy += float(np.sum(reference * reference))
        if reference.size:
            self._merge(float(np.mean(reference)), reference)

    def _merge(self, mean: float, reference: Array) -> None:
        """Chan, Golub and LeVeque 1979: the mean and the sum of squares around it of two sets from those of each. The
        difference of two large sums would lose a small signal on a large offset.
        """
        apart, total = mean - self.mean, self.size + reference.size
        self.varying += float(np.sum((reference - mean) ** 2)) + apart * apart * self.size * reference.size / total
        self.mean += apart * reference.size / total
        self.size = total

    @property
    def signal(self) -> float:
        """Of one step."""
        steps = len(self.errors)
        if self.exact or not self.varied or not self.size:
            return self.energy / steps
        # What varies by less than float32 resolves is rounding, and no signal.
        return (self.varying if self.varying > RESOLUTION**2 * self.energy else self.energy) / steps

    def decibels(self, noise: float) -> float:
        """``signal`` over ``noise``."""
        if noise == 0.0:
            return math.inf
        return -math.inf if self.signal == 0.0 else 10 * (math.log10(self.signal) - math.log10(noise))


class DriftMeter:
    """Compares two streams step by step; memory grows by a number a step.

    Args:
        tolerance: the bounds that must hold over all steps, and its SQNR over the last of them too.
        varied: whether the steps have frames of their own, or one frame again and again.
    """

    def __init__(self, tolerance: Tolerance, *, varied: bool = True) -> None:
        # Of one frame again and again the parts hardly vary once the model has settled: no measure for an error.
        self._tolerance = tolerance if varied else replace(tolerance, part_db=None)
        self._varied = varied
        self._meter = ParityMeter(tolerance.rtol or 0.0)
        self._outputs: dict[str, _Output] = {}

    def add(self, expected: Outputs, got: Outputs) -> None:
        """One step: the reference's outputs, and the engine's; what is no array is compared by the parity alone."""
        self._meter.add(expected, got)
        for name, want in expected.items():
            answer = got.get(name)
            if isinstance(want, np.ndarray) and isinstance(answer, np.ndarray) and want.shape == answer.shape:
                self._outputs.setdefault(name, _Output(self._varied)).add(want, answer)

    def report(self, frames: str, bound: bool | None) -> RolloutReport:
        """Over all steps so far.

        Args:
            frames: where they come from, in words.
            bound: whether the engine kept the state in its own memory.
        """
        parity = self._meter.result()
        outputs = [
            # What float32 cannot resolve is no error here either.
            replace(item, errors=[0.0] * len(item.errors)) if parity.outputs[name].rel_l2 == 0.0 else item
            for name, item in self._outputs.items()
        ]
        steps = _worst(outputs)
        count = max(1, round(len(steps) * TAIL))
        tail_db = min((item.decibels(sum(item.errors[-count:]) / count) for item in outputs), default=math.inf)
        misses = [f"over {parity.samples} steps with its own state: {miss}" for miss in parity.misses(self._tolerance)]
        allowed = least_sqnr_db(self._tolerance)
        if not misses and allowed is not None and tail_db < allowed:
            misses.append(
                f"its own state runs away: {steps[0]:.1f} dB in the first step, {tail_db:.1f} dB over the last {count} "
                f"of {len(steps)}, allowed {allowed:.1f} dB"
            )
        worst = min(range(len(steps)), key=steps.__getitem__, default=0)
        return RolloutReport(
            passed=not misses,
            steps=parity.samples,
            frames=frames,
            sqnr_db=parity.sqnr_db,
            max_abs=parity.max_abs,
            first_db=steps[0] if steps else -math.inf,
            last_db=steps[-1] if steps else -math.inf,
            tail_db=tail_db,
            worst_db=steps[worst] if steps else -math.inf,
            worst_step=worst + 1,
            steps_db=tuple(steps),
            state_bound=bound,
            misses=tuple(misses),
        )


def _worst(outputs: Sequence[_Output]) -> list[float]:
    """Of each step, in dB."""
    length = min((len(item.errors) for item in outputs), default=0)
    return [min(item.decibels(item.errors[t]) for item in outputs) for t in range(length)]


def least_sqnr_db(tolerance: Tolerance) -> float | None:
    """The weakest SQNR in dB that a tolerance allows; None: it states none. SQNR = −20·log10(relative L2)."""
    bounds = [] if tolerance.sqnr_db is None else [tolerance.sqnr_db]
    if tolerance.rel_l2:
        bounds.append(-20 * math.log10(tolerance.rel_l2))
    return min(bounds, default=None)

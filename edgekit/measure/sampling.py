"""Fresh processes one after the other, each measured in blocks, until the interval is narrow or the time is spent.

One process at a time, since whatever makes one unlike the next (memory layout, a clock that changed, a busy neighbour)
must show in the difference between processes: that difference is what the interval is made of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..contracts import Progress, Quiet
from ..errors import UsageError
from .client import Memory, Worker, WorkerInfo
from .statistics import Estimate, Series, percentile_interval
from .watch import StateWatch

BLOCK_S = 0.1
"""A block of timed runs; the machine's state is read between two of them."""
SLICE_S = 1.0
"""Timed runs in one process, in all its blocks, where the time allows: a process takes about as long to start."""
MIN_RUNS = 300
"""A slow model is measured longer than that: until all processes together ran so often, or `PATIENCE` is spent."""
PATIENCE = 3.0
PROCESSES = 5
"""The fewest processes before an interval may count as narrow: Student's quantile is 2.8 there, and 4.3 for three."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure.

    Raises:
        UsageError: no time, no process, or a precision that is none.
    """

    precision: float | None = 0.02  # stop when p50's interval is within ± this share of it; None: go on to the end
    max_time_s: float = 60.0  # wall time, the processes' start included
    processes: int = PROCESSES  # fewest
    warmup_s: float = 0.3
    seconds: float | None = None  # instead of all that: so much time for timed runs, in exactly ``processes``

    def __post_init__(self) -> None:
        for name, value in (("time to measure", self.seconds), ("longest time to measure", self.max_time_s)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"the {name} must be more than 0 seconds, got {value:g}")
        if self.precision is not None and not 0 < self.precision < 1:
            raise UsageError(f"the precision must lie between 0 and 1 (2 % is 0.02), got {self.precision:g}")
        if self.processes < 1:
            raise UsageError(f"the number of processes must be 1 or more, got {self.processes}")

    @property
    def slice_s(self) -> float:
        """Timed runs in one process."""
        if self.seconds is not None:
            return self.seconds / self.processes
        # Half of the time is left for starting them.
        return min(SLICE_S, self.max_time_s / (2 * self.processes))


Because: TypeAlias = Literal["precise", "clock", "time", "seconds"]
"""Precise enough; no more to be learnt by a clock that goes in steps; no time left; exactly as long as asked."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why the measurement ended when it did."""

    because: Because
    asked: float | None  # the precision
    reached: float | None  # p50's larger error as a share of it; None: p50 is not stated
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """``{"because", "precision", "reached", "elapsed_s"}``."""
        return {
            "because": self.because,
            "precision": self.asked,
            "reached": self.reached if self.reached is not None and math.isfinite(self.reached) else None,
            "elapsed_s": self.elapsed_s,
        }


@dataclass(frozen=True, slots=True)
class Sampled:
    """Raw samples, ``[process][block]`` in seconds, with what each process says of itself at its end."""

    samples: list[list[Series]]
    infos: list[WorkerInfo]
    memories: list[Memory]
    stopped: Stopped


def sample(
    open_worker: Callable[[], Worker],
    plan: Plan,
    *,
    progress: Progress | None = None,
    watch: StateWatch | None = None,
    after: Callable[[Worker], None] | None = None,
) -> Sampled:
    """Measure in fresh workers, one after the other, as ``plan`` says.

    Args:
        open_worker: starts one.
        plan: how long.
        progress: told the seconds spent.
        watch: keeps the machine's state.
        after: called with each worker, when all that counts was taken from it.

    Raises:
        EngineError: a worker fails.
    """
    progress, start = progress or Quiet(), time.monotonic()
    sampled: list[list[Series]] = []
    infos, memories = [], []
    while True:
        began = time.monotonic()
        with open_worker() as worker:
            if watch is not None:
                watch.begin([worker])
            sampled.append(_blocks(worker, plan, lambda done, runs: _tell(progress, plan, sampled, done, runs, start)))
            if watch is not None:
                watch.end([worker])
            infos.append(worker.info)
            memories.append(worker.memory())
            if after is not None:
                after(worker)
        now = time.monotonic()
        because = _because(plan, sampled, infos[-1].clock_s, now - start, now - began)
        if because is not None:
            asked = None if plan.seconds else plan.precision
            stopped = Stopped(because, asked, _reached(sampled, infos[-1].clock_s), now - start)
            return Sampled(sampled, infos, memories, stopped)


def _because(
    plan: Plan, sampled: Sequence[Sequence[Series]], clock_s: float, elapsed_s: float, round_s: float
) -> Because | None:
    """Why to stop now, or None: go on with another process."""
    if plan.seconds is not None:
        return "seconds" if len(sampled) == plan.processes else None
    if plan.precision is not None and len(sampled) >= max(plan.processes, 2):
        reached, by_clock = _reached(sampled), _reached(sampled, clock_s)
        if reached is not None and by_clock is not None and reached <= plan.precision:
            return "precise" if by_clock <= plan.precision else "clock"
    return "time" if elapsed_s + round_s > plan.max_time_s else None


def _reached(sampled: Sequence[Sequence[Series]], clock_s: float = 0.0) -> float | None:
    found = percentile_interval(sampled, 0.5)
    return found.widened(clock_s).relative_error if isinstance(found, Estimate) else None


def _blocks(worker: Worker, plan: Plan, tell: Callable[[float, int], None]) -> list[Series]:
    blocks: list[Series] = []
    timed_s, runs, start = 0.0, 0, time.monotonic()
    few, patience_s = MIN_RUNS / plan.processes, PATIENCE * plan.slice_s
    while timed_s < plan.slice_s or (runs < few and time.monotonic() - start < patience_s):
        left = max(plan.slice_s - timed_s, BLOCK_S / 10)
        block = worker.measure(min(BLOCK_S, left), warmup_s=0.0 if blocks else plan.warmup_s)
        blocks.append(block)
        timed_s += float(block.sum())
        runs += block.size
        tell(min(timed_s, plan.slice_s), runs)
    return blocks


def _tell(
    progress: Progress, plan: Plan, earlier: Sequence[Sequence[Series]], done_s: float, runs: int, start: float
) -> None:
    runs += sum(block.size for process in earlier for block in process)
    if plan.seconds is not None:
        done, total = len(earlier) * plan.slice_s + done_s, plan.seconds
    else:
        done, total = min(time.monotonic() - start, plan.max_time_s), plan.max_time_s
    progress.step(round(done * 1000), round(total * 1000), f"{runs} runs")

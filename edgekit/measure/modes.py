"""Other questions than "how long does one run take": how many a second, for how long, and with requests that come as
they please. All through the same worker and sampler.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from ..contracts import Progress
from ..errors import UsageError
from . import endurance
from .client import Worker
from .sampling import BLOCK_S, Plan, Sampled, Stopped
from .statistics import Estimate, mean_interval
from .watch import StateWatch

OpenOne = Callable[[], Worker]
Told = dict[str, Any]


class Mode(Protocol):
    """A way to load the device."""

    @property
    def name(self) -> str:
        """As in ``--mode``."""
        ...

    def measure(self, open_worker: OpenOne, plan: Plan, progress: Progress, watch: StateWatch) -> tuple[Sampled, Told]:
        """Samples, and the plain JSON values that answer this mode's question."""
        ...


@dataclass(frozen=True, slots=True)
class Throughput:
    """As many runs a second as the device does: several streams at once, each a process with the model open.

    Processes, because a session is not thread-safe; give each fewer threads (``--threads``) than the device has cores.
    """

    streams: int
    name = "throughput"

    def __post_init__(self) -> None:
        if self.streams < 1:
            raise UsageError(f"the number of streams must be 1 or more, got {self.streams}")

    def measure(self, open_worker: OpenOne, plan: Plan, progress: Progress, watch: StateWatch) -> tuple[Sampled, Told]:
        """Rounds of fresh streams, until the rate is precise or the time is spent.

        Returns:
            The samples, [round · stream][block][run], and ``{"per_s": estimate, "streams", "rounds"}``.
        """
        start, rates = time.monotonic(), list[float]()
        sampled = Sampled([], [], [], Stopped("time", plan.precision, None, 0.0))
        with ThreadPoolExecutor(self.streams) as pool:
            while True:
                began = time.monotonic()
                with contextlib.ExitStack() as stack:
                    workers = [stack.enter_context(open_worker()) for _ in range(self.streams)]
                    watch.begin(workers)
                    list(pool.map(lambda worker: worker.measure(warmup_s=plan.warmup_s), workers))
                    blocks = list(pool.map(lambda worker: worker.measure(plan.slice_s), workers))
                    watch.end(workers)
                    sampled.infos.extend(worker.info for worker in workers)
                    sampled.memories.extend(worker.memory() for worker in workers)
                sampled.samples.extend([block] for block in blocks)
                rates.append(sum(block.size / float(block.sum()) for block in blocks))
                now = time.monotonic()
                progress.step(round(min(now - start, plan.max_time_s)), round(plan.max_time_s), f"{len(rates)} rounds")
                rate = mean_interval(rates) if len(rates) > 1 else None
                because = _enough(plan, rate, len(rates), now - start, now - began)
                if because is not None:
                    reached = rate.relative_error if rate else None
                    stopped = Stopped(because, plan.precision, reached, now - start)
                    per_s = rate.to_json() if rate else {"value": rates[0], "low": None, "high": None}
                    told = {"per_s": per_s, "streams": self.streams, "rounds": len(rates)}
                    return Sampled(sampled.samples, sampled.infos, sampled.memories, stopped), told


def _enough(plan: Plan, rate: Estimate | None, rounds: int, elapsed_s: float, round_s: float) -> Any:
    if plan.seconds is not None:
        return "seconds" if rounds >= plan.processes else None
    precise = rate is not None and plan.precision is not None and rate.relative_error <= plan.precision
    if precise and rounds >= plan.processes:
        return "precise"
    return "time" if elapsed_s + round_s > plan.max_time_s else None


@dataclass(frozen=True, slots=True)
class Sustained:
    """Whether the first minute's latency is the last one's: one process, back to back, for ``duration_s``."""

    duration_s: float = 1800.0
    name = "sustained"

    def __post_init__(self) -> None:
        if not self.duration_s >= endurance.LEAST_S:
            raise UsageError(f"a sustained run takes {endurance.LEAST_S:g} s or more, got {self.duration_s:g}")

    def measure(self, open_worker: OpenOne, plan: Plan, progress: Progress, watch: StateWatch) -> tuple[Sampled, Told]:
        """Blocks of a second without a pause. Without a warm-up, whose heat would be missing from the first minute."""
        start, blocks, times = time.monotonic(), [], []
        block_s = min(1.0, self.duration_s / endurance.LEAST_BLOCKS)
        with open_worker() as worker:
            watch.begin([worker])
            worker.measure(BLOCK_S)  # the first runs allocate and tune; they are the cold start, not the first minute
            began = time.monotonic()
            while (at := time.monotonic() - began) < self.duration_s:
                blocks.append(worker.measure(block_s))
                times.append(at)
                progress.step(round(at), round(self.duration_s), f"{sum(block.size for block in blocks)} runs")
            watch.end([worker])
            infos, memories = [worker.info], [worker.memory()]
        stopped = Stopped("seconds", None, None, time.monotonic() - start)
        told = endurance.judge_run(blocks, times, self.duration_s)
        return Sampled([blocks], infos, memories, stopped), told.to_json(watch.state())


@dataclass(frozen=True, slots=True)
class Server:
    """Requests that arrive at random, ``rate_per_s`` on average (a Poisson process), one served at a time, in order.

    A latency is from a request's arrival to its result, its wait in the queue included.
    """

    rate_per_s: float
    deadline_s: float
    name = "server"

    def __post_init__(self) -> None:
        for what, value in (("rate", self.rate_per_s), ("deadline", self.deadline_s)):
            if not 0 < value < float("inf"):
                raise UsageError(f"the {what} must be more than 0, got {value:g}")

    def measure(self, open_worker: OpenOne, plan: Plan, progress: Progress, watch: StateWatch) -> tuple[Sampled, Told]:
        """Fresh processes, each with arrivals of its own, until the time is spent.

        Returns:
            The samples, and ``{"rate_per_s", "deadline_s", "misses", "missed_share": estimate}``. The share's interval
            is Student's over processes, since requests that wait, wait behind each other.
        """
        start, shares, misses = time.monotonic(), list[float](), 0
        sampled = Sampled([], [], [], Stopped("time", None, None, 0.0))
        for index in range(plan.processes):
            began = time.monotonic()
            with open_worker() as worker:
                watch.begin([worker])
                worker.measure(warmup_s=plan.warmup_s)
                slice_s = plan.slice_s
                if plan.seconds is None:  # an equal part of the time left, less what the start took of it
                    part_s = (plan.max_time_s - (began - start)) / (plan.processes - index)
                    slice_s = max(part_s - (time.monotonic() - began), slice_s)
                series = worker.serve(self.rate_per_s, slice_s, seed=index)
                watch.end([worker])
                sampled.infos.append(worker.info)
                sampled.memories.append(worker.memory())
            sampled.samples.append([series])
            missed = int((series > self.deadline_s).sum())
            misses += missed
            shares.append(missed / series.size)
            progress.step(index + 1, plan.processes, f"{misses} deadlines missed")
        stopped = Stopped("seconds", None, None, time.monotonic() - start)
        told = {
            "rate_per_s": self.rate_per_s,
            "deadline_s": self.deadline_s,
            "requests": sum(blocks[0].size for blocks in sampled.samples),
            "misses": misses,
            "missed_share": _share(shares, [blocks[0].size for blocks in sampled.samples]),
        }
        return Sampled(sampled.samples, sampled.infos, sampled.memories, stopped), told


def _share(shares: list[float], counts: list[int]) -> dict[str, float | None]:
    """The share over all requests, with Student's t interval over processes, and never less than the rule of three.

    None of n missed bounds the share by 3/n at 95 % (Hanley and Lippman-Hand, JAMA 249, 1983).
    """
    from .distributions import student_t_quantile

    n = sum(counts)
    value = sum(share * count for share, count in zip(shares, counts, strict=True)) / n
    if len(shares) < 2:
        return {"value": value, "low": None, "high": None}
    mean = sum(shares) / len(shares)
    deviation = (sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)) ** 0.5
    half = student_t_quantile(0.975, len(shares) - 1) * deviation / len(shares) ** 0.5
    return {"value": value, "low": max(value - half, 0.0), "high": min(max(value + half, 3 / n), 1.0)}

"""The fastest wins, measured: a short look at every candidate, then fresh interleaved processes for the contenders.

Screening: one process a candidate, every combination of its session options, a few runs each. Candidates are looked at
minutes apart, and a machine may run at half its speed in between, so this decides only who cannot win.

Race: the best of them are measured in several fresh processes each. In every process round all of them are open at once
and take turns in short blocks, so that a slow minute of the machine hits all alike: the ratio of two medians of one
round is known far better than either median. After the first round those that are clearly slower leave.

A coarse form that is fast pushes no finer one out: it may yet be refused, and it is to be compared with the best finer
one. So a contender leaves for one that is as fine or finer, and the best of each fineness stays to the end: the fastest
in fp32, which the gain is stated against, among them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import Array
from ..devices.local import Worker
from ..errors import EngineError
from ..measure.probe import PROBE_S, Speed, middle
from ..measure.statistics import Estimate, mean_interval, percentile, ratio_by_clock, summarize
from ..results import Latency
from ..target.fineness import coarseness
from .check import open_worker
from .job import Built, Job
from .tuning import Choices, explore

SCREENING_RATIO = 1.6
"""A contender whose screening p50 is above this multiple of that of one as fine or finer does not take part."""
MAX_CONTENDERS = 6
RACE_RATIO = 1.3
"""A contender whose p50 in the race's first round is above this multiple of that of one as fine or finer leaves it."""
MAX_FINALISTS = 4
MIN_ROUNDS = 2
"""Without a second round nothing is known of a gain's error, and so no coarser form could be picked."""
PRECISION = 0.05
"""Rounds go on until the winner's gain over fp32 is known to ± this share of it, or `MORE_S` seconds are spent."""
MORE_S = 8.0
GAIN_LEVEL = 0.985
"""Level of the gain's interval. It is stated for the winner of several, after looking at it each round until it was
narrow; both cost coverage. At this level the true gain lies within it 95 % of the time (`benchmarks/intervals.py`)."""
SCREEN_S = 0.25
"""Seconds of timed runs a contender in the screening; at least `SCREEN_RUNS` runs, whatever they take."""
SCREEN_RUNS = 12
BLOCK_S = 0.12
BLOCKS = 6
"""Blocks a contender in each process of the final; each block at least `BLOCK_RUNS` runs."""
BLOCK_RUNS = 4


class LostContender(Exception):  # noqa: N818 - no error: one contender less
    """The engine of a contender crashed, hung or refused in the middle of the race."""

    def __init__(self, contender: Contender, error: EngineError) -> None:
        super().__init__(str(error))
        self.contender = contender
        self.error = error


@dataclass(eq=False)
class Contender:
    """A built candidate with one combination of session options, and its samples."""

    built: Built
    options: Mapping[str, Any]
    screening_s: Array = field(default_factory=lambda: np.empty(0))  # seconds a run, [runs]
    blocks: list[list[Array]] = field(default_factory=list)  # [process][block] → seconds a run
    in_force: Mapping[str, Any] = field(default_factory=dict)
    speeds: list[Speed] = field(default_factory=list)  # of the machine, a process each
    left: bool = False  # it left the race after the first round

    def reset(self) -> None:
        """Ready for another race, as after the screening."""
        self.blocks.clear()
        self.speeds.clear()
        self.left = False

    @property
    def finished(self) -> bool:
        """Whether it was measured to the end."""
        return bool(self.blocks) and not self.left

    @property
    def clock_s(self) -> float:
        """The step of the engine's own clock in seconds, see `WorkerInfo.clock_s`."""
        return float(self.in_force.get("clock") or 0.0)

    @property
    def samples(self) -> list[list[Array]]:
        """What its latency is computed from: ``[process][block]`` of the race, else of the screening."""
        return self.blocks or [[self.screening_s]]

    @property
    def p50_s(self) -> float:
        """The geometric mean of its processes' medians, as in `statistics.percentile_interval`."""
        medians = [percentile(np.concatenate(process), 0.5) for process in self.samples]
        return float(np.exp(np.mean(np.log(np.maximum(medians, 1e-9)))))

    def latency(self, baseline: Contender | None = None) -> Latency:
        """Percentiles with intervals over all that was sampled in the last round it took part in.

        Args:
            baseline: the fp32 contender to compare with; None: nothing is compared.
        """
        summary = summarize(self.samples)
        # A short round of a slow model may be too correlated to say more than between which runs its median lies.
        everything = np.concatenate([block for process in self.samples for block in process])
        bounds = Estimate(self.p50_s, float(everything.min()), float(everything.max()))
        return Latency(
            p50_s=(summary.p50 or bounds).widened(self.clock_s),
            p90_s=summary.p90 and summary.p90.widened(self.clock_s),
            n=summary.n,
            processes=len(self.samples),
            screening=not self.finished,
            speedup=None if baseline is None else speedup(self, baseline),
            machine_speed=middle(self.speeds) if self.speeds else None,
        )


def speedup(contender: Contender, baseline: Contender) -> Estimate | None:
    """How many times as fast as ``baseline``: its p50 ÷ the contender's, round by round, and Student's t interval.

    The interval is one at `GAIN_LEVEL`, which holds the gain 95 % of the time in the race that picks by it. Of two or
    three rounds it is wide, whatever the gain: where each pair of blocks of all rounds shows `RACE_RATIO`, which no
    luck of a single process makes, the lower end is that at least. None where the two did not share two rounds.
    """
    gain = _gain(contender, baseline)
    if gain is None:
        return None
    rounds = zip(contender.blocks, baseline.blocks, strict=True)
    pairs = [pair for ours, theirs in rounds for pair in zip(ours, theirs, strict=True)]
    if all(percentile(theirs, 0.5) > RACE_RATIO * percentile(ours, 0.5) for ours, theirs in pairs):
        gain = Estimate(gain.value, max(gain.low, min(RACE_RATIO, gain.value)), gain.high)
    clock_s = max(contender.clock_s, baseline.clock_s)
    return ratio_by_clock(gain, (contender.p50_s, baseline.p50_s), clock_s)


def _gain(contender: Contender, baseline: Contender) -> Estimate | None:
    """The same of the runs alone, whatever clock they were read from."""
    if contender is baseline or not (contender.finished and baseline.finished):
        return None
    medians = [[percentile(np.concatenate(process), 0.5) for process in item.blocks] for item in (baseline, contender)]
    ratios = [theirs / max(ours, 1e-9) for theirs, ours in zip(*medians, strict=True)]
    return mean_interval(ratios, GAIN_LEVEL) if len(ratios) > 1 else None


def gain_over(contender: Contender, other: Contender) -> Estimate:
    """How many times as fast as ``other``, for any two: `speedup` where they shared two rounds of the race.

    Else the quotient of the two medians, each at the worse end of its own interval.
    """
    found = speedup(contender, other)
    if found is not None:
        return found
    ours, theirs = contender.latency().p50_s, other.latency().p50_s
    return Estimate(
        theirs.value / max(ours.value, 1e-9), theirs.low / max(ours.high, 1e-9), theirs.high / max(ours.low, 1e-9)
    )


def is_faster(contender: Contender, other: Contender) -> bool:
    """Whether it is faster than ``other`` beyond doubt: the interval of its gain lies above 1.

    Where the target asks for one process alone, whose luck may be all, above `RACE_RATIO`.
    """
    gain = speedup(contender, other)
    return gain_over(contender, other).low > RACE_RATIO if gain is None else gain.low > 1


def is_slower(contender: Contender, baseline: Contender) -> bool:
    """Whether it is slower than ``baseline`` beyond doubt: by the race, else far behind in the screening."""
    gain = speedup(contender, baseline)
    if gain is not None:
        return gain.high < 1
    if contender is baseline or contender.finished:
        return False
    ours, theirs = (percentile(item.screening_s, 0.5) for item in (contender, baseline))
    return ours - contender.clock_s > RACE_RATIO * (theirs + baseline.clock_s)


def screen(built: Built, given: Choices, worker: Worker, warmup_s: float) -> tuple[list[Contender], list[str]]:
    """Time combinations of session options shortly (`tuning.explore`), in a worker that is open with the first of them.

    Returns:
        Those that were timed, and a line for each that the engine refused.
    """
    screened: list[Contender] = []
    refused: list[str] = []

    def measure(options: dict[str, Any]) -> float | None:
        if options != given.first:
            try:
                worker.reopen(options)
            except EngineError as error:
                changed = [f"{key} = {value}" for key, value in options.items() if value != given.first[key]]
                refused.append(f"not with {changed[-1]}: {error.what}")
                return None
        samples = worker.measure(seconds=SCREEN_S, min_runs=SCREEN_RUNS, warmup_s=min(warmup_s, SCREEN_S))
        screened.append(Contender(built, options, samples, in_force=worker.info.in_force))
        return screened[-1].p50_s

    explore(given, measure)
    return screened, refused


def shortlist(screened: Sequence[Contender]) -> list[Contender]:
    """Those that may be picked, by the screening: the best of each fineness first, each before what is slower."""
    return _in_front(screened, SCREENING_RATIO, MAX_CONTENDERS)


def _in_front(contenders: Sequence[Contender], ratio: float, count: int) -> list[Contender]:
    """At most ``count``, without those that one as fine or finer is ``ratio`` times as fast as."""
    ranked = sorted(contenders, key=lambda item: item.p50_s)
    standing = [
        item
        for item in ranked
        if not any(item.p50_s > other.p50_s * ratio and _level(other) <= _level(item) for other in ranked)
    ]
    best = {_level(item): item for item in reversed(standing)}.values()
    standing.sort(key=lambda item: item not in best)  # stable: each half by p50
    return standing[: max(count, len(best))]


def _level(contender: Contender) -> tuple[int, ...]:
    return coarseness(contender.built.candidate.precision)


def fp32_baseline(contenders: Sequence[Contender]) -> Contender | None:
    """The fastest in fp32, of those that got furthest: what the others' gain is stated against."""
    plain = [item for item in contenders if item.built.candidate.precision == "fp32"]
    return min(plain, key=lambda item: (not item.finished, item.p50_s), default=None)


def race(entrants: Sequence[Contender], beside: Sequence[Contender], job: Job, max_time_s: float) -> list[Contender]:
    """Measure in interleaved blocks, in several fresh processes each; fills the contenders' ``blocks``.

    As many rounds as the target states, and more on a machine where they disagree (`PRECISION`). Stops early, after a
    whole round but not before `MIN_ROUNDS`, when ``max_time_s`` is spent.

    Args:
        entrants: those that may be picked.
        beside: take part to the end, whatever their time: what is worth telling though it must not be picked.
        job: the export.
        max_time_s: seconds.

    Returns:
        Those that were measured to the end, the fastest first.

    Raises:
        LostContender: the engine of one failed: the race is void, and to be held again without it.
    """
    start, processes = time.monotonic(), max(1, job.target.measure.processes)
    racing = [*entrants, *(item for item in beside if item not in entrants)]
    enough_s = math.inf  # when the rounds that the target states were over, and what may be spent on more
    for number in itertools.count(1):
        _round(racing, job)
        if number == 1:
            racing = _leave(racing, beside)
        job.progress.step(number, max(number, processes), "measuring the contenders")
        ranked, now = sorted(racing, key=lambda contender: contender.p50_s), time.monotonic()
        if number == processes:
            enough_s = now + MORE_S
        done = number >= processes and precise(ranked[0], fp32_baseline(racing))
        if done or now > enough_s or (now - start > max_time_s and number >= min(MIN_ROUNDS, processes)):
            return ranked
    raise AssertionError("the loop ends")


def precise(winner: Contender, baseline: Contender | None) -> bool:
    """Whether more rounds are not needed to know the winner's gain to `PRECISION`; without a rival there is none.

    More rounds do not help against the steps of a clock.
    """
    gain = None if baseline is None else _gain(winner, baseline)
    return gain is None or gain.relative_error <= PRECISION


def _round(racing: Sequence[Contender], job: Job) -> None:
    """One fresh process each, all open at once, in turns."""
    warmup_s = job.target.measure.warmup_s
    with contextlib.ExitStack() as stack:
        workers = []
        for contender in racing:
            with _of(contender):
                workers.append((contender, stack.enter_context(open_worker(contender.built, contender.options))))
            contender.blocks.append([])
        for block in range(BLOCKS):
            # Who goes first changes from block to block, so that nobody always follows the same neighbour.
            turn = block % len(workers)
            for contender, worker in workers[turn:] + workers[:turn]:
                warm = warmup_s if block == 0 else BLOCK_S / 4
                with _of(contender):
                    samples = worker.measure(seconds=BLOCK_S, min_runs=BLOCK_RUNS, warmup_s=warm)
                contender.blocks[-1].append(samples)
        for contender, worker in workers:
            with _of(contender):
                contender.speeds.append(worker.probe(PROBE_S))


@contextlib.contextmanager
def _of(contender: Contender) -> Iterator[None]:
    """Whatever an engine raises here is this contender's own."""
    try:
        yield
    except EngineError as error:
        raise LostContender(contender, error) from error


def _leave(racing: Sequence[Contender], beside: Sequence[Contender]) -> list[Contender]:
    """Mark those that are out after the first round as such; return the others and those that are kept ``beside``."""
    front = _in_front([item for item in racing if item not in beside], RACE_RATIO, MAX_FINALISTS)
    for contender in racing:
        contender.left = contender not in front and contender not in beside
    return [contender for contender in racing if not contender.left]

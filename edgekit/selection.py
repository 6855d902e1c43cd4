"""The fastest wins, measured: a short round for every candidate, then fresh interleaved processes for the contenders.

Round 1 (screening): one process a candidate, every combination of its session options, a few runs each.
Round 2 (final): the variants within `CONTENDER_RATIO` of the best are measured in several fresh processes each. In
every process round all contenders are open at once and take turns in short blocks, so that a slow minute of the machine
hits all of them alike.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .candidates import Built, Job, open_worker
from .contracts import Array
from .devices.local import Worker
from .measure.statistics import Estimate, summarize
from .results import Latency

CONTENDER_RATIO = 1.3
"""A variant whose screening p50 is above this multiple of the best one's is out: screening is good to about 10 %."""
MAX_CONTENDERS = 5
SCREEN_S = 0.25
"""Seconds of timed runs a variant in the screening; at least `SCREEN_RUNS` runs, whatever they take."""
SCREEN_RUNS = 12
BLOCK_S = 0.12
BLOCKS = 6
"""Blocks a contender in each process of the final; each block at least `BLOCK_RUNS` runs."""
BLOCK_RUNS = 4


@dataclass
class Variant:
    """A built candidate with one combination of session options, and its samples."""

    built: Built
    options: Mapping[str, Any]
    screening_s: Array = field(default_factory=lambda: np.empty(0))  # seconds a run, [runs]
    blocks: list[list[Array]] = field(default_factory=list)  # [process][block] → seconds a run
    in_force: Mapping[str, Any] = field(default_factory=dict)

    @property
    def p50_s(self) -> float:
        """Median of the final samples, else of the screening's."""
        if self.blocks:
            return float(np.median(np.concatenate([block for process in self.blocks for block in process])))
        return float(np.median(self.screening_s))

    def latency(self) -> Latency:
        """Percentiles with intervals over all that was sampled in the last round it took part in."""
        blocks = self.blocks or [[self.screening_s]]
        summary = summarize(blocks)
        # A short round of a slow model may be too correlated to say more than between which runs its median lies.
        everything = np.concatenate([block for process in blocks for block in process])
        bounds = Estimate(self.p50_s, float(everything.min()), float(everything.max()))
        return Latency(
            p50_s=summary.p50 or bounds,
            p90_s=summary.p90,
            n=summary.n,
            processes=len(blocks),
            screening=not self.blocks,
        )


def cores() -> tuple[int, ...]:
    """What "every core" may mean here: the physical cores this process may use, and the logical ones if they differ."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text().strip() if path.is_file() else str(cpu))
    return tuple(dict.fromkeys((len(siblings), len(usable))))


def screen(built: Built, variants: Sequence[Mapping[str, Any]], worker: Worker, warmup_s: float) -> list[Variant]:
    """Time each combination of session options shortly, in a worker that is already open with the first of them."""
    screened = []
    for index, options in enumerate(variants):
        if index:
            worker.reopen(options)
        samples = worker.measure(seconds=SCREEN_S, min_runs=SCREEN_RUNS, warmup_s=min(warmup_s, SCREEN_S))
        screened.append(Variant(built, options, samples, in_force=worker.info.in_force))
    return screened


def contenders(variants: Sequence[Variant]) -> list[Variant]:
    """The variants that may be the fastest: close to the best in the screening, the best first."""
    ranked = sorted(variants, key=lambda item: item.p50_s)
    limit = ranked[0].p50_s * CONTENDER_RATIO if ranked else 0.0
    return [item for item in ranked if item.p50_s <= limit][:MAX_CONTENDERS]


def race(finalists: Sequence[Variant], job: Job, max_time_s: float) -> None:
    """Measure the finalists in interleaved blocks, in several fresh processes each; fills their ``blocks``.

    Stops early, after a whole process round, when ``max_time_s`` is spent.
    """
    start, processes = time.monotonic(), max(1, job.target.measure.processes)
    warmup_s = job.target.measure.warmup_s
    for process in range(processes):
        with contextlib.ExitStack() as stack:
            workers = []
            for variant in finalists:
                worker = stack.enter_context(open_worker(variant.built, job, variant.options))
                workers.append((variant, worker))
                variant.blocks.append([])
            for block in range(BLOCKS):
                # Who goes first changes from block to block, so that nobody always follows the same neighbour.
                turn = block % len(workers)
                for variant, worker in workers[turn:] + workers[:turn]:
                    warm = warmup_s if block == 0 else BLOCK_S / 4
                    variant.blocks[-1].append(worker.measure(seconds=BLOCK_S, min_runs=BLOCK_RUNS, warmup_s=warm))
        job.progress.step(process + 1, processes, "measuring the contenders")
        if time.monotonic() - start > max_time_s:
            return

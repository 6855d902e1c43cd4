"""Measure a latency: several fresh processes that take turns in short blocks, on any device that runs workers."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..contracts import Artifact, Feeds, Progress, Quiet
from ..errors import UsageError
from . import machine
from .client import Memory, Worker, WorkerInfo
from .state import DeviceState, judge
from .statistics import Samples, Series, Summary, Verdict, summarize, verdict
from .watch import StateWatch

BLOCK_S = 0.1
"""A worker's turn. Short, so that a slow second of the machine hits every process alike."""
REWARM_S = 0.02
"""Untimed runs at the start of a turn: caches and clocks come back from the others' turns."""
MIN_RUNS = 300
"""A slow model is measured longer than asked for: until it ran so often, or `PATIENCE` times the time is spent."""
PATIENCE = 3.0
_MEMORY_SHARE = 0.25  # if the models of all processes would take more of the machine's memory, they run one by one

OpenWorker = Callable[[Artifact, str, Any, Sequence[Feeds]], Worker]


class Measurable(Protocol):
    """What a benchmark needs of a bundle."""

    @property
    def artifact(self) -> Artifact:
        """What the engine loads."""
        ...

    @property
    def model_bytes(self) -> int:
        """Size of the artifact's files."""
        ...

    def golden(self) -> list[Any]:
        """(inputs, expected outputs) pairs."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """Raw samples, and what they were taken with."""

    samples: Samples  # seconds: [process][block][run]
    runtime: str
    options: Mapping[str, Any]  # asked for
    infos: tuple[WorkerInfo, ...]  # one a process
    memories: tuple[Memory, ...]
    summary: Summary
    verdict: Verdict
    reasons: tuple[str, ...]
    state: DeviceState | None = None  # of the machine, before, during and after


def benchmark(
    open_worker: Callable[[], Worker],
    *,
    seconds: float,
    processes: int,
    warmup_s: float = 0.3,
    together: bool = True,
    progress: Progress | None = None,
    watch: StateWatch | None = None,
) -> tuple[list[list[Series]], list[WorkerInfo], list[Memory]]:
    """Samples from ``processes`` fresh workers, with what they say of themselves at the end.

    Args:
        open_worker: starts one.
        seconds: time for timed blocks, over all processes.
        processes: how many.
        warmup_s: untimed runs before a worker's first block.
        together: all processes stay open and take turns; else one after the other, for models that are too large.
        progress: told the seconds spent.
        watch: keeps the machine's state.

    Raises:
        UsageError: no time, or no process.
        EngineError: a worker fails.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"the time to measure must be more than 0 seconds, got {seconds:g}")
    if processes < 1:
        raise UsageError(f"the number of processes must be 1 or more, got {processes}")
    samples: list[list[Series]] = []
    infos: list[WorkerInfo] = []
    memories: list[Memory] = []
    groups = [processes] if together else [1] * processes
    for index, size in enumerate(groups):
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(open_worker()) for _ in range(size)]
            if watch is not None:
                watch.begin(workers)
            share = _Budget(seconds / len(groups), MIN_RUNS / len(groups), seconds, index * seconds / len(groups))
            samples += _take_turns(workers, share, warmup_s, progress or Quiet())
            if watch is not None:
                watch.end(workers)
            infos += [worker.info for worker in workers]
            memories += [worker.memory() for worker in workers]
    return samples, infos, memories


@dataclass(frozen=True, slots=True)
class _Budget:
    seconds: float
    runs: float
    total_s: float  # of all groups, for the progress
    spent_s: float  # by earlier groups


def _take_turns(workers: Sequence[Worker], budget: _Budget, warmup_s: float, progress: Progress) -> list[list[Series]]:
    samples: list[list[Series]] = [[] for _ in workers]
    timed_s, runs, start = 0.0, 0, time.monotonic()
    while timed_s < budget.seconds or (runs < budget.runs and time.monotonic() - start < PATIENCE * budget.seconds):
        for worker, blocks in zip(workers, samples, strict=True):
            block = worker.measure(BLOCK_S, warmup_s=REWARM_S if blocks else warmup_s)
            blocks.append(block)
            timed_s += float(block.sum())
            runs += block.size
            done = min(timed_s, budget.seconds) + budget.spent_s
            progress.step(round(done * 1000), round(budget.total_s * 1000), f"{runs} runs")
    return samples


def benchmark_bundle(
    bundle: Measurable,
    open_worker: OpenWorker,
    *,
    runtime: str,
    options: Mapping[str, Any],
    seconds: float,
    processes: int,
    warmup_s: float = 0.3,
    progress: Progress | None = None,
) -> Measured:
    """Measure a bundle on its golden inputs.

    Args:
        bundle: an open bundle.
        open_worker: starts a worker on the device.
        runtime: the name of the engine's adapter.
        options: session options.
        seconds: time for timed blocks, over all processes.
        processes: how many fresh ones.
        warmup_s: untimed runs before a process's first block.
        progress: told the seconds spent.

    Raises:
        UsageError: the bundle holds no golden inputs to measure with, or an option is unknown.
        EngineError: the engine is missing, refuses the model, or crashes.
    """
    feeds = [inputs for inputs, _ in bundle.golden()]
    if not feeds:
        raise UsageError("the bundle holds no golden inputs to measure with")
    memory = machine.memory_bytes()
    together = memory is None or bundle.model_bytes * processes < _MEMORY_SHARE * memory
    watch = StateWatch()
    samples, infos, memories = benchmark(
        lambda: open_worker(bundle.artifact, runtime, options, feeds),
        seconds=seconds,
        processes=processes,
        warmup_s=warmup_s,
        together=together,
        progress=progress,
        watch=watch,
    )
    state = watch.state()
    judged, reasons = judge(*verdict(samples), state)
    return Measured(
        samples=samples,
        runtime=runtime,
        options=options,
        infos=tuple(infos),
        memories=tuple(memories),
        summary=summarize(samples),
        verdict=judged,
        reasons=tuple(reasons),
        state=state,
    )


def to_json(
    name: str, model_bytes: int, measured: Measured, *, device: Mapping[str, Any], samples: Path | None
) -> dict[str, Any]:
    """The object of ``bench --json`` (schema 1). What was not measured is null, and ``not_measured`` says why."""
    summary, info = measured.summary, measured.infos[0]
    percentiles = {"p50_s": summary.p50, "p90_s": summary.p90, "p99_s": summary.p99}
    peaks = [item.peak_rss_bytes for item in measured.memories if item.peak_rss_bytes is not None]
    not_measured = {f"latency.{text.split()[0]}_s": text for text in summary.refused}
    not_measured["energy_j"] = "this version reads no energy counters"
    if not peaks:
        not_measured["memory.peak_rss_bytes"] = "this system does not tell a process's peak memory"
    if info.placement.unknown:
        not_measured["placement"] = not_measured["placement_nodes"] = info.placement.unknown
    if samples is None:
        not_measured["samples"] = "not kept"
    return {
        "schema": 1,
        "bundle": name,
        "device": dict(device),
        "runtime": {
            "name": measured.runtime,
            "version": info.version,
            "options": dict(measured.options),
            "in_force": dict(info.in_force),
        },
        "placement": None if info.placement.unknown else info.placement.counts(),
        "placement_nodes": None if info.placement.unknown else [asdict(node) for node in info.placement.nodes],
        "latency": {
            **{key: None if value is None else value.to_json() for key, value in percentiles.items()},
            "confidence": summary.confidence,
            "n": summary.n,
            "processes": summary.processes,
        },
        "throughput_per_s": 1 / summary.mean_s if summary.mean_s > 0 else None,
        "memory": {"model_bytes": model_bytes, "peak_rss_bytes": max(peaks, default=None)},
        "energy_j": None,
        "verdict": measured.verdict,
        "reasons": list(measured.reasons),
        "state": None if measured.state is None else measured.state.to_json(),
        "samples": None if samples is None else str(samples),
        "not_measured": not_measured,
    }


def dumps(result: Mapping[str, Any]) -> str:
    """Strict JSON.

    Raises:
        ValueError: a value is not finite.
    """
    return json.dumps(result, indent=1, allow_nan=False)


def to_text(result: Mapping[str, Any]) -> str:
    """A few lines for a terminal: each percentile with its interval, the memory, and what to make of it."""
    latency, runtime = result["latency"], result["runtime"]
    lines = [f"{runtime['name']} {runtime['version']}   {latency['n']} runs in {latency['processes']} processes"]
    for key in ("p50_s", "p90_s", "p99_s"):
        value, label = latency[key], key.removesuffix("_s")
        if value is None:
            lines.append(f"{label}   not stated: {result['not_measured'][f'latency.{key}']}")
        else:
            low, middle, high = (1e3 * value[name] for name in ("low", "value", "high"))
            lines.append(f"{label}   {middle:.4g} ms   ({latency['confidence']:.0%}: {low:.4g} to {high:.4g})")
    if result["memory"]["peak_rss_bytes"] is not None:
        lines.append(f"memory   {result['memory']['peak_rss_bytes'] / 1e6:.0f} MB at its peak")
    lines.append("; ".join([result["verdict"], *result["reasons"]]))
    return "\n".join(lines)

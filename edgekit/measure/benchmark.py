"""Measure a bundle in fresh processes, on any device that runs workers, and tell what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..contracts import Artifact, Feeds, Progress, Quiet
from ..errors import UsageError
from .client import Memory, Worker, WorkerInfo
from .modes import Mode
from .sampling import Plan, Stopped, sample
from .state import DeviceState, judge
from .statistics import Samples, Summary, Verdict, percentile, summarize, verdict
from .watch import StateWatch

_HARNESS_S = 0.05
_HARNESS_RUNS = 20_000

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
    stopped: Stopped | None = None
    harness_p50_s: float | None = None  # what the sampler itself costs: the null runtime's p50
    mode: str = "latency"
    told: Mapping[str, Any] | None = None  # the answer to the question of another mode than that


def benchmark_bundle(
    bundle: Measurable,
    open_worker: OpenWorker,
    *,
    runtime: str,
    options: Mapping[str, Any],
    plan: Plan,
    mode: Mode | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure a bundle on its golden inputs.

    Args:
        bundle: an open bundle.
        open_worker: starts a worker on the device.
        runtime: the name of the engine's adapter.
        options: session options.
        plan: how long, in how many fresh processes.
        mode: how the device is loaded; None: one run at a time.
        progress: told the seconds spent.

    Raises:
        UsageError: the bundle holds no golden inputs to measure with, or an option is unknown.
        EngineError: the engine is missing, refuses the model, or crashes.
    """
    feeds = [inputs for inputs, _ in bundle.golden()]
    if not feeds:
        raise UsageError("the bundle holds no golden inputs to measure with")
    watch = StateWatch()
    harness_p50_s = price_of_harness(bundle, open_worker, feeds)
    progress, told = progress or Quiet(), None

    def open_one() -> Worker:
        return open_worker(bundle.artifact, runtime, options, feeds)

    if mode is None:
        sampled = sample(open_one, plan, progress=progress, watch=watch)
    else:
        sampled, told = mode.measure(open_one, plan, progress, watch)
    summary = summarize(sampled.samples)
    state = watch.state()
    judged, reasons = judge(*verdict(sampled.samples, summary), state)
    return Measured(
        samples=sampled.samples,
        runtime=runtime,
        options=options,
        infos=tuple(sampled.infos),
        memories=tuple(sampled.memories),
        summary=summary,
        verdict=judged,
        reasons=tuple(reasons),
        state=state,
        stopped=sampled.stopped,
        harness_p50_s=harness_p50_s,
        mode="latency" if mode is None else mode.name,
        told=told,
    )


def price_of_harness(bundle: Measurable, open_worker: OpenWorker, feeds: Sequence[Feeds]) -> float:
    """The p50 of a runtime that does nothing, there and with the same inputs: what timing itself costs a run."""
    with open_worker(bundle.artifact, "null", {}, feeds) as worker:
        return percentile(worker.measure(_HARNESS_S, max_runs=_HARNESS_RUNS), 0.5)


def cold_start(infos: Sequence[WorkerInfo]) -> dict[str, Any]:
    """What a process pays before its first result, as the ``cold_start`` of ``bench --json``: medians over processes.

    ``first_result_s`` is from the process's start (interpreter and all); ``import_s`` loads the engine, ``load_s``
    opens the model, ``first_run_s`` is the first inference. Files may come from the system's cache.
    """

    def middle(values: Sequence[float | None]) -> float | None:
        known = sorted(value for value in values if value is not None)
        return known[(len(known) - 1) // 2] if known else None

    return {
        "first_result_s": middle([info.cold_start_s for info in infos]),
        "import_s": middle([info.import_s for info in infos]),
        "load_s": middle([info.load_s for info in infos]),
        "first_run_s": middle([info.first_run_s for info in infos]),
        "processes": len(infos),
    }


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
            "effective_n": summary.effective_n,
            "processes": summary.processes,
        },
        "stopped": None if measured.stopped is None else measured.stopped.to_json(),
        "cold_start": cold_start(measured.infos),
        "harness": {"p50_s": measured.harness_p50_s},
        "mode": measured.mode,
        **({} if measured.told is None else {measured.mode: dict(measured.told)}),
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
    if result["harness"]["p50_s"] is not None:
        lines.append(f"harness   {1e6 * result['harness']['p50_s']:.2g} µs a run (the null runtime's p50)")
    if result["stopped"]:
        stopped = result["stopped"]
        known = "not known" if stopped["reached"] is None else f"known to ±{stopped['reached']:.1%}"
        lines.append(f"stopped   {stopped['because']}, after {stopped['elapsed_s']:.1f} s: p50 is {known}")
    if result["memory"]["peak_rss_bytes"] is not None:
        lines.append(f"memory   {result['memory']['peak_rss_bytes'] / 1e6:.0f} MB at its peak")
    lines.append("; ".join([result["verdict"], *result["reasons"]]))
    return "\n".join(lines)

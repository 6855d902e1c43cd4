"""Measure a bundle in fresh processes, on any device that runs workers, and tell what came out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..contracts import Artifact, Feeds, Progress, Quiet
from ..errors import EngineError, UsageError
from .affinity import Applied
from .batching import batched
from .call_price import CallPrice
from .client import Memory, Worker, WorkerInfo
from .extras import Extras, measure_extras, memory_json
from .machine import not_the_device
from .modes import Mode
from .opening import OpenWorker, checked, pinned
from .probe import PROBE_S, Speed, middle
from .sampling import Plan, Stopped, sample
from .state import DeviceState, judge
from .statistics import Samples, Summary, Verdict, percentile, summarize, verdict
from .watch import StateWatch

_HARNESS_S = 0.05
_PRICE_S = 0.3
_HARNESS_RUNS = 20_000
_LAYERS_SHOWN = 10


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

    @property
    def expected_placement(self) -> Mapping[str, int]:
        """Device → number of nodes, where it was exported."""
        ...

    @property
    def layers_file(self) -> Path:
        """See `profile.read_layers`."""
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
    extras: Extras = field(default_factory=Extras)
    pinned: Applied | None = None  # cores and priority of the last process; None: not asked for
    batch: int | None = None  # samples in one run; None: as the golden inputs come
    state_inputs: tuple[str, ...] = ()  # of a model with memory
    told: Mapping[str, Any] | None = None  # the answer to the question of another mode than that
    speed: Speed | None = None  # of the machine: the probe's
    run_price: CallPrice | str = "not asked for"  # what `run` costs beside the bound call, or why that is not known


def benchmark_bundle(
    bundle: Measurable,
    open_worker: OpenWorker,
    *,
    runtime: str,
    options: Mapping[str, Any],
    plan: Plan,
    mode: Mode | None = None,
    batch: int | None = None,
    profile: bool = False,
    cores: Sequence[int] | None = None,
    nice: int | None = None,
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
        batch: samples in one run, for a model whose first axis is free; None: as the golden inputs come.
        profile: also time each layer, with the engine's own timers, in a process of its own.
        cores: keep the processes on these cores; see `affinity.apply`.
        nice: their priority.
        progress: told the seconds spent.

    Raises:
        PlacementError: nodes run on a device that the bundle was not exported for.
        UsageError: the bundle holds no golden inputs to measure with, or an option is unknown.
        EngineError: the engine is missing, refuses the model, or crashes.
    """
    feeds = [inputs for inputs, _ in bundle.golden()]
    if not feeds:
        raise UsageError("the bundle holds no golden inputs to measure with")
    if batch is not None:
        feeds = batched(feeds, bundle.artifact.inputs, batch)
    watch, applied = StateWatch(), list[Applied]()
    open_worker = pinned(checked(open_worker, bundle.expected_placement), cores, nice, applied)
    progress, told = progress or Quiet(), None

    def open_one() -> Worker:
        return open_worker(bundle.artifact, runtime, options, feeds)

    price: list[CallPrice | str] = []
    speeds: list[Speed] = []

    def beside(worker: Worker) -> None:
        with contextlib.suppress(EngineError):  # an older bundle's worker
            speeds.append(worker.probe(PROBE_S))
        if not price:
            price.append(_price(worker, has_state=bool(bundle.artifact.state)))

    if mode is None:
        sampled = sample(open_one, plan, progress=progress, watch=watch, after=beside)
    else:
        sampled, told = mode.measure(open_one, plan, progress, watch)
    own = (runtime, options) if sampled.infos[0].own_clock else None
    harness_p50_s = price_of_harness(bundle, open_worker, feeds, own)
    extras = measure_extras(
        open_worker, bundle.artifact, runtime, options, feeds, layers_file=bundle.layers_file, profile=profile
    )
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
        extras=extras,
        pinned=applied[-1] if applied else None,
        batch=batch,
        state_inputs=tuple(pair.input for pair in bundle.artifact.state),
        told=told,
        speed=middle(speeds) if speeds else None,
        run_price=price[0] if price else f"not with --mode {mode.name if mode else ''}".strip(),
    )


def _price(worker: Worker, has_state: bool) -> CallPrice | str:
    """What ``run`` costs there, or why that is not known."""
    if has_state:
        return "a stream's steps are measured, with the state bound"
    try:
        return worker.price(_PRICE_S)
    except EngineError as error:
        return error.what


def price_of_harness(
    bundle: Measurable,
    open_worker: OpenWorker,
    feeds: Sequence[Feeds],
    own: tuple[str, Mapping[str, Any]] | None = None,
) -> float:
    """The p50 of a run that does nothing, there and with the same inputs: what timing itself costs a run.

    Args:
        bundle: an open bundle.
        open_worker: starts a worker on the device.
        feeds: real inputs.
        own: a runtime that times its runs itself, with its session options; None: the worker does.
    """
    if own is None:
        with open_worker(bundle.artifact, "null", {}, feeds) as worker:
            return percentile(worker.measure(_HARNESS_S, max_runs=_HARNESS_RUNS), 0.5)
    with open_worker(bundle.artifact, *own, feeds) as worker:
        # A clock of coarse steps says 0 or a step: only the mean lies between.
        return float(np.mean(worker.harness(_HARNESS_S, max_runs=_HARNESS_RUNS)))


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
    name: str,
    model_bytes: int,
    measured: Measured,
    *,
    device: Mapping[str, Any],
    samples: Path | None,
    arch: Sequence[str] = (),
) -> dict[str, Any]:
    """The object of ``bench --json`` (schema 1). What was not measured is null, and ``not_measured`` says why.

    Args:
        name: the bundle, as the user named it.
        model_bytes: of its artifact.
        measured: what was.
        device: `machine.describe`.
        samples: where the raw latencies lie.
        arch: the machines that the bundle was made for; empty: any.
    """
    summary, info = measured.summary, measured.infos[0]
    percentiles = {"p50_s": summary.p50, "p90_s": summary.p90, "p99_s": summary.p99}
    memory, unknown_memory = memory_json(model_bytes, measured.memories, info.in_force)
    not_measured = {f"latency.{text.split()[0]}_s": text for text in summary.refused}
    not_measured |= {**unknown_memory, **measured.extras.not_measured()}
    if info.placement.unknown:
        not_measured["placement"] = not_measured["placement_nodes"] = info.placement.unknown
    if measured.speed is None:
        not_measured["speed"] = "the probe runs beside plain latencies alone, in workers that know it"
    if isinstance(measured.run_price, str):
        not_measured["run"] = measured.run_price
    if samples is None:
        not_measured["samples"] = "not kept"
    emulator = device.get("emulated") or info.in_force.get("emulated")
    elsewhere = not_the_device({**device, "emulated": emulator}, arch)
    warnings = list(elsewhere)
    warnings += [device["unverified"]] if device.get("unverified") else []
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
            **{key: value and value.widened(info.clock_s).to_json() for key, value in percentiles.items()},
            "confidence": summary.confidence,
            "n": summary.n,
            "effective_n": summary.effective_n,
            "processes": summary.processes,
        },
        "stopped": None if measured.stopped is None else measured.stopped.to_json(),
        "cold_start": cold_start(measured.infos),
        "harness": {"p50_s": measured.harness_p50_s},
        "speed": None if measured.speed is None else measured.speed.to_json(),
        "run": measured.run_price.to_json() if isinstance(measured.run_price, CallPrice) else None,
        "mode": measured.mode,
        "batch": measured.batch,
        "stream": _stream(measured),
        **({} if measured.told is None else {measured.mode: dict(measured.told)}),
        "throughput_per_s": 1 / summary.mean_s if summary.mean_s > 0 else None,
        "memory": memory,
        "energy_j": measured.extras.energy_json(),
        "profile": measured.extras.profile,
        "pinned": None if measured.pinned is None else measured.pinned.to_json(),
        "verdict": "noisy" if elsewhere else measured.verdict,
        "reasons": [*warnings, *measured.reasons],
        "state": None if measured.state is None else measured.state.to_json(),
        "samples": None if samples is None else str(samples),
        "not_measured": not_measured,
    }


def _stream(measured: Measured) -> dict[str, Any] | None:
    """Of a model with memory: its state, and whether the engine kept it in its own memory while runs were timed."""
    if not measured.state_inputs:
        return None
    return {"state": list(measured.state_inputs), "bound": measured.infos[0].state_bound}


def stream_text(bound: bool | None) -> str:
    """What the timed runs of a model with memory were; ``bound``: as in `client.WorkerInfo`."""
    return {
        True: "each run is a step of a stream, its state kept in the engine's memory",
        False: "each run is a step of a stream, its state taken out and fed again",
        None: "its state is fed from outside, always the same",
    }[bound]


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
    if result.get("stream"):
        stream = result["stream"]
        lines.append(f"stream   {', '.join(stream['state'])}: {stream_text(stream['bound'])}")
    if result["run"] is not None:
        bound, added = (1e6 * result["run"][key] for key in ("bind_p50_s", "adds_s"))
        lines.append(f"run()   adds {added:.2g} µs to the engine's call of {bound:.4g} µs, which p50 is of")
    if result["harness"]["p50_s"] is not None:
        lines.append(f"harness   {1e6 * result['harness']['p50_s']:.2g} µs a run (the null runtime's p50)")
    if result["stopped"]:
        stopped = result["stopped"]
        known = "not known" if stopped["reached"] is None else f"known to ±{stopped['reached']:.1%}"
        lines.append(f"stopped   {stopped['because']}, after {stopped['elapsed_s']:.1f} s: p50 is {known}")
    if result["memory"]["peak_rss_bytes"] is not None:
        lines.append(f"memory   {result['memory']['peak_rss_bytes'] / 1e6:.0f} MB at its peak")
    if result["energy_j"] is not None:
        lines.append(
            f"energy   {result['energy_j']['value']:.3g} J a run above idle, by {result['energy_j']['method']}"
        )
    for layer in (result["profile"] or {"layers": []})["layers"][:_LAYERS_SHOWN]:
        where = layer["modules"][0] if layer["modules"] else layer["name"]
        lines.append(f"{layer['share']:6.1%} {1e6 * layer['time_s']:9.1f} µs   {where} {layer['op_type']}")
    lines.append("; ".join([result["verdict"], *result["reasons"]]))
    return "\n".join(lines)

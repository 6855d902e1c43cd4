"""What `export` found: every candidate with its numbers, and the pick. Values only; report/ prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, cast

from .contracts import PassRecord, Tolerance
from .json_output import common, export
from .measure.probe import Speed
from .measure.statistics import Estimate, Samples
from .plain import finite


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one run takes, from pooled samples of several processes."""

    p50_s: Estimate
    p90_s: Estimate | None
    n: int
    processes: int
    screening: bool  # True: measured only shortly, because it was clearly slower
    speedup: Estimate | None = None  # the fastest fp32 candidate's p50 ÷ this one's, paired; None: did not race
    machine_speed: Speed | None = None  # the probe's, beside it; None: did not race

    def to_json(self) -> export.CandidateLatency:
        """As in `export --json`; a percentile that n cannot support is null."""
        return {
            "p50_s": _interval(self.p50_s),
            "p90_s": _interval(self.p90_s) if self.p90_s else None,
            "n": self.n,
            "processes": self.processes,
            "screening": self.screening,
            "speedup_over_fp32": _interval(self.speedup) if self.speedup else None,
            "speed": cast("common.Speed", self.machine_speed.to_json()) if self.machine_speed else None,
        }


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the engine is from the reference, over all samples and outputs (the worst output counts)."""

    passed: bool
    max_abs: float
    rel_l2: float
    sqnr_db: float  # inf where equal
    samples: int
    tolerance: Tolerance
    reference: str  # "PyTorch 2.13.0 fp32"
    misses: tuple[str, ...] = ()
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # as `common.OutputError` has them
    part_db: float = math.inf  # of the worst part of any output; inf where equal
    worst: str = ""  # which that is: "output 'output' [:, 4:8]: 8.1 dB (whole: 29.1 dB)"
    differ: float | None = None  # the largest share of an output's integers that differ; None: there are none

    def to_json(self) -> common.Parity:
        """As in `export --json`. An infinite SQNR (equal outputs) is null."""
        return {
            "passed": self.passed,
            "max_abs": finite(self.max_abs),
            "rel_l2": finite(self.rel_l2),
            "sqnr_db": finite(self.sqnr_db),
            "part_db": finite(self.part_db),
            "worst": self.worst,
            "differ": self.differ,
            "samples": self.samples,
            "tolerance": cast("common.Tolerance", self.tolerance.to_json()),
            "reference": self.reference,
            "misses": list(self.misses),
            "outputs": {
                name: cast(
                    "common.OutputError", {key: finite(v) if isinstance(v, float) else v for key, v in row.items()}
                )
                for name, row in self.outputs.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Opinion:
    """What another evaluator says of an ONNX file, beside the one that is the reference."""

    name: str  # "onnx.reference 1.23.2"
    sqnr_db: float | None  # the reference's answers against its own, the worst output; None: it could not run
    agrees: bool | None  # None: it could not run
    why: str = ""  # why it could not, or what differs


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """Who made the outputs that candidates are compared with, and who was asked besides."""

    name: str  # "PyTorch 2.13.0 fp32", "ONNX Runtime 1.32.0 unoptimised"
    decided_by: export.DecidedBy
    samples: int = 0  # on which the others were asked
    others: tuple[Opinion, ...] = ()
    node: str | None = None  # the first at which two of them differ: "GRU 'encoder/gru'"

    @property
    def title(self) -> str:
        """Its name, and how it came to be the one where that is no matter of course."""
        how = {"majority": ", by majority", "option": ", as --reference says", "alone": ", which nothing else confirms"}
        return f"{self.name}{how.get(self.decided_by, '')}"

    def to_json(self) -> export.Reference:
        """As in `export --json`; an infinite SQNR (equal outputs) is null."""
        return {
            "name": self.name,
            "decided_by": self.decided_by,
            "samples": self.samples,
            "evaluators": [
                {"name": item.name, "agrees": item.agrees, "sqnr_db": finite(item.sqnr_db), "why": item.why}
                for item in self.others
            ],
            "first_node_that_differs": self.node,
        }


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """An engine's stream beside the reference's, each with its own state: see `accuracy.drift`."""

    passed: bool
    steps: int
    frames: str  # where they come from, in words
    sqnr_db: float  # of the worst output over all steps, as in `ParityReport`
    max_abs: float
    first_db: float  # SQNR of single steps against what varies over all of them
    last_db: float
    tail_db: float  # of the last quarter of the steps
    worst_db: float
    worst_step: int  # counted from 1
    steps_db: tuple[float, ...] = ()
    state_bound: bool | None = None  # whether the engine kept the state in its own memory
    misses: tuple[str, ...] = ()

    def to_json(self) -> common.Rollout:
        """As in `export --json`. An infinite SQNR (equal outputs) is null."""
        return {
            "passed": self.passed,
            "steps": self.steps,
            "frames": self.frames,
            "sqnr_db": finite(self.sqnr_db),
            "max_abs": finite(self.max_abs),
            "first_db": finite(self.first_db),
            "last_db": finite(self.last_db),
            "tail_db": finite(self.tail_db),
            "worst_db": finite(self.worst_db),
            "worst_step": self.worst_step,
            "steps_db": [finite(value) for value in self.steps_db],
            "state_bound": self.state_bound,
            "misses": list(self.misses),
        }


@dataclass(frozen=True, slots=True)
class MetricReport:
    """A metric through the engine beside the reference's on the same samples."""

    name: str
    reference: float
    value: float
    drop: float  # positive: worse than the reference
    max_drop: float | None
    samples: int
    compared_with: str | None = None  # "labels", "PyTorch"; None: only the author of the metric knows
    details: Mapping[str, float] = field(default_factory=dict)  # what the value alone does not tell
    data_sha256: str | None = None  # of the samples and their labels, in order

    def to_json(self) -> common.Metric:
        """As in `export --json`."""
        return {
            "name": self.name,
            "reference": self.reference,
            "value": self.value,
            "drop": self.drop,
            "max_drop": self.max_drop,
            "samples": self.samples,
            "compared_with": self.compared_with,
            "details": dict(self.details),
            "data_sha256": self.data_sha256,
        }


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """The main memory that the picked candidate needs, beside what its target has."""

    limit_bytes: int  # the target's [limits] memory_bytes
    peak_rss_bytes: int | None  # of a process that runs it, engine and all
    not_checked: str | None  # why the peak is not known; None: it is, and within the limit

    def to_json(self) -> export.Memory:
        """As in `export --json`."""
        return {
            "limit_bytes": self.limit_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "not_checked_because": self.not_checked,
        }


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One way to ship the model, as built, checked and measured."""

    name: str
    runtime: str
    precision: str
    options: Mapping[str, Any]  # session options measured (threads, precision, …)
    size_bytes: int | None = None
    nodes: int | None = None
    parity: ParityReport | None = None
    metric: MetricReport | None = None
    rollout: RolloutReport | None = None  # of a model with memory
    same_graph: SameGraph | None = None  # the emulated engine against the CPU on the same graph
    latency: Latency | None = None
    passes: tuple[PassRecord, ...] = ()
    kept_float: tuple[str, ...] = ()  # nodes left in floating point to hold the accuracy
    rejected: str | None = None  # why it cannot be picked; None: it could be
    withheld: str | None = None  # why it must not be picked though it passed ("not checked on real data: --data")
    note: str | None = None  # what else is worth knowing ("slower than fp32")
    checked_with: str | None = None  # the runtime that checked it in place of its own; None: its own did
    peak_rss_bytes: int | None = None  # of a process that runs it; None: the target has no limit, or not known

    def to_json(self) -> export.Candidate:
        """As in `export --json`."""
        return {
            "name": self.name,
            "runtime": self.runtime,
            "precision": self.precision,
            "options": dict(self.options),
            "size_bytes": self.size_bytes,
            "nodes": self.nodes,
            "latency": self.latency.to_json() if self.latency else None,
            "parity": self.parity.to_json() if self.parity else None,
            "metric": self.metric.to_json() if self.metric else None,
            "rollout": self.rollout.to_json() if self.rollout else None,
            "same_graph": self.same_graph.to_json() if self.same_graph else None,
            "kept_float": list(self.kept_float),
            "rejected": self.rejected,
            "withheld": self.withheld,
            "note": self.note,
            "checked_with": self.checked_with,
            "peak_rss_bytes": self.peak_rss_bytes,
        }


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The outcome of an export."""

    target: str
    bundle: Path
    size_bytes: int  # of the bundle's model
    fp32_size_bytes: int | None  # of the same model in fp32, to compare with
    source: Mapping[str, Any]
    passes: tuple[PassRecord, ...]  # those that every candidate shares
    candidates: tuple[CandidateResult, ...]  # in the order of the table: picked first, then by p50, rejected last
    chosen: str
    reason: str  # one line: why this one ("2.8x faster than fp32 at the same top1", "not quantized: …")
    placement: Mapping[str, int]
    measured: str | None  # None: it was; else why not ("this machine is x86_64, the target aarch64")
    calibration: Mapping[str, Any] | None  # None: no data, and nothing that was calibrated without
    stages: tuple[tuple[str, float], ...]  # (name, seconds)
    opset: int = 0
    graph_nodes: tuple[int, int] = (0, 0)  # before and after the shared passes
    self_test: str = ""
    device: Mapping[str, Any] | None = None  # where candidates were checked and measured: `measure.here.describe`
    memory: MemoryReport | None = None  # None: the target states no limit
    reference: ReferenceReport | None = None
    unverified: str | None = None  # what the pick was not checked on, and ships all the same; None: nothing is missing
    emulated: str | None = None  # what stood for the device in every check; None: the device itself
    samples: Mapping[str, Samples] = field(default_factory=dict, repr=False, compare=False)  # candidate → raw latencies

    @property
    def pick(self) -> CandidateResult:
        """The candidate that was bundled."""
        return next(item for item in self.candidates if item.name == self.chosen)

    def to_json(self) -> export.Export:
        """The object of `export --json` (schema 1)."""
        pick = self.pick
        return {
            "schema": 1,
            "target": self.target,
            "bundle": str(self.bundle),
            "size_bytes": self.size_bytes,
            "fp32_size_bytes": self.fp32_size_bytes,
            "source": cast("export.ExportedSource", dict(self.source)),
            "parity": pick.parity.to_json() if pick.parity else None,
            "candidates": [item.to_json() for item in self.candidates],
            "chosen": self.chosen,
            "reason": self.reason,
            "placement": dict(self.placement),
            "device": cast("common.Device", dict(self.device)) if self.device is not None else None,
            "measured": self.measured is None,
            "not_measured_because": self.measured,
            "unverified": self.unverified,
            "emulated": self.emulated,
            "reference": self.reference.to_json() if self.reference else None,
            "memory": self.memory.to_json() if self.memory else None,
            "metric": pick.metric.to_json() if pick.metric else None,
            "calibration": None if self.calibration is None else cast("export.Calibration", dict(self.calibration)),
            "passes": [
                cast("common.PassRecord", {**asdict(item), "options": dict(item.options)}) for item in self.passes
            ],
            "opset": self.opset,
            "nodes": {"exported": self.graph_nodes[0], "after_passes": self.graph_nodes[1]},
            "self_test": self.self_test,
            "stages": [{"name": name, "seconds": seconds} for name, seconds in self.stages],
        }


def _interval(value: Estimate) -> common.Interval:
    return {"value": value.value, "low": value.low, "high": value.high}


@dataclass(frozen=True, slots=True)
class SameGraph:
    """How far an engine is from ONNX Runtime's CPU kernels on the same graph, the worst output over all samples."""

    reference: str  # "ONNX Runtime 1.32.0 on the CPU, node by node"
    samples: int
    max_abs: float
    sqnr_db: float
    max_lsb: float | None  # max_abs in steps of the output's own quantization; None: the outputs are not quantized

    def to_json(self) -> export.SameGraph:
        """As in `export --json`; an infinite SQNR (equal outputs) is null."""
        return cast("export.SameGraph", {**asdict(self), "sqnr_db": finite(self.sqnr_db)})


ARE_DIFFERENT = "A and B are different models"


def different_sources(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """``A and B are different models: …`` by what two bundles were exported from; None where nothing says so.

    Args:
        a: the ``source`` table of a manifest or of a kept result.
        b: the other's.
    """
    first, second = a.get("parameters"), b.get("parameters")
    if first is not None and second is not None and first != second:
        return f"{ARE_DIFFERENT}: they have {first:,} and {second:,} parameters"
    named = [PurePath(str(item["spec"])).name for item in (a, b) if item.get("spec")]
    if len(set(named)) < 2:
        return None
    return f"A and B may be different models: they were exported from {named[0]} and {named[1]}"

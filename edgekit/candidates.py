"""One candidate: built from the shared graph, opened in its own engine, and checked against the reference there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plugins
from .accuracy import Accuracy
from .contracts import Artifact, Feeds, Outputs, PassRecord, Progress, options_from
from .errors import UsageError
from .graph import clone
from .measure.parity import ParityMeter
from .missing import StandIn
from .passes import PassContext
from .repair import Rankings
from .results import MetricReport, ParityReport
from .same_graph import SameGraph, SameGraphCheck, emulator_of, write_plain
from .samples import ReferenceRun
from .stages import run_passes
from .target import Candidate, Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from .data import Dataset
    from .measure.client import Worker
    from .site import Site
    from .source import Source

CHUNK_BYTES = 32 * 2**20
"""Feeds go to a worker in chunks of about this size."""
GOLDEN_SAMPLES = 4
"""The first samples go into the bundle, with the reference's outputs for them."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every candidate of one export shares."""

    target: Target
    source: Source
    graph: ir.Model  # after the shared passes; candidates work on clones
    expected: ReferenceRun
    calibration: Dataset | None
    accuracy: Accuracy
    site: Site  # where candidates are checked and timed
    workdir: Path
    progress: Progress
    allow_fallback: frozenset[str] = frozenset()  # operators that may run elsewhere than on the target's device
    rankings: Rankings = field(default_factory=Rankings)
    ranges: dict[object, dict[str, tuple[float, float]]] = field(default_factory=dict)  # see PassContext.ranges
    built: dict[str, Built] = field(default_factory=dict)  # artifacts by all that decides what is in them
    dimensions: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # see PassContext.dimensions

    def emulator_of(self, candidate: Candidate) -> str | None:
        """What stands for the device where the candidate is checked; None: nothing does, or the engine is silent."""
        return emulator_of(candidate.runtime) if self.site.is_here else None

    def pass_context(self, runtime: str, keep_float: frozenset[str] = frozenset()) -> PassContext:
        """What passes and exporters may look at for an engine."""
        data = self.calibration
        return PassContext(
            arch=self.site.arch,
            runtime=runtime,
            calibration=data.feeds if data is not None else None,
            calibration_samples=len(data) if data is not None else 0,
            keep_float=keep_float,
            target=self.target.name,
            device="" if self.target.measure.fallback else self.target.measure.device,
            allow_fallback=self.allow_fallback,
            workdir=self.workdir,
            progress=self.progress,
            ranges=self.ranges,
            dimensions=self.dimensions,
        )


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate's artifact on disk, and how it came about."""

    candidate: Candidate
    artifact: Artifact
    directory: Path  # holds the artifact's files and nothing else
    records: tuple[PassRecord, ...]
    info: Mapping[str, Any]  # what the exporter says it did
    keep_float: frozenset[str]
    size_bytes: int  # of every file of the artifact
    operators: frozenset[str] = frozenset()  # of the graph that the exporter was given
    digest: str = ""  # of every file of the artifact
    stand_in: StandIn | None = None  # what checks it here in place of its own engine; None: its own does
    plain: Artifact | None = None  # the same graph as ONNX, where the engine emulates its device
    steps: Mapping[str, float] = field(default_factory=dict)  # of ``plain``: output → step of its quantization

    @property
    def placement(self) -> Mapping[str, int] | None:
        """Device → number of the graph's nodes, where it was compiled ahead of time: it is few nodes afterwards."""
        found: Mapping[str, int] | None = self.info.get("placement")
        return found


@dataclass(frozen=True, slots=True)
class Check:
    """How a candidate did against the reference."""

    parity: ParityReport
    metric: MetricReport | None
    golden_db: float  # signal-to-noise ratio over the first `GOLDEN_SAMPLES` alone
    same_graph: SameGraph | None = None  # against the CPU on the same graph, where the device is emulated

    @property
    def miss(self) -> str | None:
        """Why it is not accurate enough, or None where it is."""
        if not self.parity.passed:
            return "parity: " + "; ".join(self.parity.misses)
        if self.metric and self.metric.max_drop is not None and self.metric.drop > self.metric.max_drop:
            return f"{self.metric.name} drops by {self.metric.drop:.4g}, allowed {self.metric.max_drop:g}"
        return None


def build(candidate: Candidate, job: Job, keep_float: frozenset[str] = frozenset(), tag: str = "") -> Built | str:
    """Run the candidate's passes on a clone of the shared graph and write its artifact.

    Candidates that differ in session options alone share one artifact.

    Returns:
        What was built, or the reason why the candidate would be no different from the plain graph.

    Raises:
        EngineError: the engine or its converter is missing or refuses the graph.
    """
    recipe = repr((candidate.runtime, candidate.format, candidate.passes, candidate.export_options, sorted(keep_float)))
    if recipe in job.built:
        twin = job.built[recipe]
        return replace(twin, candidate=candidate, artifact=replace(twin.artifact, precision=candidate.precision))
    context = job.pass_context(candidate.runtime, keep_float)
    exporter = plugins.load("exporters", candidate.format)()
    options = options_from(exporter.Options, candidate.export_options, f"candidate '{candidate.name}', exporter")
    directory = job.workdir / f"{candidate.name.replace(' ', '-')}{tag}"
    records: tuple[PassRecord, ...] = ()
    model: ir.Model | None = None
    if takes_program(candidate):
        if job.source.program is None:
            return f"{exporter.name} converts PyTorch programs, and {job.source.spec} has none"
        directory.mkdir()
        artifact, info = exporter.write_program(job.source, directory, candidate.precision, options, context)
    else:
        model, records = run_passes(clone(job.graph), candidate.passes, context)
        if records and not any(record.modified for record in records):
            return "; ".join(record.detail for record in records)
        directory.mkdir()
        artifact, info = exporter.write(model, directory, candidate.precision, options, context)
    operators = frozenset(node.op_type for graph in model.graphs() for node in graph) if model else frozenset()
    size_bytes, digest = _weigh(directory)
    built = Built(candidate, artifact, directory, records, info, keep_float, size_bytes, operators, digest)
    for other in job.built.values():
        same = other.digest == digest and other.candidate.runtime == candidate.runtime and bool(records)
        if same and (other.candidate.options, other.candidate.tune) == (candidate.options, candidate.tune):
            return f"no different from candidate '{other.candidate.name}': {records[-1].detail}"
    if model is not None and job.emulator_of(candidate):
        plain, steps = write_plain(model, directory.with_name(f"{directory.name}-plain"), candidate.precision, context)
        built = replace(built, plain=plain, steps=steps)
    job.built[recipe] = built
    return built


def takes_program(candidate: Candidate) -> bool:
    """Whether its exporter converts the PyTorch program itself: then no graph pass and no choice of nodes reaches it.

    Raises:
        UsageError: the candidate states passes all the same.
    """
    if not hasattr(plugins.load("exporters", candidate.format), "write_program"):
        return False
    if candidate.passes:
        names = ", ".join(item.name for item in candidate.passes)
        raise UsageError(
            f"candidate '{candidate.name}' states passes ({names}), which work on the ONNX graph; "
            f"exporter '{candidate.format}' converts the PyTorch program instead",
            fix="Remove its passes.",
        )
    return True


def _weigh(directory: Path) -> tuple[int, str]:
    """Size in bytes and hash of all files of a folder, with their names."""
    size, digest = 0, hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(directory).as_posix().encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            size += path.stat().st_size
    return size, digest.hexdigest()


def open_worker(built: Built, job: Job, options: Mapping[str, Any]) -> Worker:
    """Start a fresh process with the artifact open in its engine.

    Raises:
        EngineError: the engine is missing, or refuses the model.
    """
    feeds = [sample.feeds for sample in job.expected.first(4)]
    return job.site.device.open(*checker(built, options), feeds)


def checker(built: Built, options: Mapping[str, Any]) -> tuple[Artifact, str, Mapping[str, Any]]:
    """What is opened to check a candidate: the artifact, the runtime's name, its session options.

    The candidate's own with ``options``; where a stand-in checks it, that one's.
    """
    if built.stand_in is None:
        return built.artifact, built.candidate.runtime, options
    artifact = replace(built.artifact, format=plugins.load("runtimes", built.stand_in.runtime).formats[0])
    return artifact, built.stand_in.runtime, built.stand_in.options


def check(built: Built, worker: Worker, job: Job) -> Check:
    """Run every sample through the open engine and compare with the reference.

    Raises:
        EngineError: the engine fails on a sample.
    """
    from .evaluation import make_metric

    accuracy, precision = job.accuracy, built.candidate.precision
    tolerance = accuracy.tolerance(precision)
    meter, golden = ParityMeter(tolerance.rtol or 0.0), ParityMeter()
    metric = make_metric(accuracy.metric) if accuracy.metric else None
    baseline = make_metric(accuracy.metric) if accuracy.metric else None
    same = SameGraphCheck(built.plain, built.steps) if built.plain else None
    done = 0
    for chunk in _chunks(job.expected):
        answers: list[Outputs] = worker.run_many([sample.feeds for sample in chunk])
        for index, (sample, got) in enumerate(zip(chunk, answers, strict=True), start=done):
            meter.add(sample.expected, got)
            if same is not None:
                same.add(sample.feeds, got)
            if index < GOLDEN_SAMPLES:
                golden.add(sample.expected, got)
            if metric is not None and baseline is not None:
                metric.add(got, sample.label, sample.expected)
                baseline.add(sample.expected, sample.label, sample.expected)
        done += len(chunk)
        job.progress.step(done, len(job.expected), built.candidate.name)
    parity = meter.result()
    misses = tuple(parity.misses(tolerance))
    report = ParityReport(
        passed=not misses,
        max_abs=parity.max_abs,
        rel_l2=parity.rel_l2,
        sqnr_db=parity.sqnr_db,
        samples=len(job.expected),
        tolerance=tolerance,
        reference=job.expected.name,
        misses=misses,
        outputs={
            name: {"max_abs": row.max_abs, "rel_l2": row.rel_l2, "sqnr_db": row.sqnr_db}
            for name, row in parity.outputs.items()
        },
    )
    if metric is None or baseline is None or accuracy.metric is None:
        return Check(report, None, golden.result().sqnr_db, same.result() if same else None)
    value, reference = metric.value(), baseline.value()
    return Check(
        report,
        MetricReport(
            name=accuracy.metric,
            reference=reference,
            value=value,
            drop=(reference - value) if metric.higher_is_better else (value - reference),
            max_drop=accuracy.max_drop,
            samples=len(job.expected),
        ),
        golden.result().sqnr_db,
        same.result() if same else None,
    )


def _chunks(samples: ReferenceRun) -> Iterator[list[Any]]:
    """Split the samples so that a chunk's feeds take about `CHUNK_BYTES`."""
    chunk, size = [], 0
    for sample in samples:
        chunk.append(sample)
        size += _nbytes(sample.feeds) + _nbytes(sample.expected)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _nbytes(arrays: Feeds) -> int:
    return sum(array.nbytes for array in arrays.values())


def has_option(runtime: str, name: str) -> bool:
    """Whether the sessions of a runtime have an option of this name."""
    return any(field.name == name for field in fields(plugins.load("runtimes", runtime).Options))

"""A built candidate against the reference, in its own engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..accuracy.expected import ReferenceRun
from ..accuracy.parity import ParityCheck
from ..accuracy.same_graph import SameGraphCheck
from ..contracts import Artifact, Feeds, Outputs
from ..measure.parity import ParityMeter
from ..results import MetricReport
from .job import GOLDEN_SAMPLES, Built, Check, Job

if TYPE_CHECKING:
    from ..measure.client import Worker

CHUNK_BYTES = 32 * 2**20
"""Feeds go to a worker in chunks of about this size."""


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
    from ..accuracy.metric import make_metric

    accuracy, precision = job.accuracy, built.candidate.precision
    parity, golden = ParityCheck(accuracy.tolerance(precision), job.expected.name), ParityMeter()
    metric = make_metric(accuracy.metric) if accuracy.metric else None
    baseline = make_metric(accuracy.metric) if accuracy.metric else None
    same = SameGraphCheck(built.plain, built.steps) if built.plain else None
    done = 0
    for chunk in _chunks(job.expected):
        answers: list[Outputs] = worker.run_many([sample.feeds for sample in chunk])
        for index, (sample, got) in enumerate(zip(chunk, answers, strict=True), start=done):
            parity.add(sample.expected, got)
            if same is not None:
                same.add(sample.feeds, got)
            if index < GOLDEN_SAMPLES:
                golden.add(sample.expected, got)
            if metric is not None and baseline is not None:
                metric.add(got, sample.label, sample.expected)
                baseline.add(sample.expected, sample.label, sample.expected)
        done += len(chunk)
        job.progress.step(done, len(job.expected), built.candidate.name)
    report = parity.report()
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

"""A built candidate against the reference, in its own engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import plugins
from ..accuracy.drift import DriftMeter
from ..accuracy.parity import ParityCheck
from ..accuracy.same_graph import SameGraphCheck
from ..contracts import Artifact, Feeds, Outputs
from ..data.chunks import in_chunks, nbytes
from ..measure.ignore import blank
from ..measure.parity import ParityMeter
from ..results import MetricReport
from .free_dimensions import refuse_frozen
from .job import GOLDEN_SAMPLES, GOLDEN_STEPS, Built, Check

if TYPE_CHECKING:
    from ..accuracy.rollout import Rollout
    from ..measure.client import Worker


def open_worker(built: Built, options: Mapping[str, Any]) -> Worker:
    """Start a fresh process with the artifact open in its engine.

    Raises:
        EngineError: the engine is missing, or refuses the model.
    """
    job = built.variant.job
    feeds = [sample.feeds for sample in job.expected.first(4)]

    def told(doing: str, share: float | None) -> None:
        if share is None:
            job.progress.step(0, None, doing)
        else:
            job.progress.step(round(100 * share), 100, doing)

    return job.site.device.open(*checked_form(built, options), feeds, told)


def checked_form(built: Built, options: Mapping[str, Any]) -> tuple[Artifact, str, Mapping[str, Any]]:
    """What is opened to check a candidate: the artifact, the runtime's name, its session options.

    The candidate's own with ``options``; where a stand-in checks it, that one's.
    """
    if built.stand_in is None:
        return built.artifact, built.candidate.runtime, options
    artifact = replace(built.artifact, format=plugins.load("runtimes", built.stand_in.runtime).formats[0])
    return artifact, built.stand_in.runtime, built.stand_in.options


def _roll_out(outcome: Check, rollout: Rollout, built: Built, worker: Worker) -> Check:
    """``outcome`` with the engine's own stream beside the reference's, over the same frames."""
    job = built.variant.job
    tolerance = job.accuracy.tolerance(built.candidate.precision)
    drift, golden = DriftMeter(tolerance, varied=rollout.varied), ParityMeter()
    state: Feeds | None = rollout.initial
    done = 0
    for chunk in in_chunks(rollout.expected, lambda sample: nbytes(sample.feeds) + nbytes(sample.expected)):
        answers = worker.stream([rollout.frame(sample.feeds) for sample in chunk], state)
        state = None
        for index, (sample, got) in enumerate(zip(chunk, answers, strict=True), start=done):
            expected = {name: sample.expected[name] for name in got}
            drift.add(expected, got)
            if index < GOLDEN_STEPS:
                golden.add(expected, got)
        done += len(chunk)
        job.progress.step(done, len(rollout), f"{built.candidate.name}, its own state")
    report = drift.report(rollout.frames, worker.state_bound)
    return replace(outcome, rollout=report, golden_steps=golden.result())


def check(built: Built, worker: Worker) -> Check:
    """Run every sample through the open engine and compare with the reference.

    Raises:
        EngineError: the engine fails on a sample.
        ParityError: a free dimension works at one size alone.
        DataError: the metric is not defined for what it answers.
    """
    from ..accuracy.metric import make_metric, refuse_undefined

    job = built.variant.job
    accuracy, expected = job.accuracy, job.expected
    parity, golden = ParityCheck(built.tolerance, expected.name), ParityMeter()
    metric = make_metric(accuracy.metric) if accuracy.metric else None
    same = SameGraphCheck(built.plain, built.steps) if built.plain else None
    done = 0
    for chunk in in_chunks(expected, lambda sample: nbytes(sample.feeds) + nbytes(sample.expected)):
        answers: list[Outputs] = worker.run_many([sample.feeds for sample in chunk])
        for index, (sample, raw) in enumerate(zip(chunk, answers, strict=True), start=done):
            if same is not None:
                same.add(sample.feeds, raw)
            got = blank(job.ignore, sample.feeds, raw)
            parity.add(sample.expected, got)
            if index < GOLDEN_SAMPLES:
                golden.add(sample.expected, got)
            if metric is not None:
                metric.add(got, sample.label, sample.expected)
        done += len(chunk)
        job.progress.step(done, len(expected), built.candidate.name)
    report = parity.report()
    if report.passed:
        refuse_frozen(worker, job.resized, built.candidate.precision, job.ignore)
    outcome = Check(report, None, golden.result(), same_graph=same.result() if same else None)
    if report.passed and job.rollout is not None:
        outcome = _roll_out(outcome, job.rollout, built, worker)
    if metric is None or accuracy.metric is None or expected.metric is None:
        return outcome
    refuse_undefined(metric, accuracy.metric, "the engine")
    value, reference = metric.value(), expected.metric
    told = MetricReport(
        name=accuracy.metric,
        reference=reference,
        value=value,
        drop=(reference - value) if metric.higher_is_better else (value - reference),
        max_drop=accuracy.max_drop,
        samples=len(expected),
        compared_with=metric.against(expected.name, expected.dataset.has_labels),
        details=metric.details(),
        data_sha256=expected.data_sha256,
    )
    return replace(outcome, metric=told)

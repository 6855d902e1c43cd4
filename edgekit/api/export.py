"""Source → bundle: the only module that knows all the stages."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accuracy.rollout import DEFAULT_STEPS, Rollout, roll_out, whole_example, with_state
from ..accuracy.rules import Accuracy, accuracy_rules
from ..contracts import Progress, Quiet
from ..devices.fresh_start import fresh_starts
from ..errors import (
    AccuracyError,
    BudgetError,
    EngineError,
    ParityError,
    PlacementError,
    UsageError,
    suggestion,
)
from ..graph import count_nodes
from ..pipeline.assess import Assessed, assess, why_not_measured
from ..pipeline.blame import blaming
from ..pipeline.calibration_notes import blame_calibration, look_at_calibration
from ..pipeline.evidence import refuse_unevidenced, reject_beside_wrong_fp32, withhold
from ..pipeline.follow_data import load_at_data, read_data
from ..pipeline.free_dimensions import at_second_sizes
from ..pipeline.job import Job, Variant
from ..pipeline.pick import MIN_GAIN, Prefer, Wish
from ..pipeline.provisions import refuse_full_disks, refuse_output
from ..pipeline.ship import ship
from ..pipeline.site import site_for
from ..pipeline.stages import run_passes, to_graph
from ..results import CandidateResult, ExportResult, MemoryReport
from ..target.load import load_target
from ..target.needs import engines_of, refuse_missing
from ..target.profile import Target
from ..target.toolchain import Toolchain, steps
from ..units import example_input

if TYPE_CHECKING:
    from ..accuracy.reference import Reference
    from ..analysis.observed import Observed
    from ..data.dataset import Dataset
    from ..measure.statistics import Samples
    from ..pipeline.race import Contender
    from ..sources.source import Source

DEFAULT_CALIBRATION_SAMPLES = 128


def export(
    source: Any,
    target: str | Path = "cpu",
    *,
    output: str | Path | None = None,
    device: str = "local",
    data: str | None = None,
    calibration_data: str | None = None,
    preprocess: str | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    ignore_labels: bool = False,
    tolerance: Sequence[str] = (),
    inputs: Sequence[str] = (),
    example: str | Path | None = None,
    dynamic: Sequence[str] = (),
    ranges: Sequence[str] = (),
    state: Sequence[str] = (),
    rollout: int | None = None,
    task: str | None = None,
    reference: str | None = None,
    ignore_where: Sequence[str] = (),
    threads: int | None = None,
    candidates: Sequence[str] = (),
    allow_fallback: Sequence[str] = (),
    samples: int | None = None,
    calibration_samples: int = DEFAULT_CALIBRATION_SAMPLES,
    unverified: bool = False,
    prefer: Prefer = "latency",
    min_gain: float = MIN_GAIN,
    max_time_s: float = 120.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a model for a target: build every candidate, check it in its engine, measure, bundle the fastest.

    Args:
        source: ``file.py:factory``, ``package.module:factory``, a Hugging Face directory or id, a ``.pt2``, a
            ``.onnx``, or an ``nn.Module`` with its example inputs.
        target: a target's name, or the path of its TOML file.
        output: the bundle's folder; default ``NAME.edgekit`` in the current folder.
        device: where candidates are checked and measured: ``local``, ``ssh://[user@]host[:port]``, ``adb://serial``.
        data: samples to check on (and to calibrate with, unless ``calibration_data`` is given).
        calibration_data: samples to calibrate with.
        preprocess: how an image folder becomes input arrays.
        metric: judges the accuracy: a name, or ``file.py:function``.
        max_drop: the largest loss of the metric that is acceptable, in the metric's unit.
        ignore_labels: use the data as if they had no labels; else labels that nothing uses are refused.
        tolerance: parity bounds loosened by name: ``sqnr_db=15``, ``int8.sqnr_db=15``.
        inputs: ``NAME:DTYPE:1x3x224x224`` where the source does not tell its example inputs; ``NAME=VALUE`` its value.
        example: an ``.npz`` of example inputs, as the model takes them, in place of made-up ones.
        dynamic: ``NAME:AXIS`` for each free dimension.
        ranges: ``DIM=MIN..OPT..MAX``, the sizes of a free dimension, for engines that plan for them.
        state: ``OUT=IN`` for each output that is an input of the next run; ``none``: nothing is looked for. Obvious
            ones are found, and buffers that ``forward`` overwrites.
        rollout: steps over which a model with memory runs with its own state, beside the reference with its own; None:
            `DEFAULT_STEPS`; 0: not at all.
        task: the Hugging Face task, where the directory does not tell.
        reference: what says what an ``.onnx`` file computes: ``onnx.reference``, ``onnxruntime`` or ``openvino``; None:
            what two of them agree on.
        ignore_where: ``NAME=VALUE``, the mask and its value where nobody reads the outputs; of Hugging Face models
            ``attention_mask=0`` is the default, and ``none`` compares everything.
        threads: fixes the number of threads; None: the fastest, measured.
        candidates: only these of the target's candidates.
        allow_fallback: operators, by the engine's names of them, that may run elsewhere than on the target's device.
        samples: check on at most this many samples, evenly strided; None: the target's number.
        calibration_samples: calibrate with at most this many samples, evenly strided.
        unverified: ship an integer form that was not checked on real data all the same; the bundle records it.
        prefer: what a coarser form must pay in: ``latency``, ``size`` (of the artifact) or ``memory`` (the peak).
        min_gain: how many times better in that a coarser form must at least be.
        max_time_s: seconds for measuring the contenders.
        overwrite: replace an existing bundle at ``output``.
        progress: where to say how far it is.

    Raises:
        UsageError: an option, the target or the output cannot be used.
        SourceError: the model cannot be loaded or exported.
        DataError: the data do not fit the model.
        ParityError: every candidate computes something else than the reference; names the first layer that diverges.
            Or no bundle passes its own self-test.
        AccuracyError: every candidate loses too much of the metric, or none was checked on real data.
        PlacementError: every candidate would fall back to a device that the target does not allow.
        BudgetError: no candidate fits into the target's memory.
        TakenError: another made ``output`` while this ran; the bundle is kept beside it, and ``result`` tells of it.
        EngineError: no engine of the target, or what its exporter needs, is installed; or the device is unreachable.
    """
    from ..accuracy.agreement import ASKED
    from ..accuracy.claims import check_claims
    from ..accuracy.expected import ReferenceRun, empty_note
    from ..accuracy.growing import begin_empty, with_content
    from ..accuracy.ignore_where import ignore_note, ignore_rules
    from ..accuracy.reference import reference_for
    from ..analysis.cost import analyze
    from ..data.dataset import Dataset
    from ..pipeline.pack import pack_bundle
    from ..sources.flags import parse_ranges, stated_values, states_shapes
    from ..sources.load import load_source
    from ..sources.quantized import quantized_form
    from ..sources.state import settle
    from ..tempdir import work_folder

    stages, wish = _Stages(progress or Quiet()), Wish(prefer, min_gain)
    profile = load_target(target)
    if profile.abstract:
        raise UsageError(
            f"target '{profile.name}' is abstract: it is there only for others to extend it",
            fix="List the others: edgekit targets list",
        )
    samples = profile.measure.samples if samples is None else samples
    if rollout is not None and rollout < 0:
        raise UsageError(f"--rollout must be 0 or more, got {rollout}")
    _refuse_counts(samples=samples, calibration_samples=calibration_samples, threads=threads)
    if output is not None:
        refuse_output(Path(output), overwrite)

    with site_for(profile, device) as site:
        offered = _choose_candidates(profile, candidates, site.arch)
        refuse_missing(profile.name, offered, site.is_here)
        with fresh_starts(engines_of(offered, site.is_here)) as unfit, stages.stage("load the model"):
            model = load_at_data(
                lambda more: load_source(source, inputs=[*inputs, *more], dynamic=dynamic, task=task, example=example),
                data or calibration_data,
                preprocess,
            )
            settle(model, state)
            stated = "--example" if example is not None else states_shapes(inputs)
        refuse_missing(profile.name, offered, site.is_here, unfit)
        destination = Path(output) if output is not None else Path(f"{model.name}.edgekit")
        refuse_output(destination, overwrite)
        refuse_full_disks(destination, model, offered)
        if not profile.export.dynamic:
            _refuse_free_dimensions(profile, model, dynamic)
        real = bool(data or calibration_data)
        with stages.stage("read the data"):
            read = partial(read_data, preprocess=preprocess, stated=stated, settle=partial(settle, named=state))
            read = partial(read, valued=stated_values(inputs))
            model, dataset, calibration = _datasets(model, data, calibration_data, read, samples, calibration_samples)
        both = [dataset] if calibration is None else [dataset, calibration]
        model.notes += tuple(dict.fromkeys(f"{item.spec}: {note}" for item in both for note in item.notes))
        if ignore_labels:
            dataset = dataset.without_labels()
        if real:
            model.use_example(whole_example(model, next(dataset.feeds())))
        with blaming(model.made_up):
            check_claims(model)
        if model.made:
            dataset = Dataset.from_example(model.example, made_up=model.made_up)
        dimensions = parse_ranges(ranges, model.example_dims())
        rules = accuracy_rules(profile, metric, max_drop, tolerance, dataset.has_labels)
        _refuse_rules(rules, offered, dataset)

        with work_folder() as workdir:
            with stages.stage("export to ONNX"):
                graph = to_graph(model, profile.export.opset)
                exported_nodes = count_nodes(graph)
            model.describe_quantized(quantized_form(graph))
            with stages.stage("run the reference"), blaming(dataset.made_up):
                asked = None
                if model.kind == "onnx":
                    asked = [whole_example(model, feeds) for feeds in dataset.take(ASKED).feeds()]
                ignore = ignore_rules(model, ignore_where)
                model.notes += tuple(ignore_note(rule) for rule in ignore)
                trusted = reference_for(model, asked, reference, ignore)
                begin_empty(model, trusted, model.example)
                rolled = _roll_out(dataset if real else None, model, trusted, rollout, workdir, stages)
                dataset, running = with_state(dataset, model, trusted, _folder(workdir, "checked"))
                if calibration is None:  # what is built of it is withheld, see `pipeline.evidence`
                    calibration = dataset
                else:
                    calibration, _ = with_state(calibration, model, trusted, _folder(workdir, "calibration"))
                expected = ReferenceRun(dataset, running, workdir, stages, rules.metric)
                model.notes += (empty_note(expected.empty),) if expected.empty else ()
                resized = at_second_sizes(
                    model, trusted, with_content([s.feeds for s in expected.first(2)]), dimensions
                )
            allowed = frozenset(allow_fallback)
            job = Job(profile, expected, calibration, rules, site, workdir, stages, allowed, dimensions, rolled)
            job = replace(job, ignore=ignore, resized=resized, real=real, unverified=unverified, unfit=unfit)
            with stages.stage("run the passes"):
                graph, records = run_passes(graph, steps(profile.passes), job.pass_context())
            variant = Variant(job, model, graph)
            with stages.stage("look at the calibration data"):
                observed = look_at_calibration(variant, offered)
            assessed = []
            for toolchain in offered:
                with stages.stage(f"candidate {toolchain.candidate.name}"):
                    assessed.append(assess(toolchain, variant, threads))
            stand_in = None if real else example_input(model.made_up)
            assessed = blame_calibration(reject_beside_wrong_fp32(assessed), observed, stand_in)
            if not any(item.passed for item in assessed):
                with stages.stage("find where it diverges"), blaming(dataset.made_up):
                    _raise_why(assessed, job, observed)
            assessed = withhold(assessed, real=real, unverified=unverified)
            refuse_unevidenced(assessed)
            pack = partial(
                pack_bundle, shared_passes=records, destination=destination, overwrite=overwrite, observed=observed
            )
            decision, (destination, self_test, taken) = ship(assessed, job, wish, max_time_s, pack)
            picked, assessed = decision.picked, decision.assessed
        result = ExportResult(
            target=profile.name,
            bundle=destination,
            size_bytes=picked.built.size_bytes if picked.built else 0,
            fp32_size_bytes=_fp32_size(assessed) if model.quantized is None else None,
            source={**model.to_json(), "macs": analyze(graph, model.example_dims()).macs},
            passes=records,
            candidates=_table(assessed, picked, decision.baseline),
            chosen=picked.candidate.name,
            reason=decision.reason,
            placement=dict(picked.placement or {}),
            measured=why_not_measured(picked),
            memory=_memory(picked, job),
            reference=expected.report,
            unverified=picked.unverified,
            calibration=_calibration(job, assessed, model.made_up, calibration_data is None, observed),
            stages=tuple(stages.seconds),
            opset=profile.export.opset,
            graph_nodes=(exported_nodes, count_nodes(graph)),
            self_test=self_test,
            samples=_samples(assessed),
            device=site.facts,
            emulated=job.emulator_of(picked.toolchain),
        )
        if taken is not None:
            taken.result = result
            raise taken
        return result


def _folder(workdir: Path, name: str) -> Path:
    (workdir / name).mkdir(exist_ok=True)
    return workdir / name


def _roll_out(
    data: Dataset | None, model: Source, reference: Reference, steps: int | None, workdir: Path, progress: Progress
) -> Rollout | None:
    """The reference's own stream; None: the model has no memory, or no step was asked for."""
    if not model.state:
        if steps:
            raise UsageError(
                f"--rollout is for models with memory, and {model.spec} has none that was found",
                fix="Name the output that is an input of the next run: --state OUT=IN",
            )
        return None
    steps = DEFAULT_STEPS if steps is None else steps
    if steps == 0:
        return None
    return roll_out(data, model, reference, steps, lambda name: _folder(workdir, name), progress)


def _refuse_free_dimensions(target: Target, source: Source, dynamic: Sequence[str]) -> None:
    """A target of static shapes: neither --dynamic nor a file's own free dimension will do."""
    free = [spec for spec in source.inputs if not all(isinstance(size, int) for size in spec.shape)]
    if not free:
        return
    inputs = ", ".join(f"'{spec}'" for spec in free)
    flags = " ".join(
        f"--input {spec.name}:{spec.dtype}:{'x'.join(map(str, source.example[spec.name].shape))}" for spec in free
    )
    raise UsageError(
        f"target '{target.name}' takes static shapes only, and "
        + (f"input {inputs} has a free dimension" if len(free) == 1 else f"inputs {inputs} have free dimensions"),
        fix="Drop --dynamic." if dynamic else f"Fix the sizes: {flags}",
    )


class _Stages:
    """A Progress that passes on to another and keeps each stage's wall time."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self.seconds: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with self._inner.stage(name):
            yield
        self.seconds.append((name, time.perf_counter() - start))

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        self._inner.step(done, total, note)


def _choose_candidates(target: Target, wanted: Sequence[str], arch: str) -> tuple[Toolchain, ...]:
    """The target's candidates for an architecture, or those the user names, each with its plug-ins."""
    offered = target.candidates_for(arch)
    names = [item.name for item in offered]
    for name in wanted:
        if name not in names:
            raise UsageError(f"target '{target.name}' has no candidate '{name}'", fix=suggestion(name, names))
    return tuple(Toolchain(item) for item in offered if not wanted or item.name in wanted)


def _refuse_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, got {value}")


def _datasets(
    model: Source,
    data: str | None,
    calibration_data: str | None,
    read: Callable[..., tuple[Source, Dataset]],
    samples: int,
    calibration_samples: int,
) -> tuple[Source, Dataset, Dataset | None]:
    """The model at the samples' size, and the samples: those to check on (without data: the model's example), and those
    to calibrate with (real data, or None).
    """
    from ..data.dataset import Dataset

    given = other = None
    if data or calibration_data:
        model, given = read(model, str(data or calibration_data))  # real samples are better to check on than an example
        other = given
    if data and calibration_data:
        _, other = read(model, calibration_data, stated="--data")
    if model.state:  # what follows one another stays together
        checked = given.head(samples) if given else Dataset.from_example(model.example, made_up=model.made_up)
        return model, checked, other.head(calibration_samples) if other else None
    checked = given.take(samples) if given else Dataset.from_example(model.example, made_up=model.made_up)
    return model, checked, other.take(calibration_samples) if other else None


def _refuse_rules(rules: Accuracy, offered: Sequence[Toolchain], dataset: Dataset) -> None:
    """Refuse a metric without its labels, labels without their use, and a precision without a tolerance."""
    from ..accuracy.metric import make_metric, refuse_labels

    for toolchain in offered:
        rules.tolerance(toolchain.candidate.precision)
    if rules.metric is None:
        return
    metric = make_metric(rules.metric)
    refuse_labels(metric, rules.metric, dataset.has_labels, dataset.spec)
    if metric.of_reference is not None and not math.isfinite(metric.of_reference):
        raise UsageError(
            f"metric '{rules.metric}' of the model against itself is infinite, so it has no drop that could be bounded",
            fix="State the bound itself: --tolerance sqnr_db=30, or int8.sqnr_db=30 for one precision. "
            "(edgekit evaluate measures it)",
        )


def _raise_why(assessed: Sequence[Assessed], job: Job, observed: Observed | None) -> None:
    """No candidate is left: raise the error that tells the user most."""
    lines = [f"{item.candidate.name}: {item.why_not}" for item in assessed]
    if any(isinstance(item.error, BudgetError) for item in assessed):  # accurate enough, so nearer than the others
        raise BudgetError(
            f"no candidate fits into the memory of target '{job.target.name}'",
            details=lines,
            fix="Export a smaller model, or correct [limits] memory_bytes of the target.",
        )
    missed = [item for item in assessed if item.check is not None]
    if missed:
        from ..pipeline.advice import advice
        from ..pipeline.diagnose import divergence_lines

        closest = max(missed, key=lambda item: item.check.parity.sqnr_db if item.check else 0.0)
        metric = job.accuracy.metric
        failed_metric = closest.check is not None and closest.check.parity.passed
        if metric and failed_metric:
            raise AccuracyError(
                f"no candidate holds {metric} within {job.accuracy.max_drop:g}",
                details=lines,
                fix=advice(closest, observed, job.real),
            )
        raise ParityError(
            "no candidate computes what the reference computes, within its tolerance",
            details=[*lines, *(divergence_lines(closest.built) if closest.built else ())],
            fix=advice(closest, observed, job.real),
        )
    errors = [item.error for item in assessed if item.error is not None]
    if errors and all(isinstance(error, PlacementError) for error in errors):
        raise errors[0]  # the others say the same of other precisions
    for kind in (PlacementError, EngineError):
        for item in assessed:
            if isinstance(item.error, kind):
                if len({str(other.error) for other in assessed}) == 1:  # one cause for all: said once
                    raise item.error
                first = item.error  # its details are the nodes and the engine's reasons
                raise kind(
                    f"no candidate of target '{job.target.name}' can be used",
                    details=[*lines, *first.details],
                    fix=first.fix,
                )
    if errors:  # what nobody foresaw, or options that an engine does not know
        if len(errors) == len(assessed) and len({str(error) for error in errors}) == 1:  # one cause for all: said once
            raise errors[0]
        raise type(errors[0])(
            f"no candidate of target '{job.target.name}' can be used", details=lines, fix=errors[0].fix
        )
    raise UsageError(f"no candidate of target '{job.target.name}' applies to this model", details=lines)


def _table(assessed: Sequence[Assessed], picked: Assessed, baseline: Contender | None) -> tuple[CandidateResult, ...]:
    """Every candidate's result: the pick first, then the others by p50, those that are out last."""

    def order(item: Assessed) -> tuple[bool, bool, bool, float]:
        best = item.best
        finished = best is not None and best.finished
        return item is not picked, not item.passed, not finished, best.p50_s if best else 0.0

    return tuple(item.result(baseline) for item in sorted(assessed, key=order))


def _samples(assessed: Sequence[Assessed]) -> dict[str, Samples]:
    """Candidate → the raw latencies that its result states."""
    return {item.candidate.name: item.best.samples for item in assessed if item.best is not None}


def _fp32_size(assessed: Sequence[Assessed]) -> int | None:
    sizes = [item.built.size_bytes for item in assessed if item.built and item.candidate.precision == "fp32"]
    return min(sizes) if sizes else None


def _memory(picked: Assessed, job: Job) -> MemoryReport | None:
    limit_bytes = job.target.limits.memory_bytes
    if limit_bytes is None:
        return None
    unknown = why_not_measured(picked) or "the system does not tell a process's peak"
    return MemoryReport(limit_bytes, picked.peak_bytes, None if picked.peak_bytes is not None else unknown)


def _calibration(
    job: Job, assessed: Sequence[Assessed], made_up: str | None, same_data: bool, observed: Observed | None
) -> dict[str, Any] | None:
    """What was calibrated on; None: nobody gave data, and nothing was calibrated without."""
    calibrated = any(item.built is not None and item.toolchain.needs_calibration for item in assessed)
    if job.calibration is None or not (job.real or calibrated):
        return None
    return {
        "data": job.calibration.spec,
        "samples": len(job.calibration),
        "same_data_as_checked": same_data,
        "real": job.real,
        "made_up": None if job.real else made_up,
        "observed": observed.to_json() if observed else None,
    }

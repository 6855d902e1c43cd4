"""Accuracy of a bundle through its own engine, and the metrics by the names users give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..accuracy.metric import make_metric, refuse_labels, refuse_undefined
from ..bundle import Bundle, open_bundle
from ..contracts import Feeds, Progress, Quiet, TensorSpec
from ..data.chunks import in_chunks, nbytes
from ..data.digest import SamplesDigest
from ..devices import device_for
from ..devices.prepare import bring
from ..errors import UsageError
from ..json_output.evaluate import Evaluate
from ..measure.bootstrap import CONFIDENCE, drop_interval, metric_interval
from ..measure.ignore import blank
from ..measure.statistics import Estimate
from ..measure.stream import first_state, frame_inputs, has_state, without_state
from ..plain import finite
from ..tempdir import work_folder

if TYPE_CHECKING:
    from ..accuracy.reference import Reference
    from ..data.dataset import Dataset
    from ..sources.source import Source


@dataclass(frozen=True, slots=True)
class EvalResult:
    """A metric through the bundle's engine, beside the reference's."""

    bundle: Path
    metric: str
    higher_is_better: bool
    value: float
    reference: float | None  # None: nobody knows it
    reference_source: str | None  # "PyTorch 2.13.0 fp32, same samples"; or why nobody knows it
    data: str
    samples: int
    runtime: str
    version: str
    options: dict[str, Any]
    device: dict[str, Any]  # see `measure.here.describe`
    compared_with: str | None = None  # "labels", "PyTorch"; None: only the metric's author knows
    details: Mapping[str, float] = field(default_factory=dict)  # what the value alone does not tell
    streamed: bool = False  # a model with memory ran with its own state, from sample to sample
    notes: tuple[str, ...] = ()  # what of the data was changed or left out
    interval: Estimate | None = None  # of the value; None: one sample, or all alike
    reference_interval: Estimate | None = None
    drop_interval: Estimate | None = None  # paired: over the same samples; None also where only a number is recorded

    @property
    def drop(self) -> float | None:
        """How much worse than the reference, in the metric's unit; negative: better."""
        if self.reference is None:
            return None
        return self.reference - self.value if self.higher_is_better else self.value - self.reference

    @property
    def verdict(self) -> str | None:
        """``worse``, ``better`` or ``indistinguishable`` from the reference; None where the drop has no interval."""
        if self.drop_interval is None:
            return None
        if self.drop_interval.low > 0:
            return "worse"
        return "better" if self.drop_interval.high < 0 else "indistinguishable"

    def to_json(self) -> Evaluate:
        """The object of ``evaluate --json`` (schema 1). An infinite value (the SQNR of equal outputs) is null."""
        value = {
            "schema": 1,
            "bundle": str(self.bundle),
            "metric": {
                "name": self.metric,
                "value": finite(self.value),
                "reference": finite(self.reference),
                "drop": finite(self.drop),
                "reference_source": self.reference_source,
                "higher_is_better": self.higher_is_better,
                "compared_with": self.compared_with,
                "details": dict(self.details),
                "interval": _bounds(self.interval),
                "reference_interval": _bounds(self.reference_interval),
                "drop_interval": _bounds(self.drop_interval),
                "confidence": CONFIDENCE,
                "verdict": self.verdict,
            },
            "data": self.data,
            "samples": self.samples,
            "streamed": self.streamed,
            "notes": list(self.notes),
            "device": self.device,
            "runtime": {"name": self.runtime, "version": self.version, "options": self.options},
        }
        return cast("Evaluate", value)


def evaluate(
    bundle: str | Path | Bundle,
    data: str,
    metric: str,
    *,
    ignore_labels: bool = False,
    source: Any = None,
    inputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
    task: str | None = None,
    reference: str | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    threads: int | None = None,
    device: str = "local",
    progress: Progress | None = None,
) -> EvalResult:
    """Run a bundle's engine over data and say how good its answers are.

    The reference is ``source`` run on the same samples; without it, the value that export recorded in the bundle, if it
    was for the same metric on the same samples; else there is none.

    Args:
        bundle: its folder or zip, or an open one.
        data: what `edgekit.data.load.load_data` takes. Frames without the state of a model with memory are a stream.
        metric: see `make_metric`. Those that compare with PyTorch's outputs (cosine, sqnr_db, agreement; without labels
            also mse, mae, r2, f1, miou) need ``source``.
        ignore_labels: use the data as if they had no labels; else labels that the metric does not use are refused.
        source: the model the bundle was made from, as `export` takes it.
        inputs: as for `export`; the value of an input (``sr=16000``) also stands for data that do not hold it.
        dynamic: as for `export`.
        task: as for `export`.
        reference: as for `export`: what says what ``source`` computes, where it is an ``.onnx`` file.
        preprocess: how an image folder becomes input arrays.
        samples: evaluate at most so many, evenly strided; None: all.
        threads: instead of the measured session option.
        device: where to run: ``local``, ``ssh://[user@]host[:port]`` or ``adb://serial``.
        progress: where to say how far it is.

    Raises:
        BundleError: the bundle is damaged, or is none.
        UsageError: no such metric, or it needs labels or a source that are not there.
        DataError: the data do not fit, or a label or an output cannot be judged.
        EngineError: the engine is missing or fails.
        SourceError: the source cannot be loaded.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(bundle) as opened:
            return evaluate(
                opened,
                data,
                metric,
                ignore_labels=ignore_labels,
                source=source,
                inputs=inputs,
                dynamic=dynamic,
                task=task,
                reference=reference,
                preprocess=preprocess,
                samples=samples,
                threads=threads,
                device=device,
                progress=progress,
            )
    from ..data.load import load_with_values

    if reference is not None and source is None:
        raise UsageError("--reference says what runs --source, which was not given", fix="Add --source.")
    progress = progress or Quiet()
    meter, baseline = make_metric(metric), make_metric(metric)
    state = bundle.manifest.state
    frame, optional = frame_inputs(bundle.manifest.inputs, state)
    dataset = load_with_values(data, frame, _values(frame, inputs), preprocess=preprocess, optional=optional)
    # Frames alone are a stream, in which each side keeps its own state, as in an app.
    streamed = bool(state) and not has_state(next(dataset.feeds()), state)
    if ignore_labels:
        dataset = dataset.without_labels()
    if source is None and (meter.needs_reference or (meter.prefers_labels and not dataset.has_labels)):
        raise UsageError(
            f"metric '{metric}' compares with PyTorch's outputs"
            + (f" where there are no labels, and {data} has none" if meter.prefers_labels else ""),
            fix="Name the model with --source, or use a metric on labels (top1, f1, mse, file.py:function).",
        )
    refuse_labels(meter, metric, dataset.has_labels, data)
    if samples is not None:
        dataset = dataset.head(samples) if state else dataset.take(samples)
    loaded = None if source is None else _load_reference(bundle, source, inputs, dynamic, task, dataset, reference)
    use = bundle.manifest.runtime
    options = bundle.options(**({} if threads is None else {"threads": threads}))
    digest = SamplesDigest()
    with device_for(device) as place, work_folder() as workdir:
        trusted, theirs = None, iter(dataset.samples())
        if loaded is not None:
            from ..accuracy.rollout import with_state

            asked, trusted = with_state(dataset, *loaded, workdir)
            theirs = iter(asked.samples())
        bring(bundle, place, progress)
        with progress.stage("evaluate"), place.open(bundle.artifact, use.name, options) as worker:
            for chunk in in_chunks(dataset.samples(), lambda sample: nbytes(sample.feeds)):
                if streamed:
                    frames = [without_state(item.feeds, state) for item in chunk]
                    answers = worker.stream(frames, None if meter.samples else bundle.first_state())
                else:
                    answers = worker.run_many([item.feeds for item in chunk])
                for sample, answer in zip(chunk, answers, strict=True):
                    outputs = blank(bundle.manifest.ignore, sample.feeds, answer)
                    expected = None if trusted is None else trusted.run(next(theirs).feeds)
                    if expected is not None and streamed:
                        expected = {name: expected[name] for name in outputs}
                    meter.add(outputs, sample.label, expected)
                    digest.add(sample)
                    if expected is not None:
                        baseline.add(expected, sample.label, expected)
                progress.step(meter.samples, len(dataset))
            version = worker.info.version
        described = place.describe()
    refuse_undefined(meter, metric, "the engine")
    if trusted is not None:
        refuse_undefined(baseline, metric, trusted.name)
        told = trusted.name if trusted.report is None else trusted.report.title
        known: tuple[float | None, str | None] = (baseline.value(), f"{told}, same samples")
    else:
        known = _recorded(bundle, metric, digest.hexdigest())
    return EvalResult(
        bundle=bundle.path,
        metric=metric,
        higher_is_better=meter.higher_is_better,
        value=meter.value(),
        reference=known[0],
        reference_source=known[1],
        data=data,
        samples=meter.samples,
        runtime=use.name,
        version=version,
        options=options,
        device=described,
        compared_with=meter.against("" if trusted is None else trusted.name, dataset.has_labels),
        details=meter.details(),
        streamed=streamed,
        notes=dataset.notes,
        interval=metric_interval(meter),
        reference_interval=None if trusted is None else metric_interval(baseline),
        drop_interval=None if trusted is None else drop_interval(meter, baseline),
    )


def _load_reference(
    bundle: Bundle,
    source: Any,
    inputs: Sequence[str],
    dynamic: Sequence[str],
    task: str | None,
    dataset: Dataset,
    choice: str | None,
) -> tuple[Source, Reference]:
    from ..accuracy.agreement import ASKED
    from ..accuracy.reference import reference_for
    from ..accuracy.rollout import whole_example
    from ..sources.flags import flag_for
    from ..sources.load import load_source
    from ..sources.source import NoExampleError
    from ..sources.state import NONE, settle

    state, frame = bundle.manifest.state, next(dataset.feeds())
    buffers = {pair.input for pair in state if pair.buffer}
    load = partial(load_source, source, dynamic=dynamic, task=task)
    try:
        model = load(inputs=inputs)
    except NoExampleError:  # its bundle and the data say what it takes
        taken = [spec for spec in bundle.manifest.inputs if spec.name not in buffers]
        feeds = {**first_state(state, bundle.manifest.inputs, {}, frame), **frame}
        flags = [flag_for(spec.name, feeds[spec.name]).removeprefix("--input ") for spec in taken]
        model = load(inputs=[*inputs, *flags])
    ours, theirs = [spec.name for spec in bundle.manifest.inputs], [spec.name for spec in model.inputs]
    if sorted(ours) != sorted(theirs):
        raise UsageError(
            f"{model.spec} is not the model of '{bundle.path}': its inputs are {', '.join(theirs)}, "
            f"the bundle's {', '.join(ours)}"
        )
    if model.kind in ("factory", "huggingface"):  # what the bundle takes; whether PyTorch does is for it to say
        shapes = {spec.name: spec.shape for spec in bundle.manifest.inputs}
        model.inputs = tuple(replace(spec, shape=shapes[spec.name]) for spec in model.inputs)
    settle(model, [f"{pair.output}={pair.input}" for pair in state if not pair.buffer] or [NONE])
    model.initial |= bundle.first_state()
    if model.kind in ("factory", "huggingface"):
        model.use_example(whole_example(model, frame))
    asked = [whole_example(model, feeds) for feeds in dataset.take(ASKED).feeds()]
    return model, reference_for(model, asked, choice, bundle.manifest.ignore)


def _values(inputs: Sequence[TensorSpec], flags: Sequence[str]) -> Feeds:
    """The inputs of which ``--input`` gives the value, at the bundle's dtype; a free dimension is 1."""
    if not flags:
        return {}
    from ..sources.flags import stated_values

    values = stated_values(flags)
    return {
        spec.name: np.full([size if isinstance(size, int) else 1 for size in spec.shape], values[spec.name], spec.dtype)
        for spec in inputs
        if spec.name in values
    }


def _recorded(bundle: Bundle, metric: str, data_sha256: str) -> tuple[float | None, str | None]:
    """The reference's value that export wrote into the manifest, if it was for this metric on these samples.

    Else None, and why.
    """
    recorded = bundle.manifest.metric
    if recorded is None or not isinstance(recorded.get("reference"), int | float):
        return None, "export recorded no metric"
    if recorded.get("name") != metric:
        return None, f"export recorded {recorded.get('name')}"
    if recorded.get("data_sha256") != data_sha256:
        return None, "export recorded it on other data"
    return float(recorded["reference"]), f"recorded at export, on the same {recorded.get('samples', '?')} samples"


def _bounds(interval: Estimate | None) -> dict[str, float] | None:
    return None if interval is None else {"low": interval.low, "high": interval.high}

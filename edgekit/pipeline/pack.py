"""The picked candidate → a bundle that has passed its own self-test."""

from __future__ import annotations

import inspect
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plugins
from ..accuracy.same_graph import same_graph_text
from ..bundle import EngineUse, Manifest, Substitute, write_bundle
from ..bundle.readme import bundle_readme
from ..bundle.write import GoldenStream
from ..contracts import AppGlue, Embeddable, Feeds, PassRecord, Runtime, Tolerance, options_from
from ..errors import TakenError
from ..facts import install_on
from ..measure.engines import installed_version
from ..measure.parity import Parity
from ..measure.stream import shown_outputs
from ..plain import plain, readable
from ..results import ParityReport, ReferenceReport
from ..target.profile import machine
from ..units import example_input, metric_title
from ..units import latency as shown
from ..version import __version__
from .assess import Assessed, why_not_measured
from .job import GOLDEN_SAMPLES, GOLDEN_STEPS, Built, Check

if TYPE_CHECKING:
    from ..accuracy.rollout import Rollout
    from ..analysis.observed import Observed
    from .race import Contender
    from .site import Site

GOLDEN_MARGIN_DB = 6.0
"""The self-test allows twice the error measured here: other CPUs add numbers up in another order."""
MAX_GOLDEN_DB = 100.0
"""No self-test asks for more than float32 holds on every machine; equal outputs would have an infinite ratio here."""
_MAKERS = (
    "torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn", "openvino",
    "nncf", "transformers", "numpy",
)  # fmt: skip
"""Distributions whose versions the manifest tells."""


def pack_bundle(
    picked: Assessed,
    finalists: Sequence[Contender],
    shared_passes: Sequence[PassRecord],
    destination: Path,
    overwrite: bool,
    observed: Observed | None = None,
) -> tuple[Path, str, TakenError | None]:
    """Write the bundle and run its self-test, in a fresh process, before it appears at ``destination``.

    Args:
        picked: the candidate; was built and checked.
        finalists: what was measured to the end, the best first; empty where nothing was measured here.
        shared_passes: records of the passes that every candidate shares.
        destination: the bundle's folder.
        overwrite: replace a bundle that is there.
        observed: what the float graph made of the calibration data; None: nothing was calibrated.

    Returns:
        Where the bundle is, the line its self-test printed, and why it is not at ``destination``: another made that
        while this ran.

    Raises:
        ParityError: the bundle's self-test failed.
        OutputError: ``destination`` cannot be written.
    """
    built, outcome = picked.built, picked.check
    assert built is not None and outcome is not None, "a picked candidate was built and checked"
    measured = next((item for item in finalists if item.built is built), None)
    variant, job, toolchain = built.variant, built.variant.job, picked.toolchain
    runtime, runtime_class, facts = toolchain.runtime, toolchain.runtime_class, toolchain.runtime_facts
    golden = job.expected.first(GOLDEN_SAMPLES)
    emulator = job.emulator_of(toolchain)
    parity = outcome.parity
    options = dict(measured.options if measured else picked.options or {})
    glue = _glue(runtime, built, options)
    install = install_on(runtime, job.target.device_arch())
    other = built.stand_in
    other_class = None if other is None else plugins.load("runtimes", other.runtime)
    substitute = None
    if other is not None and other_class is not None:
        reason = why_not_measured(picked) or ""
        substitute = Substitute(other.runtime, other.version, other_class.install, reason, other.options)
    manifest = Manifest(
        name=readable(destination.name.removesuffix(".edgekit")),
        target=job.target.name,
        arch=job.target.arch,
        precision=built.precision,
        runtime=EngineUse(
            name=runtime.name,
            version=picked.version,
            options=options,
            install=glue.install or install,
        ),
        artifact_file=f"model/{built.artifact.path.relative_to(built.directory).as_posix()}",
        artifact_format=built.artifact.format,
        inputs=built.artifact.inputs,
        outputs=built.artifact.outputs,
        placement=dict(picked.placement or {}),
        parity={**parity.to_json(), **_emulated(outcome, emulator)},
        metric=outcome.metric.to_json() if outcome.metric else None,
        passes=built.records if toolchain.takes_program else (*shared_passes, *built.records),
        source=plain(
            {
                **variant.source.to_json(),
                "candidate": picked.candidate.name,
                "export": dict(built.info),
                **_reference(job.expected.report),
            }
        ),
        calibration=_calibration(picked, observed),
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        checked_with=substitute,
        ignore=job.ignore,
        unverified=picked.unverified,
        state=variant.source.state,
    )
    tested: list[str] = []
    write = partial(
        write_bundle,
        destination,
        manifest=manifest,
        model_dir=built.directory,
        golden=[(sample.feeds, sample.expected) for sample in golden],
        golden_tolerance=_golden_tolerance(outcome.golden, parity.tolerance),
        stream=_golden_stream(job.rollout, outcome, variant.source.initial),
        readme=bundle_readme(
            name=manifest.name,
            target=job.target.name,
            engine=f"{runtime.name} {manifest.runtime.version}".rstrip(),
            install=manifest.runtime.install,
            precision=built.precision,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            parity=_parity_line(picked, built, emulator),
            measured=_measured_line(measured, picked, emulator, job.site),
            substitute=substitute,
            note=facts.note if install == runtime.install else "",
            device=facts.on_the_device,
            app=glue.readme,
            state=manifest.state,
        ),
        runtime_module_file=Path(inspect.getfile(runtime_class)),
        runtime_class=runtime_class.__qualname__,
        substitute_module_file=None if other_class is None else Path(inspect.getfile(other_class)),
        layers=_layers(built),
        app=glue.files,
        overwrite=overwrite,
        check=lambda written: tested.append(job.site.self_test(written.path, substitute=other is not None)),
    )
    try:
        write()
    except TakenError as taken:
        return taken.kept, tested[0], taken
    return destination, tested[0], None


def _calibration(picked: Assessed, observed: Observed | None) -> dict[str, Any] | None:
    assert picked.built is not None
    job, source = picked.built.variant.job, picked.built.variant.source
    data = job.calibration
    if data is None or not (job.real or picked.toolchain.needs_calibration):
        return None
    warnings = observed.warnings if observed else []
    if not job.real:
        warnings = [f"no data: the ranges are of {example_input(source.made_up)} alone"]
    found: dict[str, Any] = plain({"data": data.spec, "samples": len(data), "warnings": warnings, "real": job.real})
    return found


def _glue(runtime: Runtime, built: Built, options: Mapping[str, Any]) -> AppGlue:
    if not isinstance(runtime, Embeddable):
        return AppGlue({}, "")
    return runtime.app_glue(
        built.artifact, options_from(runtime.Options, options, f"options of runtime '{runtime.name}'")
    )


def _layers(built: Built) -> bytes:
    """Of the artifact's own graph; where its format is not ONNX, of the graph it was converted from."""
    import onnx_ir as ir

    from ..analysis.layers import layers_json

    model = ir.load(built.artifact.path) if built.artifact.path.suffix == ".onnx" else built.variant.graph
    return layers_json(model, built.variant.job.expected.first(1)[0].feeds)


def _golden_stream(rollout: Rollout | None, outcome: Check, initial: Feeds) -> GoldenStream | None:
    """The first steps of the reference's stream; without a rollout only what the state begins with."""
    begins = rollout.initial if rollout is not None else initial
    nonzero = {name: array for name, array in begins.items() if np.any(array) or not array.size}
    if rollout is None or outcome.golden_steps is None:
        return GoldenStream((), Tolerance(), nonzero) if nonzero else None
    steps = []
    for sample in rollout.expected.first(GOLDEN_STEPS):
        shown = shown_outputs(list(sample.expected), rollout.pairs)
        steps.append((rollout.frame(sample.feeds), {name: sample.expected[name] for name in shown}))
    tolerance = _golden_tolerance(outcome.golden_steps, outcome.parity.tolerance)
    return GoldenStream(steps, tolerance, nonzero)


def _golden_tolerance(measured: Parity, allowed: Tolerance) -> Tolerance:
    """What the self-test holds: twice the error measured on the golden samples, or the target's bound if wider."""
    whole = min(measured.sqnr_db - GOLDEN_MARGIN_DB, _as_sqnr_db(allowed), MAX_GOLDEN_DB)
    part = min(
        measured.part_db - GOLDEN_MARGIN_DB, MAX_GOLDEN_DB, math.inf if allowed.part_db is None else allowed.part_db
    )
    return Tolerance(sqnr_db=whole, part_db=part)


def _as_sqnr_db(tolerance: Tolerance) -> float:
    """The weakest SQNR in dB that a tolerance allows: SQNR = −20·log10(relative L2), from their definitions."""
    bounds = [] if tolerance.sqnr_db is None else [tolerance.sqnr_db]
    if tolerance.rel_l2 is not None:
        bounds.append(-20 * math.log10(tolerance.rel_l2) if tolerance.rel_l2 > 0 else math.inf)
    return min(bounds, default=math.inf)


def _reference(report: ReferenceReport | None) -> dict[str, Any]:
    """Who made the reference's outputs, and who was asked besides."""
    return {"reference": report.to_json()} if report else {}


def _emulated(outcome: Check, emulator: str | None) -> dict[str, Any]:
    """What the manifest tells of the parity where an emulator stood for the device."""
    if emulator is None:
        return {}
    same = outcome.same_graph
    return {"emulated": emulator, "same_graph": same.to_json() if same else None}


def _worst(parity: ParityReport) -> str:
    return f"; the worst part: {parity.worst}" if parity.worst and math.isfinite(parity.part_db) else ""


def _parity_line(picked: Assessed, built: Built, emulator: str | None) -> str:
    assert picked.check is not None
    parity, metric = picked.check.parity, picked.check.metric
    text = (
        f"Checked against {parity.reference} on {parity.samples} samples: "
        f"relative L2 error {parity.rel_l2:.2g} (SQNR {parity.sqnr_db:.1f} dB{_worst(parity)})."
    )
    if metric:
        title = metric_title(metric.name, metric.compared_with)
        text += f" {title}: {metric.value:.4f} (reference {metric.reference:.4f})."
    if picked.unverified:
        text += f" **Unverified** ({picked.unverified}): what it loses on real inputs is not known."
    stand_in = built.stand_in
    if stand_in is not None:
        text += f" Checked with {stand_in.runtime} {stand_in.version} on {machine()}, not in the engine itself."
    elif emulator:
        same = picked.check.same_graph
        text += f" Verified on the emulator ({emulator}), not on the device"
        text += f": {same_graph_text(same)}." if same else "."
    elif not built.variant.job.site.is_device:
        text += f" Checked on {machine()}, not on the device."
    return text


def _measured_line(measured: Contender | None, picked: Assessed, emulator: str | None, site: Site) -> str:
    if emulator:
        return "Verified on the emulator; latency needs a device, so none was measured, and `run.py bench` refuses to."
    if measured is None:
        return f"Latency was not measured: {why_not_measured(picked)}."
    latency = measured.latency()
    device, told = site.facts, measured.in_force
    name = ", ".join(filter(None, (device["board"] or device["cpu"] or device["machine"], device.get("browser"))))
    where = told.get("gpu") or f"{name}, {told.get('threads')} threads"
    return (
        f"{'Measured where it was exported' if site.is_here else 'Measured on the device'} "
        f"({where}): p50 {shown(latency.p50_s.value)} "
        f"(95 % interval {shown(latency.p50_s.low)} to {shown(latency.p50_s.high)}, "
        f"{latency.n} runs in {latency.processes} processes)."
    )


def _versions() -> dict[str, str]:
    """Versions of what made the bundle; those not installed are left out."""
    found = {"edgekit": __version__, "python": platform.python_version()}
    for name in _MAKERS:
        version = installed_version(name)
        if version is not None:
            found[name] = version
    return found

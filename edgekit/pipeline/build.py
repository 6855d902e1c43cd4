"""One candidate: built from the shared graph, opened in its own engine, and checked against the reference there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import plugins
from ..accuracy.same_graph import write_plain
from ..contracts import PassRecord, options_from
from ..graph import clone
from ..target.needs import takes_program
from ..target.profile import Candidate
from .job import Built, Job
from .stages import run_passes

if TYPE_CHECKING:
    import onnx_ir as ir


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

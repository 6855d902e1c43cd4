"""One candidate: built from the shared graph, opened in its own engine, and checked against the reference there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..accuracy.same_graph import write_plain
from ..contracts import PassRecord
from ..graph import clone
from ..target.toolchain import Toolchain
from .job import Built, NotBuilt, Variant
from .stages import run_passes

if TYPE_CHECKING:
    import onnx_ir as ir


def build(
    toolchain: Toolchain, variant: Variant, keep_float: frozenset[str] = frozenset(), tag: str = ""
) -> Built | NotBuilt:
    """Run the candidate's passes on a clone of the variant's graph and write its artifact.

    Candidates that differ in session options alone share one artifact. `NotBuilt`: it would be no different from the
    plain graph, or from another candidate.

    Raises:
        EngineError: the engine or its converter is missing or refuses the graph.
    """
    candidate, job, source = toolchain.candidate, variant.job, variant.source
    recipe = repr((candidate.runtime, candidate.format, candidate.passes, candidate.export_options, sorted(keep_float)))
    if recipe in variant.built:
        twin = variant.built[recipe]
        return replace(twin, toolchain=toolchain, artifact=replace(twin.artifact, precision=candidate.precision))
    context = variant.pass_context(candidate.runtime, keep_float)
    exporter, options = toolchain.exporter, toolchain.export_options()
    directory = job.workdir / f"{candidate.name.replace(' ', '-')}{tag}"
    records: tuple[PassRecord, ...] = ()
    model: ir.Model | None = None
    if toolchain.takes_program:
        if source.program is None:
            return NotBuilt(f"{exporter.name} converts PyTorch programs, and {source.spec} has none")
        directory.mkdir()
        artifact, info = exporter.write_program(source, directory, candidate.precision, options, context)
    else:
        model, records = run_passes(clone(variant.graph), toolchain.steps, context)
        if records and not any(record.modified for record in records):
            return NotBuilt("; ".join(record.detail for record in records))
        directory.mkdir()
        artifact, info = exporter.write(model, directory, candidate.precision, options, context)
    artifact = replace(artifact, state=source.state)
    operators = frozenset(node.op_type for graph in model.graphs() for node in graph) if model else frozenset()
    size_bytes, digest = _weigh(directory)
    built = Built(variant, toolchain, artifact, directory, records, info, keep_float, size_bytes, operators, digest)
    for other in variant.built.values():
        same = other.digest == digest and other.candidate.runtime == candidate.runtime and bool(records)
        if same and (other.candidate.options, other.candidate.tune) == (candidate.options, candidate.tune):
            return NotBuilt(f"no different from candidate '{other.candidate.name}': {records[-1].detail}")
    if model is not None and job.emulator_of(toolchain):
        plain, steps = write_plain(model, directory.with_name(f"{directory.name}-plain"), candidate.precision, context)
        built = replace(built, plain=plain, steps=steps)
    variant.built[recipe] = built
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

"""Parity with the reference: the outputs in the target's own engine, then layer by layer to the first that diverges."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..contracts import Array, Artifact, Feeds, Outputs, Runtime, Tolerance
from ..errors import EngineError
from ..graph import clone, module_path
from ..measure.ignore import IgnoreWhere, blank
from ..measure.parity import OutputParity, Parity, ParityMeter
from .expose import add_outputs, expose
from .reference import reference_for, values_of
from .walk import Divergence, Walk

if TYPE_CHECKING:
    from ..sources.source import Source


def first_divergence(
    source: Source,
    graph: ir.Model,
    artifact: Artifact,
    runtime: Runtime,
    options: Any,
    feeds: Feeds,
    tolerance: Tolerance,
    expected: Outputs | None = None,
    ignore: Sequence[IgnoreWhere] = (),
) -> Divergence | None:
    """Walk the layers of ``artifact`` in its own engine and name the first that diverges; None where no output misses.

    A tensor's error is its rel_l2 over this one sample. It *diverges* where that is over the limit: the tolerance's
    rel_l2, or 10^(−sqnr_db/20), whichever is stricter; a tolerance that states only max_abs allows that fraction of the
    largest output. Of the diverging tensors only those count whose error lives on, tensor by tensor, up to an output
    that misses; the first of them in the graph's order is where the error crosses the limit. If it at least doubles
    (`GROWTH`) the error of its inputs, its layer is the answer. If not, the error grew gradually, as quantization noise
    does, and the answer is the layer at or above it that adds the most, with a note that says so.

    The expected values are those of the float graph in unoptimised ONNX Runtime (or `onnx.reference`). If that graph
    itself differs from PyTorch, the export is at fault: then its modules are compared with PyTorch's.

    Args:
        source: what the user named.
        graph: the float graph that the artifact was made from; its nodes tell their PyTorch modules.
        artifact: what the engine loads. Its tensors are matched with the graph's by name.
        runtime: the engine, with ``options`` for its session.
        options: an instance of ``runtime.Options``.
        feeds: one sample.
        tolerance: what was missed.
        expected: the reference's outputs for the sample; None: it is run here.
        ignore: what nobody reads, of the outputs and of every value that begins with a mask's dimensions.

    Raises:
        SourceError: no reference can run the graph.
        EngineError: the engine does not run the artifact.
    """
    if expected is None:
        expected = reference_for(source).run(feeds)
    session = runtime.open(artifact, options)
    missed = _missed(expected, blank(ignore, feeds, session.run(feeds)), tolerance)
    session.close()
    if not missed:
        return None
    names = [value.name for node in graph.graph for value in node.outputs if value.name]
    with tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True) as folder:
        reference, wanted = _float_values(graph, names, feeds, Path(folder))
        limit = _limit(tolerance, expected)
        walk = Walk(graph.graph, reference, limit, tuple(missed))
        float_outputs = {name: wanted[name] for name in expected if name in wanted}
        at_fault = _missed(expected, blank(ignore, feeds, float_outputs), tolerance)
        if source.kind != "onnx" and at_fault:
            return _export_divergence(source, walk, wanted, feeds) or walk.at_output(missed, _ONLY_AT_THE_END)
        try:
            got = _engine_values(artifact, runtime, options, names, feeds, Path(folder))
        except EngineError as error:
            return walk.at_output(missed, f"its layers cannot be looked into: {error.what}")
    everywhere = [replace(rule, outputs=tuple(names)) for rule in ignore]
    wanted, got = blank(everywhere, feeds, wanted), blank(everywhere, feeds, got)
    errors = {name: _error(wanted[name], got[name]) for name in names if name in wanted and name in got}
    return walk.first(errors) or walk.at_output(missed, _ONLY_FUSED)


_ONLY_FUSED = (
    "with every layer's output exposed the error is gone, so it comes from how the engine fuses layers: "
    "try it with fewer graph optimizations"
)
_ONLY_AT_THE_END = "no module's output differs from PyTorch's, so the fault lies in the model's own forward"


def _missed(expected: Outputs, got: Outputs, tolerance: Tolerance) -> dict[str, OutputParity]:
    """The outputs that miss the tolerance."""
    meter = ParityMeter()
    meter.add(expected, got)
    outputs = meter.result().outputs
    return {name: item for name, item in outputs.items() if Parity({name: item}, 1).misses(tolerance)}


def _limit(tolerance: Tolerance, expected: Outputs) -> float:
    bounds = []
    if tolerance.rel_l2 is not None:
        bounds.append(tolerance.rel_l2)
    if tolerance.sqnr_db is not None:
        bounds.append(10.0 ** (-tolerance.sqnr_db / 20.0))
    if not bounds and tolerance.max_abs is not None:
        largest = max(
            (float(np.max(np.abs(item), initial=0.0)) for item in expected.values() if _numeric(item)), default=0
        )
        bounds.append(tolerance.max_abs / largest if largest else 0.0)
    return min(bounds, default=0.0)


def _numeric(array: Array) -> bool:
    return array.dtype.kind in "biuf"


def _float_values(graph: ir.Model, names: list[str], feeds: Feeds, directory: Path) -> tuple[str, dict[str, Array]]:
    """Every value of the float graph, and who computed it."""
    exposed = clone(graph)
    found = add_outputs(exposed, set(names))
    path = directory / "float.onnx"
    ir.save(exposed, path, external_data="float.onnx.data")
    reference, values = values_of(path, feeds)
    return reference, {name: values[output] for name, output in found.items()}


def _engine_values(
    artifact: Artifact, runtime: Runtime, options: Any, names: list[str], feeds: Feeds, directory: Path
) -> dict[str, Array]:
    """Those of the named values that the artifact still has, as its engine computes them."""
    exposed, found = expose(artifact, names, directory)
    session = runtime.open(exposed, options)
    try:
        values = session.run(feeds)
    finally:
        session.close()
    return {name: values[output] for name, output in found.items() if output in values}


def _error(want: Any, got: Any) -> float:
    """rel_l2 whatever the float type, as half-precision graphs hold the same values in other types."""
    if not isinstance(want, np.ndarray) or not isinstance(got, np.ndarray):
        return 0.0  # sequences and optionals: what is in them is compared where it is made
    meter = ParityMeter()
    if want.dtype != got.dtype and want.dtype.kind in "fV" and got.dtype.kind in "fV":
        want, got = want.astype(np.float64), got.astype(np.float64)
    meter.add({"": want}, {"": got})
    return meter.result().rel_l2


def _export_divergence(source: Source, walk: Walk, values: Mapping[str, Array], feeds: Feeds) -> Divergence | None:
    """The first module whose output in PyTorch is none of the values that its nodes compute in the float graph.

    A module's output may be any of them (a module that returns a pair computes the second after the first), so the
    nearest of the same shape is taken. A module that ran twice, or whose nodes are gone, is passed over.
    """
    layers = list(source.layers(feeds))
    paths = [path for path, _ in layers]
    for path, want in layers:
        if paths.count(path) > 1:
            continue
        near = [
            (_error(want, values[name]), node, name)
            for node in walk.graph
            if module_path(node) == path or module_path(node).startswith(f"{path}.")
            for name in (value.name or "" for value in node.outputs)
            if name in values and np.shape(values[name]) == want.shape
        ]
        if not near:
            continue
        error, node, name = min(near, key=lambda item: item[0])
        if error > walk.limit:
            note = (
                f"the ONNX graph, run by {walk.reference}, differs from PyTorch: the export or a graph pass is at fault"
            )
            return Divergence(path, node.name or "", node.op_type, name, error, 0.0, walk.limit, "PyTorch", note)
    return None

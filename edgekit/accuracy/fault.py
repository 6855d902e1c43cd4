"""Where float32 itself misses: whose fault it is, the reference's, the export's or the engine's.

A third party decides: the float graph in ONNX Runtime with every optimization off, which shares no fused kernel with
the engine under test and no code with the reference.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .. import units
from ..contracts import Artifact
from ..errors import EdgekitError
from ..measure.parity import ParityMeter
from ..runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import onnx_ir as ir

    from .expected import ReferenceRun

SAMPLES = 8
AGREE_DB = 60.0
"""Two float32 implementations of one graph agree to at least this: the targets' bound, a relative L2 of 1e-3."""


def fault_of(graph: ir.Model, expected: ReferenceRun, from_onnx: bool, workdir: Path) -> str:
    """One line on what is at fault where a float32 engine missed the reference.

    Args:
        graph: the float graph that the engine was given.
        expected: the samples, with the reference's answers.
        from_onnx: the source is an ONNX file, so that the graph is right by definition.
        workdir: an existing folder for a temporary file.
    """
    try:
        third_db = _third_party_db(graph, expected, workdir)
    except EdgekitError as error:
        return f"whether the engine, the export or the reference is wrong is not known ({error.what})"
    if third_db >= AGREE_DB:
        return f"the engine is at fault, for ONNX Runtime without optimization agrees with {expected.name}"
    apart = f"ONNX Runtime without optimization, too, is {units.decibels(third_db)} from {expected.name}"
    return f"the {'reference' if from_onnx else 'export'} is suspect, for {apart}"


def _third_party_db(graph: ir.Model, expected: ReferenceRun, workdir: Path) -> float:
    """How far the graph as it stands is from the reference, in dB over the first `SAMPLES`.

    Raises:
        EngineError: ONNX Runtime is missing, or refuses the graph or a sample.
    """
    import onnx_ir as ir

    meter = ParityMeter()
    with tempfile.TemporaryDirectory(prefix="edgekit-", dir=workdir, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "float.onnx"
        ir.save(graph, path, external_data="float.onnx.data")
        runtime = OnnxRuntime()
        session = runtime.open(Artifact(path, "onnx", "fp32", (), ()), runtime.Options(optimization="none"))
        for sample in expected.first(SAMPLES):
            meter.add(sample.expected, session.run(sample.feeds))
        session.close()
    return meter.result().sqnr_db

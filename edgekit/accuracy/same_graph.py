"""An emulated engine against ONNX Runtime on the CPU, over one and the same graph: what the engine itself adds.

Parity with PyTorch holds the error of quantization and of the engine in one number. Here both sides compute the same,
so what is left is the engine's own, and it is small: a rounding step or two where the engine computes the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import plugins, units
from ..contracts import Artifact, Feeds, Outputs
from ..measure.parity import ParityMeter
from ..results import SameGraph
from ..runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..context import PassContext


class SameGraphCheck:
    """Compares outputs with those of the plain ONNX file, run on the CPU as it is written: no fusion, no rounding away.

    Args:
        artifact: the graph as an ONNX file.
        steps: output → the step of its quantization, for those that have one.
    """

    def __init__(self, artifact: Artifact, steps: Mapping[str, float]) -> None:
        runtime = OnnxRuntime()
        self._session = runtime.open(artifact, OnnxRuntime.Options(optimization="none"))
        self._name = f"ONNX Runtime {runtime.version()} on the CPU, node by node"
        self._steps = steps
        self._meter = ParityMeter()

    def add(self, feeds: Feeds, got: Outputs) -> None:
        """Run the plain graph on a sample and compare."""
        self._meter.add(self._session.run(feeds), got)

    def result(self) -> SameGraph:
        """Over all samples so far."""
        parity = self._meter.result()
        lsb = [row.max_abs / self._steps[name] for name, row in parity.outputs.items() if name in self._steps]
        return SameGraph(self._name, parity.samples, parity.max_abs, parity.sqnr_db, max(lsb, default=None))


def write_plain(
    model: ir.Model, directory: Path, precision: str, context: PassContext
) -> tuple[Artifact, dict[str, float]]:
    """The graph as ONNX in ``directory`` (made), and the quantization steps of its outputs."""
    exporter = plugins.load("exporters", "onnx")()
    directory.mkdir()
    artifact, _ = exporter.write(model, directory, precision, exporter.Options(), context)
    return artifact, output_steps(model)


def output_steps(model: ir.Model) -> dict[str, float]:
    """Output → the scale of the DequantizeLinear that computes it, where one with a single scale does."""
    import onnx_ir as ir

    found: dict[str, float] = {}
    for value in model.graph.outputs:
        node = value.producer()
        if node is None or node.op_type != "DequantizeLinear" or node.inputs[1] is None:
            continue
        scale = ir.convenience.get_const_tensor(node.inputs[1])
        if scale is not None and value.name and scale.size == 1:
            found[value.name] = float(np.asarray(scale.numpy(), np.float64).reshape(()))
    return found


def same_graph_text(same: SameGraph) -> str:
    """``1 step from ONNX Runtime 1.32.0 on the CPU over the same graph (24 samples)``."""
    if same.max_lsb is not None:
        far = f"at most {units.number(same.max_lsb)} steps of the output's quantization"
    else:
        far = f"{units.decibels(same.sqnr_db)}, max abs {units.number(same.max_abs)}"
    return f"{far} from {same.reference}, over the same graph ({same.samples} samples)"

"""An emulated engine against ONNX Runtime on the CPU, over one and the same graph: what the engine itself adds.

Parity with PyTorch holds the error of quantization and of the engine in one number. Here both sides compute the same,
so what is left is the engine's own, and it is small: a rounding step or two where the engine computes the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plugins
from .contracts import Artifact, Emulated, Feeds, Outputs
from .measure.parity import ParityMeter
from .runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import onnx_ir as ir

    from .passes import PassContext


@dataclass(frozen=True, slots=True)
class SameGraph:
    """How far an engine is from ONNX Runtime's CPU kernels on the same graph, the worst output over all samples."""

    reference: str  # "ONNX Runtime 1.32.0 on the CPU, node by node"
    samples: int
    max_abs: float
    sqnr_db: float
    max_lsb: float | None  # max_abs in steps of the output's own quantization; None: the outputs are not quantized

    def to_json(self) -> dict[str, Any]:
        """As in `export --json`; an infinite SQNR (equal outputs) is null."""
        return {**asdict(self), "sqnr_db": self.sqnr_db if np.isfinite(self.sqnr_db) else None}


def emulator_of(runtime: str) -> str | None:
    """What stands for a runtime's device on this machine; None: the device itself, or the runtime does not tell."""
    adapter = plugins.load("runtimes", runtime)()
    return adapter.emulator() if isinstance(adapter, Emulated) else None


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

"""A copy of an artifact that also outputs the tensors between its layers.

Exposing a tensor may keep an engine from fusing the layers around it, so what is seen is close to what runs, not equal.
Where a tensor is quantized and dequantized right after, its dequantized form is exposed: that is what later layers see,
and exposing it leaves the engine's integer kernels in place.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..contracts import Artifact, TensorSpec
from ..errors import EngineError


def expose(artifact: Artifact, wanted: Collection[str], directory: Path) -> tuple[Artifact, dict[str, str]]:
    """Write a copy of ``artifact`` into ``directory`` with the ``wanted`` tensors, where it has them, as outputs too.

    Returns:
        The copy, and wanted name → the output that holds it.

    Raises:
        EngineError: the format is not one that edgekit can look into.
    """
    if artifact.format == "onnx":
        return _expose_onnx(artifact, wanted, directory)
    if artifact.format == "openvino-ir":
        return _expose_openvino(artifact, wanted, directory)
    raise EngineError(f"edgekit cannot look into the layers of a '{artifact.format}' artifact")


def _expose_onnx(artifact: Artifact, wanted: Collection[str], directory: Path) -> tuple[Artifact, dict[str, str]]:
    model = ir.load(artifact.path)
    found = add_outputs(model, wanted)
    path = directory / "model.onnx"
    ir.save(model, path, external_data="model.onnx.data")
    return _with_outputs(artifact, path, found), found


def add_outputs(model: ir.Model, wanted: Collection[str]) -> dict[str, str]:
    """Make the ``wanted`` values of the main graph outputs of ``model``; wanted name → name of the output."""
    outputs = {value.name for value in model.graph.outputs}
    found: dict[str, str] = {}
    for node in model.graph:
        for value in node.outputs:
            if value.name is None or value.name not in wanted:
                continue
            seen = value if value.name in outputs else _dequantized(value)
            if seen.name is None or not _is_tensor(seen):
                continue
            found[value.name] = seen.name
            if seen.name not in outputs:
                outputs.add(seen.name)
                model.graph.outputs.append(seen)
    return found


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


def _dequantized(value: ir.Value) -> ir.Value:
    for quantize in value.consumers():
        if quantize.op_type == "QuantizeLinear":
            for dequantize in quantize.outputs[0].consumers():
                if dequantize.op_type == "DequantizeLinear":
                    return dequantize.outputs[0]
    return value


def _expose_openvino(artifact: Artifact, wanted: Collection[str], directory: Path) -> tuple[Artifact, dict[str, str]]:
    import openvino as ov

    model = ov.Core().read_model(artifact.path)
    outputs = {name for port in model.outputs for name in port.names}
    found: dict[str, str] = {}
    ports: list[Any] = []
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Parameter", "Constant", "Result"):
            continue
        for port in node.outputs():
            for name in sorted(port.names & set(wanted)):
                if name in outputs:
                    found[name] = name
                    continue
                seen = _fake_quantized(port)
                if seen is not port:
                    seen.get_tensor().set_names({f"{name}/quantized"})
                found[name] = min(seen.names)
                ports.append(seen)
    model.add_outputs(list(dict.fromkeys(ports)))
    path = directory / "model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return _with_outputs(artifact, path, found), found


def _fake_quantized(port: Any) -> Any:
    for target in port.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "FakeQuantize" and target.get_index() == 0:
            return node.output(0)
    return port


def _with_outputs(artifact: Artifact, path: Path, found: dict[str, str]) -> Artifact:
    known = {spec.name for spec in artifact.outputs}
    extra = dict.fromkeys(name for name in found.values() if name not in known)
    # Dtype and shape are the engine's to tell; a session reads the names only.
    outputs = (*artifact.outputs, *(TensorSpec(name, "float32", ()) for name in extra))
    return Artifact(path, artifact.format, artifact.precision, artifact.inputs, outputs)

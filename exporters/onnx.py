"""Graph → ``model.onnx``, with its weights beside it in ``model.onnx.data`` where they are large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..context import PassContext
from ..contracts import Artifact
from ..errors import OutputError, SourceError
from ..graph import MODULE_PATH, all_graphs, clone, initializer_bytes, specs
from ..version import __version__

FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

# A protobuf message ends at 2 GiB; the graph itself needs room in it too.
_PROTOBUF_BYTES = 1_500_000_000
# Shapes, axes and scales stay in the file: engines read them while they load the graph, before any external data.
_INLINE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How the file is laid out.

    Args:
        external_data_above_bytes: weights of more than this go to ``model.onnx.data``, which engines map into memory
            instead of parsing it. At most 1.5 GB, as protobuf ends at 2 GiB.
    """

    external_data_above_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.external_data_above_bytes <= _PROTOBUF_BYTES:
            raise ValueError(
                f"'external_data_above_bytes' must lie in 0..{_PROTOBUF_BYTES}, got {self.external_data_above_bytes}"
            )


class OnnxFile:
    """Writes ``model.onnx``. Equal graphs give equal bytes."""

    name = "onnx"
    format = "onnx"
    Options = FileLayout

    def write(
        self, model: ir.Model, directory: Path, precision: str, options: FileLayout, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """Write ``model.onnx``, and ``model.onnx.data`` where the weights are large, into ``directory``.

        Documentation strings and the exporter's own metadata stay behind; `MODULE_PATH` goes along, because it is how a
        node is named to the user at run time. The graph is left as it was.

        Raises:
            SourceError: an initializer without a value, or an input or output without a dtype or rank.
            OutputError: the folder cannot be written to, or is full.
        """
        inputs, outputs = specs(model)
        size = initializer_bytes(model, larger_than=_INLINE_BYTES)
        external = size > options.external_data_above_bytes
        lean = _lean(model)
        lean.ir_version = _ir_version(lean)
        path = directory / FILE
        try:
            if external:
                ir.save(lean, path, external_data=DATA_FILE, size_threshold_bytes=_INLINE_BYTES)
            else:
                _load_weights(lean)
                ir.save(lean, path)
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
        info = {
            "opset": lean.opset_imports.get("", 0),
            "ir_version": lean.ir_version,
            "weight_bytes": initializer_bytes(model),
            "external_data": external,
        }
        return Artifact(path, self.format, precision, inputs, outputs), info


def _lean(model: ir.Model) -> ir.Model:
    """A copy without what no engine reads."""
    lean = clone(model)
    lean.producer_name, lean.producer_version, lean.doc_string = "edgekit", __version__, None
    lean.graph.name = lean.graph.name or "model"  # the format wants one
    for graph in all_graphs(lean):
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            _strip(value)
        for node in graph:
            node.doc_string = None
            module = node.metadata_props.get(MODULE_PATH)
            node.metadata_props.clear()
            if module:
                node.metadata_props[MODULE_PATH] = module
            for value in node.outputs:
                _strip(value)
        missing = [name for name, value in graph.initializers.items() if value.const_value is None]
        if missing:
            raise SourceError(f"the graph holds initializers without a value: {', '.join(missing)}")
    # What has a default that nobody feeds is a constant; engines fold only what is not an input.
    for value in [value for value in lean.graph.inputs if value.name in lean.graph.initializers]:
        lean.graph.inputs.remove(value)
    return lean


def _strip(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()


def _load_weights(model: ir.Model) -> None:
    """Replace tensors that lie in another model's external data by tensors in memory."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=value.name)


# Operator set → the first IR version of an onnx release that has it (onnx/docs/Versioning.md, "released versions").
_IR_OF_OPSET = ((28, 14), (25, 13), (24, 12), (23, 11))
# The first IR version with the type (onnx.proto, enum Version).
_IR_OF_DTYPE = {
    ir.DataType.FLOAT4E2M1: 11,
    ir.DataType.FLOAT8E8M0: 12,
    ir.DataType.INT2: 13,
    ir.DataType.UINT2: 13,
}


def _ir_version(model: ir.Model) -> int:
    """The lowest IR version that holds the model, because engines refuse what is newer than themselves.

    At least 10: it brought nodes' metadata and 4-bit integers, and every engine of 2024 and later reads it.
    """
    opset = model.opset_imports.get("", 0)
    needed = {next((version for first, version in _IR_OF_OPSET if opset >= first), 10)}
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)):
            if value.dtype is not None:
                needed.add(_IR_OF_DTYPE.get(value.dtype, 10))
    return max(needed)


PLUGIN = OnnxFile

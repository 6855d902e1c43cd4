"""Embedding tables as int8, one scale a row: four times smaller, and as fast, since only the rows asked for are read.

With s_r = max |W_r| / 127 and Q_r = round(W_r / s_r) for each row r of the table W:
``Gather(W, ids)`` becomes ``Cast(Gather(Q, ids)) · Gather(s, ids)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph import add_initializer
from . import Change, GraphPass
from ._rewriting import constant, int_of, is_onnx, main_nodes, replace, tensor_of


@dataclass(frozen=True, slots=True)
class Options:
    """What a target profile may state."""

    min_bytes: int = 1_000_000  # a smaller table is not worth two more nodes


class QuantizeEmbeddings(GraphPass):
    """Rewrite Gathers of whole rows from a large constant table. Needs no calibration data: weights are known."""

    name = "quantize_embeddings"
    Options = Options

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite every table that only row Gathers read; one that something else reads too stays in float."""
        tables: dict[ir.Value, None] = {}
        for node in main_nodes(model):
            table = node.inputs[0] if is_onnx(node, "Gather") else None
            if table is not None and self._is_large(table) and self._only_rows_are_read(table):
                tables[table] = None
        for table in tables:
            _quantize(table)
        return model, Change.of(
            len(tables),
            f"quantized {len(tables)} embedding table{'s' if len(tables) > 1 else ''}",
            f"no float32 embedding table of {self.options.min_bytes} bytes or more that only Gathers of rows read",
        )

    def _is_large(self, table: ir.Value) -> bool:
        tensor = tensor_of(table)
        return (
            tensor is not None
            and tensor.dtype == ir.DataType.FLOAT
            and len(tensor.shape) == 2
            and tensor.nbytes >= self.options.min_bytes
        )

    def _only_rows_are_read(self, table: ir.Value) -> bool:
        return not table.is_graph_output() and all(
            is_onnx(use.node, "Gather")
            and use.idx == 0
            and int_of(use.node, "axis", 0) == 0
            and use.node.name not in self.context.keep_float
            for use in table.uses()
        )


def _quantize(table: ir.Value) -> None:
    weights, graph = constant(table), table.graph
    assert weights is not None and isinstance(graph, ir.Graph)
    largest = np.abs(weights).max(axis=1, keepdims=True)  # [rows, 1]
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    rows = add_initializer(graph, f"{table.name}_int8", np.rint(weights / scale).astype(np.int8))
    scales = add_initializer(graph, f"{table.name}_scale", scale)
    for node in [use.node for use in table.uses()]:
        ids, output = node.inputs[1], node.outputs[0]
        name = node.name or output.name
        picked = ir.node("Gather", [rows, ids], name=name)
        cast = ir.node("Cast", picked.outputs, {"to": ir.DataType.FLOAT.value}, name=f"{name}_Cast")
        factors = ir.node("Gather", [scales, ids], name=f"{name}_scale")
        scaled = ir.node("Mul", [cast.outputs[0], factors.outputs[0]], name=f"{name}_Mul")
        for item in (picked, cast, factors):
            item.outputs[0].name = f"{item.name}_output"
        replace([node], [picked, cast, factors, scaled], output, scaled.outputs[0])


PLUGIN = QuantizeEmbeddings

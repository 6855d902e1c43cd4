"""Matrix products with constant weights: what dynamic and weight-only quantization work on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph import MODULE_PATH, add_initializer


@dataclass(frozen=True, slots=True)
class Linear:
    """``y = x · W (+ bias)``: a MatMul, or a Gemm that is one."""

    node: ir.Node
    transposed: bool  # whether the graph holds W as [out, in]
    bias: ir.Value | None = None

    def weights(self) -> NDArray[np.float32]:
        """W, [in, out]."""
        tensor = ir.convenience.get_const_tensor(self._weights())
        assert tensor is not None
        array: NDArray[np.float32] = tensor.numpy()
        return np.ascontiguousarray(array.T) if self.transposed else array

    def constant(self, graph: ir.Graph, suffix: str, array: NDArray[Any]) -> ir.Value:
        """Register ``array`` under the name of the weights."""
        return add_initializer(graph, f"{self._weights().name}_{suffix}", array)

    def replace(self, graph: ir.Graph, nodes: list[ir.Node]) -> None:
        """Put ``nodes`` in the node's place; the last one computes what it computed, before the bias."""
        result, output = nodes[-1].outputs[0], self.node.outputs[0]
        if self.bias is not None:
            nodes = [*nodes, ir.node("Add", [result, self.bias], name=f"{self.node.name}_bias")]
            nodes[-1].metadata_props.update(
                {MODULE_PATH: self.node.metadata_props[MODULE_PATH]} if MODULE_PATH in self.node.metadata_props else {}
            )
            result = nodes[-1].outputs[0]
        result.type, result.shape = output.type, output.shape
        graph.insert_before(self.node, nodes)
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        result.name = output.name
        graph.remove(self.node, safe=True)

    def _weights(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None
        return value


def linear_layers(
    model: ir.Model, op_types: tuple[str, ...], keep_float: frozenset[str]
) -> tuple[list[Linear], dict[str, list[ir.Node]]]:
    """The layers of the main graph, in its order, and those of ``op_types`` that are none, by reason."""
    layers: list[Linear] = []
    left: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type not in op_types or node.domain not in ("", "ai.onnx"):
            continue
        found = "asked for" if node.name in keep_float else _layer(node)
        if isinstance(found, Linear):
            layers.append(found)
        else:
            left.setdefault(found, []).append(node)
    return layers, left


def describe(layers: list[Linear], left: dict[str, list[ir.Node]], nothing: str) -> str:
    """``quantized 36 MatMul; left in float: 12 MatMul (no constant weights)``."""
    done = Counter(layer.node.op_type for layer in layers)
    text = "quantized " + ", ".join(f"{count} {op}" for op, count in done.most_common()) if done else nothing
    rest = [
        f"{count} {op} ({reason})"
        for reason, nodes in left.items()
        for op, count in Counter(n.op_type for n in nodes).items()
    ]
    return text + ("; left in float: " + ", ".join(rest) if rest else "")


def _layer(node: ir.Node) -> Linear | str:
    tensor = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
    if tensor is None:
        return "no constant weights"
    if tensor.dtype != ir.DataType.FLOAT:
        return f"{tensor.dtype.name.lower()} weights"
    if len(tensor.shape) != 2:
        return f"weights of rank {len(tensor.shape)}"
    if node.op_type == "MatMul":
        return Linear(node, transposed=False)
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    if values.get("alpha", 1.0) != 1 or values.get("beta", 1.0) != 1 or values.get("transA", 0):
        return "alpha, beta or transA is set"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Linear(node, transposed=bool(values.get("transB", 0)), bias=bias)

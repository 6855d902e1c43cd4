"""Fuse the formula of GELU into one ``Gelu`` node, however the exporter spelled it.

    erf form    y = ½·x·(1 + erf(x/√2))
    tanh form   y = ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))

https://onnx.ai/onnx/operators/onnx__Gelu.html
"""

from __future__ import annotations

import math

import onnx_ir as ir

from . import Change, GraphPass
from ._polynomial import Polynomial, ancestors, equals, polynomial
from ._rewriting import is_onnx, main_nodes, opset, replace, unique_names

# What the inner function is applied to, as a polynomial in x.
_INNER: dict[str, Polynomial] = {
    "Erf": {(1,): 1 / math.sqrt(2)},
    "Tanh": {(1,): math.sqrt(2 / math.pi), (3,): math.sqrt(2 / math.pi) * 0.044715},
}
# The whole, as a polynomial in x and f, the result of the inner function: ½·x + ½·x·f.
_OUTER: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}
_APPROXIMATE = {"Erf": "none", "Tanh": "tanh"}

# x may lie this many nodes before the inner function (tanh form: Mul, Add, Mul, Pow), and the result as many after.
_REACH = 6


class FuseGelu(GraphPass):
    """Fuse erf and tanh GELU into the standard operator of opset 20."""

    name = "fuse_gelu"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Fuse each occurrence."""
        found = [node for node in main_nodes(model) if is_onnx(node, *_INNER)]
        if not found:
            return model, Change(False, "the graph has no Erf and no Tanh")
        if opset(model) < 20:
            return model, Change(False, f"Gelu needs opset 20; the graph has opset {opset(model)}")
        fused = sum(map(_fuse, found))
        if fused:
            unique_names(model)
        return model, Change.of(fused, f"fused {fused} Gelu", f"none of {len(found)} Erf and Tanh is part of a GELU")


def _fuse(inner: ir.Node) -> bool:
    source, f = inner.inputs[0], inner.outputs[0]
    if source is None or inner.graph is None:
        return False
    for x in ancestors(source, _REACH):
        inside: set[ir.Node] = {inner}
        if not equals(polynomial(source, (x,), inside), _INNER[inner.op_type]):
            continue
        for result in _descendants(f):
            nodes = set(inside)
            if not equals(polynomial(result, (x, f), nodes), _OUTER) or not _private(nodes, result, inner.graph):
                continue
            gelu = ir.node("Gelu", [x], {"approximate": _APPROXIMATE[inner.op_type]}, name=inner.name)
            ordered = [node for node in inner.graph if node in nodes]
            replace(ordered, [gelu], result, gelu.outputs[0])
            return True
    return False


def _descendants(value: ir.Value) -> list[ir.Value]:
    """What is computed from ``value`` within reach, the nearest first."""
    found, layer = [], [value]
    for _ in range(_REACH):
        layer = [output for item in layer for use in item.uses() for output in use.node.outputs]
        found += layer
    return found


def _private(nodes: set[ir.Node], result: ir.Value, graph: ir.Graph) -> bool:
    """Whether nothing but ``result`` is read outside ``nodes``, which all lie in one graph."""
    return all(
        node.graph is graph
        and all(
            output is result or not (output.is_graph_output() or any(use.node not in nodes for use in output.uses()))
            for output in node.outputs
        )
        for node in nodes
    )


PLUGIN = FuseGelu

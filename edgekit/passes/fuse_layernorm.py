"""Fuse the steps of a layer normalization into one ``LayerNormalization`` node.

    m = mean(x)    d = x − m    v = mean(d²)    y = d / √(v + ε) · scale + bias

with both means over the same last axes, kept. https://onnx.ai/onnx/operators/onnx__LayerNormalization.html
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph import add_initializer
from . import Change, GraphPass
from ._rewriting import (
    constant,
    int_of,
    is_onnx,
    main_nodes,
    opset,
    rank_of,
    replace,
    scalar,
    single_user,
    unique_names,
)

# LayerNormalization computes in float32 whatever the type of x, so float64 would lose digits.
_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class FuseLayerNorm(GraphPass):
    """Fuse layer normalizations written out in single steps into the standard operator of opset 17."""

    name = "fuse_layernorm"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Fuse each occurrence."""
        found = [node for node in main_nodes(model) if is_onnx(node, "Sqrt") or _is_reciprocal_root(node)]
        candidates = [norm for root in found if (norm := _match(root)) is not None]
        if not candidates:
            return model, Change(False, "no layer normalization is written out in single steps")
        if opset(model) < 17:
            return model, Change(False, f"LayerNormalization needs opset 17; the graph has opset {opset(model)}")
        reasons = Counter(reason for norm in candidates if (reason := _fuse(norm)))
        fused = len(candidates) - reasons.total()
        if fused:
            unique_names(model)
        detail = f"fused {fused} of {len(candidates)} layer normalizations"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(fused > 0, f"{detail}; {left}" if left else detail)


@dataclass(frozen=True, slots=True)
class _Norm:
    """What was matched: y = d / √(v + ε), without scale and bias."""

    x: ir.Value
    axis: int  # the first of the normalized axes, counted from the end
    epsilon: float
    normalized: ir.Value
    nodes: tuple[ir.Node, ...]


def _is_reciprocal(node: ir.Node) -> bool:
    return is_onnx(node, "Reciprocal") or (is_onnx(node, "Div") and scalar(node.inputs[0], 1) == 1.0)


def _is_reciprocal_root(node: ir.Node) -> bool:
    return is_onnx(node, "Pow") and scalar(node.inputs[1], 1) == -0.5


def _match(root: ir.Node) -> _Norm | None:
    """The normalization around its square root, walked from there in both directions."""
    shifted = _producer(root.inputs[0], "Add")
    if shifted is None:
        return None
    epsilon, variance = _number_and_other(shifted)
    mean_square = _producer(variance, "ReduceMean")
    square = _producer(mean_square.inputs[0], "Mul", "Pow") if mean_square else None
    if epsilon is None or mean_square is None or square is None:
        return None
    deviation = _producer(square.inputs[0], "Sub")
    twice = square.inputs[0] is square.inputs[1] if square.op_type == "Mul" else scalar(square.inputs[1], 1) == 2.0
    if deviation is None or not twice:
        return None
    x, mean = deviation.inputs[0], _producer(deviation.inputs[1], "ReduceMean")
    if x is None or mean is None or mean.inputs[0] is not x:
        return None
    axis = _last_axes(mean, x)
    if axis is None or axis != _last_axes(mean_square, x):
        return None
    ends = _normalized(root, deviation)
    if ends is None:
        return None
    nodes = (mean, deviation, square, mean_square, shifted, root, *ends)
    return _Norm(x, axis, epsilon, nodes[-1].outputs[0], tuple(dict.fromkeys(nodes)))


def _normalized(root: ir.Node, deviation: ir.Node) -> tuple[ir.Node, ...] | None:
    """The nodes that bring d and the root together: d / √·, or d · (1 / √·), or d · ·^-½."""
    user = single_user(root.outputs[0])
    chain: tuple[ir.Node, ...] = ()
    inverse = root.op_type == "Pow"
    if user is not None and not inverse and _is_reciprocal(user):
        chain, user, inverse = (user,), single_user(user.outputs[0]), True
    if user is None or not is_onnx(user, "Mul" if inverse else "Div"):
        return None
    result = chain[-1].outputs[0] if chain else root.outputs[0]
    other = [value for value in user.inputs if value is not result]
    # A second Sub of the same two values is as good: exporters do not always share it.
    twin = other[0].producer() if len(other) == 1 and other[0] is not None else None
    if not is_onnx(twin, "Sub") or twin is None or tuple(twin.inputs) != tuple(deviation.inputs):
        return None
    if user.op_type == "Div" and user.inputs[0] is not other[0]:
        return None
    return (twin, *chain, user)


def _fuse(norm: _Norm) -> str | None:
    """Replace one normalization; or return why not."""
    graph, inside = norm.nodes[-1].graph, set(norm.nodes)
    if graph is None or any(node.graph is not graph for node in norm.nodes):
        return "it spreads over several graphs"
    for node in norm.nodes[:-1]:
        output = node.outputs[0]
        if output.is_graph_output() or any(use.node not in inside for use in output.uses()):
            return "a step of it is read by other nodes too"
    if norm.x.dtype not in _TYPES:
        return f"its type is {norm.x.dtype.name if norm.x.dtype else 'unknown'}, which would be computed in float32"
    dims = () if norm.x.shape is None else norm.x.shape[norm.axis :]
    sizes = tuple(size for size in dims if isinstance(size, int))
    if not sizes or len(sizes) != len(dims):
        return "the size of its axes is not known"

    # Scale and bias join where they have exactly the shape of the normalized axes.
    nodes, result = list(norm.nodes), norm.normalized
    scale, nodes, result = _join("Mul", sizes, nodes, result)
    bias, nodes, result = _join("Add", sizes, nodes, result)
    if scale is None:
        scale = add_initializer(graph, f"{result.name}_scale", np.ones(sizes, norm.x.dtype.numpy()))
    inputs = [norm.x, scale] if bias is None else [norm.x, scale, bias]
    fused = ir.node("LayerNormalization", inputs, {"axis": norm.axis, "epsilon": norm.epsilon}, name=nodes[-1].name)
    replace(nodes, [fused], result, fused.outputs[0])
    return None


def _join(
    op_type: str, sizes: tuple[int, ...], nodes: list[ir.Node], result: ir.Value
) -> tuple[ir.Value | None, list[ir.Node], ir.Value]:
    """The parameter that ``op_type`` combines ``result`` with, and the match grown by that node; or None, not grown."""
    user = single_user(result)
    if user is None or not is_onnx(user, op_type) or user.graph is not nodes[-1].graph:
        return None, nodes, result
    other = next((value for value in user.inputs if value is not result), None)
    shape = None if other is None else other.shape
    if other is None or constant(other) is None or shape is None or tuple(shape) != sizes:
        return None, nodes, result
    return other, [*nodes, user], user.outputs[0]


def _producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if is_onnx(node, *op_types) else None


def _number_and_other(add: ir.Node) -> tuple[float | None, ir.Value | None]:
    left, right = add.inputs
    number = scalar(right, 1)
    return (number, left) if number is not None else (scalar(left, 1), right)


def _last_axes(reduce: ir.Node, x: ir.Value) -> int | None:
    """The first of the reduced axes from the end, where they are the last ones and are kept; else None.

    Axes are an attribute up to opset 17, an input from 18 on.
    """
    given = constant(reduce.inputs[1]) if len(reduce.inputs) > 1 else None
    axes = list(reduce.attributes["axes"].as_ints()) if "axes" in reduce.attributes else given
    if axes is None or not int_of(reduce, "keepdims", 1):
        return None
    rank = rank_of(x)
    if rank is None and any(axis >= 0 for axis in axes):
        return None
    from_end = sorted(int(axis) if axis < 0 else int(axis) - (rank or 0) for axis in axes)
    return from_end[0] if from_end and from_end == list(range(-len(from_end), 0)) else None


PLUGIN = FuseLayerNorm

"""Fold ``BatchNormalization`` into the weights of the node before it.

With statistics that do not change, BatchNormalization is an affine map of each channel c,

    y = a·z + b      a = γ / √(σ² + ε)      b = β − a·μ

and what computes z is linear in its weights, so z = W∗x + d gives y = (a·W)∗x + (a·d + b).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..contracts import Array
from ..graph import add_initializer
from . import Change, GraphPass
from ._rewriting import constant, float_of, forget_unused, int_of, is_onnx, main_nodes, rank_of, single_user


class FoldBatchNorm(GraphPass):
    """Fold BatchNormalization into Conv, ConvTranspose, Gemm and MatMul (with or without a bias added)."""

    name = "fold_batchnorm"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Fold each one that can be, and say for the others why not."""
        found = [node for node in main_nodes(model) if is_onnx(node, "BatchNormalization")]
        if not found:
            return model, Change(False, "the graph has no BatchNormalization")
        reasons = Counter(reason for node in found if (reason := _fold(node)))
        folded = len(found) - reasons.total()
        detail = f"folded {folded} of {len(found)} BatchNormalization"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(folded > 0, f"{detail}; {left}" if left else detail)


@dataclass(frozen=True, slots=True)
class _Linear:
    """A node z = W∗x + d, with its bias d where a separate Add holds it."""

    node: ir.Node
    weight: Array
    bias: Array | None  # d, one a channel
    add: ir.Node | None = None


def _fold(norm: ir.Node) -> str | None:
    """Fold one node; or return why not."""
    affine = _affine(norm)
    if isinstance(affine, str):
        return affine
    a, b = affine
    linear = _linear_before(norm)
    if isinstance(linear, str):
        return linear
    node, graph = linear.node, linear.node.graph
    if graph is None or len(a) != _channels(linear):
        return "its channels are not those of the node before it"
    dtype = linear.weight.dtype
    with np.errstate(over="ignore"):  # looked at in the next line
        weight = _scaled(linear, a).astype(dtype)
        bias = ((0.0 if linear.bias is None else linear.bias.astype(np.float64)) * a + b).astype(dtype)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return f"the folded weights do not fit {dtype.name}"

    # New tensors, never an edit: another node may read the same weights.
    old = list(node.inputs) + ([] if linear.add is None else list(linear.add.inputs)) + list(norm.inputs)
    name = node.inputs[1].name or "weight"  # type: ignore[union-attr]
    node.replace_input_with(1, add_initializer(graph, f"{name}_bn", weight))
    new_bias = add_initializer(graph, f"{name}_bn_bias", bias)
    if linear.add is not None:
        place = 1 if linear.add.inputs[0] is node.outputs[0] else 0
        linear.add.replace_input_with(place, new_bias)
    elif node.op_type == "MatMul":
        gemm = ir.node("Gemm", [*node.inputs, new_bias], name=node.name, metadata_props=dict(node.metadata_props))
        graph.insert_after(node, gemm)
        node = gemm
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, new_bias)
        node.attributes.pop("beta", None)  # Gemm's factor of the bias: in it now
    _hand_over(norm, linear.add or node)
    if node is not linear.node:
        graph.remove(linear.node, safe=True)
    forget_unused(old)
    return None


def _hand_over(norm: ir.Node, to: ir.Node) -> None:
    """Let ``to`` compute what ``norm`` did, under its name."""
    result, output = norm.outputs[0], to.outputs[0]
    output.name, result.name = result.name, None
    output.shape, output.type = result.shape or output.shape, result.type or output.type
    result.replace_all_uses_with(output, replace_graph_outputs=True)
    if norm.graph is not None:
        norm.graph.remove(norm, safe=True)


def _affine(norm: ir.Node) -> tuple[Array, Array] | str:
    """The factors a and summands b, one a channel; or why they are not known."""
    training = int_of(norm, "training_mode", 0)
    if training or any(output.uses() or output.is_graph_output() for output in norm.outputs[1:]):
        return "it is in training mode, so its statistics change with the input"
    if not int_of(norm, "spatial", 1):
        return "it normalizes each position by itself (spatial=0)"
    parameters = [constant(value) for value in norm.inputs[1:5]]
    if len(parameters) != 4 or any(value is None for value in parameters):
        return "its parameters are not constant"
    gamma, beta, mean, variance = (value.astype(np.float64) for value in parameters if value is not None)
    a = gamma / np.sqrt(variance + float_of(norm, "epsilon", 1e-5))
    return a, beta - a * mean


def _linear_before(norm: ir.Node) -> _Linear | str:
    """The linear node whose result only ``norm`` reads; or why there is none."""
    source = norm.inputs[0]
    node = source.producer() if source is not None else None
    if source is None or node is None:
        return "no Conv, ConvTranspose, Gemm or MatMul comes before it"
    add, bias = None, None
    if is_onnx(node, "Add"):
        sides = [value for value in node.inputs if value is not None]
        product = next((side for side in sides if is_onnx(side.producer(), "MatMul")), None)
        other = next((constant(side) for side in sides if side is not product), None)
        if product is None or other is None or (matmul := product.producer()) is None:
            return "no Conv, ConvTranspose, Gemm or MatMul comes before it"
        add, bias, node = node, other, matmul
        if single_user(product) is not add:
            return "what it normalizes is read by other nodes too"
    if not is_onnx(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return "no Conv, ConvTranspose, Gemm or MatMul comes before it"
    if single_user(source) is not norm or node.graph is not norm.graph:
        return "what it normalizes is read by other nodes too"
    weight = constant(node.inputs[1])
    if weight is None:
        return "the weights before it are not constant"
    if node.op_type == "MatMul":
        # The channel is axis 1 of z, and the columns of W only where z is [batch, channels].
        if weight.ndim != 2 or rank_of(source) != 2:
            return "its channel axis is not the last one of the MatMul before it"
    elif len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant(node.inputs[2])
        if bias is None:
            return "the bias before it is not constant"
        bias = bias.astype(np.float64) * float_of(node, "beta", 1.0)
    linear = _Linear(node, weight, bias, add)
    if bias is not None:
        if bias.size not in (1, _channels(linear)) or bias.shape[-1:] != (bias.size,) * min(bias.ndim, 1):
            return "the bias before it is not one number a channel"
        linear = _Linear(node, weight, bias.reshape(-1), add)
    return linear


def _channels(linear: _Linear) -> int:
    """Number of output channels."""
    shape, node = linear.weight.shape, linear.node
    if node.op_type == "Conv":
        return int(shape[0])  # [out, in/groups, *kernel]
    if node.op_type == "ConvTranspose":
        return int(shape[1]) * int_of(node, "group", 1)  # [in, out/groups, *kernel]
    return int(shape[0] if int_of(node, "transB", 0) else shape[1])  # [out, in] or [in, out]


def _scaled(linear: _Linear, a: Array) -> Array:
    """The product a·W in float64: each output channel's weights times its a."""
    node, weight = linear.node, linear.weight.astype(np.float64)
    factor: Array
    if node.op_type == "Conv" or int_of(node, "transB", 0):
        factor = a.reshape(-1, *[1] * (weight.ndim - 1))
    elif node.op_type == "ConvTranspose":
        # Input channel i belongs to group i // (in/groups), whose output channels are one row of a.
        by_group = a.reshape(int_of(node, "group", 1), -1)  # [groups, out/groups]
        by_input = np.repeat(by_group, weight.shape[0] // len(by_group), axis=0)  # [in, out/groups]
        factor = by_input.reshape(*by_input.shape, *[1] * (weight.ndim - 2))
    else:
        factor = a
    scaled: Array = weight * factor
    return scaled


PLUGIN = FoldBatchNorm

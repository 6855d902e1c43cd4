"""The quantization plan for an engine that computes in integers from end to end, as an NPU does: every operator.

`_plan` quantizes what a CPU gains by. Here what is left in floating point is the exception, with its reason: the engine
computes it in fp16, between a DequantizeLinear and a QuantizeLinear of its own.

What each operator wants is what Qualcomm's HTP accepts: the rules of onnxruntime.quantization's get_qnn_qdq_config (a
norm's scale in uint8, fixed ranges after Sigmoid and Tanh), and data movement that keeps its input's scale. One of its
rules is left out, one scale for a MatMul's weights: QNN 2.51 takes one for each output channel and computes it right on
the emulator, and MiniLM needs it (27 dB instead of 9 with 16-bit activations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from .plan import NodePlan, Plan, constant_info, end_of, name_of

_WEIGHTS: Mapping[str, int] = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}
"""Operator → the axis of its weights' scales; Gemm's is 0 where it transposes them."""
_NORMS = ("LayerNormalization", "InstanceNormalization")
_SAME_SCALE = frozenset(
    (
        "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "SpaceToDepth",
        "Gather", "GatherElements", "Split", "Tile", "Expand", "Identity", "Dropout", "TopK", "Pad",
    )
)  # fmt: skip
"""What is made of its first input's values has that input's scale and zero point."""
_PARAMETERS: Mapping[str, tuple[int, ...]] = {"Clip": (1, 2), "Resize": (1, 2), "Pad": (2,), "Dropout": (1,)}
"""Positions of floating-point inputs that are settings, not numbers to compute with."""
_LEFT: Mapping[str, str] = {
    "BatchNormalization": "not folded: the HTP's integers are wrong by many steps there",
    "CumSum": "wrong in the HTP's integers",
    "GatherND": "wrong in the HTP's integers",
    "ScatterElements": "wrong in the HTP's integers",
    "ScatterND": "wrong in the HTP's integers",
    "Einsum": "no integer kernel",
    "Erf": "no kernel",
    "LSTM": "no integer kernel",
    "GRU": "no integer kernel",
    "RNN": "no integer kernel",
}
"""Operators that stay in floating point, and why. Source: benchmarks/coverage_qnn.py."""
_LEFT_16: Mapping[str, str] = {
    "PRelu": "no kernel for 16-bit integers",
    "Where": "wrong in the HTP's 16-bit integers",
}
"""The same, beside 16-bit activations alone."""
_NO_NUMBERS = frozenset(
    ("Cast", "CastLike", "Constant", "ConstantOfShape", "Shape", "Size", "QuantizeLinear", "DequantizeLinear")
)
WIDE = 65504.0
"""Values beyond this are no numbers to compute with but a mask's −∞ (fp16 ends here): no step would be left for the
others."""


def make_whole_plan(model: ir.Model, keep_float: frozenset[str], *, levels: int, absorb: bool = True) -> Plan:
    """Plan every node of the main graph that computes with float32.

    Args:
        model: a graph whose nodes have unique names, with the types of its values.
        keep_float: names of nodes that must stay in float.
        levels: how many an activation's integers have: 256 or 65536.
        absorb: whether a Relu or Clip can be left to the saturation of the integers (not with symmetric ranges).
    """
    plan = Plan()
    outputs = set(model.graph.outputs)
    swallowed: set[ir.Node] = set()  # whose work another node's output does
    for node in model.graph:
        if node in swallowed or node.op_type in _NO_NUMBERS or not _computes(node):
            continue
        found = "asked for" if (node.name or "") in keep_float else _plan_node(node, levels)
        if isinstance(found, str):
            plan.leave(node, found)
            continue
        if found.output is not None and not found.same_scale and found.fixed is None:
            end, follower = end_of(node, outputs, absorb and (node.name or "") not in keep_float)
            if follower is not None and (follower.name or "") not in keep_float:
                swallowed.add(follower)
                found = replace(found, output=end, absorbed=follower)
        plan.nodes[name_of(node)] = found
    return plan


def drop_wide(plan: Plan, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Leave those nodes in float that read or compute values no integers can hold beside others (`WIDE`)."""
    wide = {name for name, (low, high) in ranges.items() if low < -WIDE or high > WIDE}
    for name, item in list(plan.nodes.items()):
        read = {name_of(item.node.inputs[index]) for index in item.activations}
        made = {name_of(item.output)} if item.output is not None and item.fixed is None else set()
        if wide & (read | made):
            del plan.nodes[name]
            plan.leave(item.node, "it holds a mask's −∞")


def _computes(node: ir.Node) -> bool:
    """Whether a node reads or makes float32."""
    values = [*(value for value in node.inputs if value is not None), *node.outputs]
    return any(value.dtype == ir.DataType.FLOAT for value in values)


def _plan_node(node: ir.Node, levels: int) -> NodePlan | str:
    """How a node is quantized, or why it is not."""
    if node.domain not in ("", "ai.onnx"):
        return f"an operator of {node.domain}"
    left = {**_LEFT, **_LEFT_16} if levels == 65536 else _LEFT
    if node.op_type in left:
        return left[node.op_type]
    if any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in node.attributes.values()):
        return "it holds a subgraph"
    weight, axis, bias = _weights(node)
    if isinstance(weight, str):
        return weight
    settings = {*_PARAMETERS.get(node.op_type, ()), weight, bias}
    activations, constants = [], []
    for index, value in enumerate(node.inputs):
        if value is None or index in settings or value.dtype != ir.DataType.FLOAT:
            continue
        known = ir.convenience.get_const_tensor(value)
        if known is None:
            activations.append(index)
            continue
        if known.size and not (np.abs(known.numpy()) <= WIDE).all():
            return "it holds a mask's −∞"
        constants.append(index)
    if weight is not None and 0 not in (*activations, *constants):
        return "the type of what it reads is not known"
    made = [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    if len(made) > 1 and node.op_type not in ("Split", "TopK"):
        return "it has several outputs"
    same = node.op_type in _SAME_SCALE or (node.op_type == "Resize" and _mode(node) == "nearest")
    return NodePlan(
        node,
        tuple(activations),
        weight=weight,
        axis=axis or 0,
        one_scale=axis is None,
        weights_as="uint8" if node.op_type in _NORMS else "",  # QNN takes a norm's scale in no other type
        bias=bias,
        constants=tuple(constants),
        output=made[0] if made else None,
        more_outputs=tuple(made[1:]),
        same_scale=same,
        fixed=_fixed_range(node.op_type, levels),
    )


def _weights(node: ir.Node) -> tuple[int | str | None, int | None, int | None]:
    """Position of the constant weights (or why there are none to quantize), their axis, position of the bias."""
    if node.op_type == "MatMul":
        info = constant_info(node.inputs[1])
        if info is None or info[0] != ir.DataType.FLOAT:
            return None, None, None
        return 1, 1 if len(info[1]) == 2 else None, None
    if node.op_type in _NORMS:
        place: int | None = 1 if len(node.inputs) > 1 and node.inputs[1] is not None else None
        axis: int | None = None
    elif node.op_type in _WEIGHTS:
        transposed = "transB" in node.attributes and node.attributes["transB"].value
        place, axis = 1, 0 if transposed else _WEIGHTS[node.op_type]
    else:
        return None, None, None
    if place is not None and constant_info(node.inputs[place]) is None:
        return ("its weights are computed", None, None) if node.op_type != "Gemm" else (None, None, None)
    bias = 2 if place is not None and len(node.inputs) > 2 and node.inputs[2] is not None else None
    info = constant_info(node.inputs[2]) if bias is not None else None
    if bias is not None and (info is None or len(info[1]) != 1):
        return "its bias is not a constant vector", None, None
    if node.op_type == "Gemm" and any(
        name in node.attributes and float(node.attributes[name].value) != usual
        for name, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0.0))
    ):
        return "alpha, beta or transA is set", None, None
    return place, axis, bias


def _fixed_range(op_type: str, levels: int) -> tuple[float, float] | None:
    """The range that QNN prescribes after an operator: a scale of exactly 1/levels, or 2/levels from −1."""
    if op_type in ("Sigmoid", "Softmax"):
        return 0.0, 1.0 - 1.0 / levels
    if op_type == "Tanh" and levels == 65536:
        return -1.0, 1.0 - 2.0 / levels
    return None


def _mode(node: ir.Node) -> str:
    return node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"

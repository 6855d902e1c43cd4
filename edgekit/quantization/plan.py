"""The quantization plan: which node of a graph is quantized, which of its tensors, and why the others are not.

Two kinds of node are quantized. *Core* nodes hold the work (Conv, Gemm, MatMul with constant weights). *Chain* nodes
(a residual Add, a pool, a Concat) gain nothing by themselves; they are quantized where all they read comes from
quantized nodes and some quantized node reads them, so that integers flow from one core node to the next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

CORE = ("Conv", "Gemm", "MatMul")
LAYOUT = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "SpaceToDepth")
"""Chain nodes whose output is made of their input's values, so it has the input's scale and zero point."""
ARITHMETIC = ("Add", "AveragePool", "GlobalAveragePool", "Concat")
"""Chain nodes whose output has a range of its own."""
DEFAULT_OP_TYPES = (*CORE, *ARITHMETIC, *LAYOUT)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """How one node is quantized."""

    node: ir.Node
    activations: tuple[int, ...]  # positions of the inputs that are read quantized
    weight: int | None = None  # position of the constant weights
    axis: int = 0  # the weights' output channels
    bias: int | None = None  # position of the constant bias
    bias_of: ir.Node | None = None  # the node that adds the bias, where it is another one: an Add after a MatMul
    output: ir.Value | None = None  # what is quantized of what it computes: its output, or that of its `absorbed` node
    absorbed: ir.Node | None = None  # a Relu or Clip whose work the output's quantization does
    same_scale: bool = False  # the output has the scale and zero point of the first input
    one_scale: bool = False  # the weights have one scale, whatever the scheme says
    weights_as: str = ""  # the weights' dtype, where it is not the scheme's
    constants: tuple[int, ...] = ()  # positions of constants that are no weights: integers as activations are
    more_outputs: tuple[ir.Value, ...] = ()  # quantized as `output` is (Split)
    fixed: tuple[float, float] | None = None  # the output's range, where it is prescribed


@dataclass(slots=True)
class Plan:
    """What is quantized, by node name, and what is left in float, by reason."""

    nodes: dict[str, NodePlan] = field(default_factory=dict)
    left: dict[str, list[ir.Node]] = field(default_factory=dict)

    def activations(self) -> list[str]:
        """Names of the tensors whose ranges are needed, each once, in the graph's order."""
        found: dict[str, None] = {}
        for item in self.nodes.values():
            for index in item.activations:
                found.setdefault(name_of(item.node.inputs[index]))
            if item.output is not None and not item.same_scale:
                found.setdefault(name_of(item.output))
        prescribed = self.prescribed()
        return [name for name in found if name not in prescribed]

    def prescribed(self) -> dict[str, tuple[float, float]]:
        """Ranges that need no calibration."""
        return {name_of(item.output): item.fixed for item in self.nodes.values() if item.output and item.fixed}

    def describe(self) -> str:
        """``quantized 20 Conv, 8 Add; left in float: 1 MatMul (no constant weights)``."""
        done = Counter(item.node.op_type for item in self.nodes.values())
        text = "quantized " + ", ".join(f"{count} {op}" for op, count in done.most_common()) if done else ""
        rest = [
            f"{count} {op} ({reason})"
            for reason, nodes in self.left.items()
            for op, count in Counter(node.op_type for node in nodes).most_common()
        ]
        return "; ".join(part for part in (text, "left in float: " + ", ".join(rest) if rest else "") if part)

    def leave(self, node: ir.Node, reason: str) -> None:
        """Keep a node in float for a reason."""
        self.left.setdefault(reason, []).append(node)


def make_plan(
    model: ir.Model,
    op_types: tuple[str, ...],
    keep_float: frozenset[str],
    *,
    absorb: bool = True,
    fold_add: bool = True,
) -> Plan:
    """Plan the quantization of the main graph; nodes of subgraphs stay in float.

    Args:
        model: a graph whose nodes have unique names.
        op_types: what may be quantized; chain types have an effect only between core nodes.
        keep_float: names of nodes that must stay in float.
        absorb: whether a Relu or Clip can be left to the saturation of the integers (not with symmetric ranges).
        fold_add: whether the engine makes one Gemm of MatMul and Add. ONNX Runtime does, where the number of rows is
            known, and that Gemm runs on integers only if the bias is one too (37 ms instead of 17 on a ViT-tiny).
    """
    plan = Plan()
    outputs = set(model.graph.outputs)
    for node in model.graph:
        if node.domain not in ("", "ai.onnx") or node.op_type not in CORE or node.op_type not in op_types:
            continue
        if (node.name or "") in keep_float:
            plan.leave(node, "asked for")
            continue
        found = _core(node, fold_add)
        if isinstance(found, str):
            plan.leave(node, found)
        else:
            plan.nodes[name_of(node)] = found
    flowing = _chains(model, plan, op_types, keep_float, outputs, absorb)
    _quantize_outputs(plan, flowing, outputs, absorb)
    return plan


def _core(node: ir.Node, fold_add: bool) -> NodePlan | str:
    """How a core node is quantized, or why it is not."""
    weight = constant_info(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None:
        return "no constant weights"
    dtype, shape = weight
    if dtype != ir.DataType.FLOAT:
        return f"{dtype.name.lower()} weights"
    if node.op_type == "MatMul":
        if len(shape) != 2:
            return f"weights of rank {len(shape)}"
        added = _added_bias(node, shape[1]) if fold_add else None
        if added is not None:
            return NodePlan(node, (0,), weight=1, axis=1, bias_of=added[0], bias=added[1])
        return NodePlan(node, (0,), weight=1, axis=1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        info = constant_info(bias)
        if info is None or len(info[1]) != 1:
            return "its bias is not a constant vector"
    if node.op_type == "Gemm":
        if _attribute(node, "alpha", 1.0) != 1 or _attribute(node, "beta", 1.0) != 1 or _attribute(node, "transA", 0):
            return "alpha, beta or transA is set"
        axis = 0 if _attribute(node, "transB", 0) else 1
        if bias is not None and info is not None and info[1][0] != shape[axis]:
            return "its bias is broadcast"
    else:
        axis = 0
        if any(user.node.op_type == "BatchNormalization" for user in node.outputs[0].uses()):
            return "the BatchNormalization after it is not folded: run fold_batchnorm first"
    return NodePlan(node, (0,), weight=1, axis=axis, bias=2 if bias is not None else None)


def _added_bias(node: ir.Node, size: int) -> tuple[ir.Node, int] | None:
    """The Add, and the position of its constant vector, that alone reads a MatMul whose number of rows is known."""
    rows = node.inputs[0].shape if node.inputs[0] is not None else None
    uses = node.outputs[0].uses()
    if rows is None or len(uses) != 1 or not (len(rows) == 2 or all(isinstance(dim, int) for dim in rows)):
        return None
    (use,) = uses
    if use.node.op_type != "Add" or use.node.graph is not node.graph:
        return None
    position = 1 - use.idx
    info = constant_info(use.node.inputs[position])
    return (use.node, position) if info == (ir.DataType.FLOAT, (size,)) else None


def _chains(
    model: ir.Model,
    plan: Plan,
    op_types: tuple[str, ...],
    keep_float: frozenset[str],
    outputs: set[ir.Value],
    absorb: bool,
) -> set[ir.Value]:
    """Add the chain nodes to the plan; returns the values that some planned node computes and another reads."""
    integers: set[ir.Value] = set()
    candidates: dict[str, NodePlan] = {}
    for node in model.graph:
        if name_of(node) in plan.nodes:
            integers.add(end_of(node, outputs, absorb)[0])
        elif node.op_type in op_types and node.op_type not in CORE and node.domain in ("", "ai.onnx"):
            if len(node.outputs) != 1 or name_of(node) in keep_float:
                continue
            reads = _chain_inputs(node)
            if reads and all(node.inputs[index] in integers for index in reads):
                same = node.op_type in LAYOUT
                candidates[name_of(node)] = NodePlan(node, reads, same_scale=same)
                integers.add(node.outputs[0] if same else end_of(node, outputs, absorb)[0])
    # From the back: a chain node is worth it only where a quantized node reads what it computes.
    read: set[ir.Value] = {_value(item.node, index) for item in plan.nodes.values() for index in item.activations}
    kept: dict[str, NodePlan] = {}
    for name, item in reversed(candidates.items()):
        end = item.node.outputs[0] if item.same_scale else end_of(item.node, outputs, absorb)[0]
        if end in read:
            kept[name] = item
            read.update(_value(item.node, index) for index in item.activations)
    order = {name_of(node): position for position, node in enumerate(model.graph)}
    merged = {**plan.nodes, **kept}
    plan.nodes = {name: merged[name] for name in sorted(merged, key=order.__getitem__)}
    return read


def _chain_inputs(node: ir.Node) -> tuple[int, ...]:
    """Positions of the inputs a chain node reads as numbers (not shapes or axes); empty if it does not qualify."""
    if node.op_type in LAYOUT:
        return (0,)
    return tuple(index for index, value in enumerate(node.inputs) if value is not None)


def _quantize_outputs(plan: Plan, flowing: set[ir.Value], outputs: set[ir.Value], absorb: bool) -> None:
    """Decide which outputs are quantized: a Conv's and a chain node's always (the integer kernels have no float
    output), another's only where a quantized node reads it.
    """
    for name, item in plan.nodes.items():
        end, absorbed = (item.node.outputs[0], None) if item.same_scale else end_of(item.node, outputs, absorb)
        if item.node.op_type not in ("Gemm", "MatMul") or end in flowing:
            plan.nodes[name] = replace(item, output=end, absorbed=absorbed)


def end_of(node: ir.Node, outputs: set[ir.Value], absorb: bool) -> tuple[ir.Value, ir.Node | None]:
    """What a node's integers stand for: its output, or that of the Relu or Clip that alone reads it."""
    value = node.outputs[0]
    uses = value.uses()
    if absorb and value not in outputs and len(uses) == 1:
        (use,) = uses
        follower = use.node
        if follower.graph is node.graph and use.idx == 0 and _saturates(follower):
            return follower.outputs[0], follower
    return value, None


def _saturates(node: ir.Node) -> bool:
    """Whether integers that start at 0 do the node's work: a Relu, or a Clip from 0."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip":
        return False
    low = node.inputs[1] if len(node.inputs) > 1 else None
    tensor = ir.convenience.get_const_tensor(low) if low is not None else None
    return tensor is not None and float(np.asarray(tensor.numpy()).reshape(())) == 0.0


def constant_info(value: ir.Value | None) -> tuple[ir.DataType, tuple[int, ...]] | None:
    """Dtype and shape of a constant; None if it is computed."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else (tensor.dtype, tensor.numpy().shape)


def _attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _value(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def name_of(item: ir.Node | ir.Value | None) -> str:
    """The name of what has one, as all have after `name_nodes`."""
    assert item is not None and item.name
    return item.name


def name_nodes(model: ir.Model) -> list[ir.Node]:
    """Give a name to every node that has none, and return those: plans and reports speak of nodes by name."""
    named: list[ir.Node] = []
    taken = {node.name for node in model.graph}
    for index, node in enumerate(model.graph):
        if not node.name:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
            named.append(node)
    return named

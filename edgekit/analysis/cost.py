"""What a graph costs, without running it: parameters, multiply–accumulates, and the peak of its activations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from ..errors import UsageError, suggestion
from ..graph import clone, module_path
from .macs import UnknownShapeError, macs


@dataclass(frozen=True, slots=True)
class NodeCost:
    """The multiply–accumulates of one node."""

    name: str
    op_type: str
    module: str  # dotted path of its PyTorch module, or ''
    macs: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `analyze` found. A quantity that could not be worked out is None, and ``unknown`` says why."""

    nodes: int
    operators: Mapping[str, int]  # operator → number of nodes, the most first; "domain::Operator" outside the standard
    parameters: int
    parameter_bytes: int
    macs: int
    costs: tuple[NodeCost, ...]  # of the nodes that multiply, in the graph's order
    activation_peak_bytes: int | None
    activation_peak_at: str | None  # the node during which it occurs
    dims: Mapping[str, int]  # the value each free dimension was given
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``inspect --json``."""
        return {
            "nodes": self.nodes,
            "operators": dict(self.operators),
            "parameters": {"count": self.parameters, "bytes": self.parameter_bytes},
            "macs": {
                "total": self.macs,
                "nodes": [
                    {"name": item.name, "op_type": item.op_type, "module": item.module, "macs": item.macs}
                    for item in self.costs
                ],
            },
            "activation_peak_bytes": self.activation_peak_bytes,
            "activation_peak_at": self.activation_peak_at,
            "dims": dict(self.dims),
            "unknown": list(self.unknown),
        }


def analyze(model: ir.Model, dims: Mapping[str, int] | None = None) -> Analysis:
    """Count what ``model`` holds and what one run of it costs. The model is left as it was.

    Parameters are the numbers in constants of floating-point and quantized types, as PyTorch counts them: each shared
    tensor once, without BatchNorm's running statistics, and without tensors of one element, which are mostly an
    operator's settings (a clip's bounds, a root's epsilon).

    MACs are counted by `edgekit.analysis.macs`. The body of a Loop or Scan counts once, as how often it runs is not
    known, and so does every branch of an If.

    The peak of the activations is the largest sum of what is alive at the same time, in the graph's order:

        peak = max over nodes t of Σ bytes(v), v a value with made(v) ≤ t ≤ last read(v)

    Inputs and outputs live through the whole run, as the caller holds them; weights do not count; Reshape and its like
    share the memory of what they read. An engine that computes in place or fuses nodes stays below it, one that pads or
    keeps copies lies above it.

    Args:
        model: the graph.
        dims: values for free dimensions by name; the others are 1.

    Raises:
        UsageError: ``dims`` names a dimension that no input has, or gives it a value below 1.
    """
    bound = _bind(model, dims or {})
    fixed = with_fixed_shapes(model, bound)
    unknown: list[str] = []
    costs: list[NodeCost] = []
    for graph in fixed.graphs():
        for node in graph:
            try:
                count = macs(node)
            except UnknownShapeError as error:
                unknown.append(f"MACs of {error}")
                continue
            if count is not None:
                costs.append(NodeCost(node.name or "", node.op_type, module_path(node), count))
    peak: int | None = None
    at: str | None = None
    try:
        peak, at = _activation_peak(fixed.graph)
    except UnknownShapeError as error:
        unknown.append(f"activation peak: {error}")
    operators = Counter(
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for graph in model.graphs()
        for node in graph
        if node.op_type != "Constant"
    )
    parameters, size = _parameters(model)
    return Analysis(
        nodes=operators.total(),
        operators=dict(operators.most_common()),
        parameters=parameters,
        parameter_bytes=size,
        macs=sum(item.macs for item in costs),
        costs=tuple(costs),
        activation_peak_bytes=peak,
        activation_peak_at=at,
        dims=bound,
        unknown=tuple(unknown),
    )


def _bind(model: ir.Model, given: Mapping[str, int]) -> dict[str, int]:
    free = {
        dim.value
        for value in model.graph.inputs
        if value.shape is not None
        for dim in value.shape
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }
    for name, size in given.items():
        if name not in free:
            raise UsageError(f"no input has a free dimension '{name}'", fix=suggestion(name, free))
        if size < 1:
            raise UsageError(f"dimension '{name}' must be 1 or more, got {size}")
    return {name: given.get(name, 1) for name in sorted(free)}


def with_fixed_shapes(model: ir.Model, bound: Mapping[str, int]) -> ir.Model:
    """A copy whose free dimensions have values, with every shape that follows from them."""
    from ..passes.fold_constants import FoldConstants
    from ..passes.infer_shapes import InferShapes

    fixed = clone(model)
    for value in fixed.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                [dim if isinstance(dim, int) else bound.get(dim.value or "", 1) for dim in value.shape]
            )
    # What was inferred for free dimensions would stand in the way of what can be known now.
    for graph in fixed.graphs():
        for node in graph:
            for output in node.outputs:
                if output.shape is not None and not output.shape.is_static():
                    output.shape = None
    InferShapes()(fixed)
    FoldConstants()(fixed)
    InferShapes()(fixed)
    return fixed


# Integers of these types are shapes, axes and indices.
_NOT_PARAMETERS = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


def _parameters(model: ir.Model) -> tuple[int, int]:
    """Number of parameters, and the bytes of all constants."""
    counted: dict[int, ir.TensorProtocol] = {}
    stored: dict[int, int] = {}
    for graph in model.graphs():
        tensors = [
            (value, value.const_value)
            for value in (*graph.initializers.values(), *(out for node in graph for out in node.outputs))
        ]
        for value, tensor in tensors:
            if tensor is None and (tensor := ir.convenience.get_const_tensor(value)) is None:
                continue
            stored[id(tensor)] = tensor.nbytes
            if tensor.dtype not in _NOT_PARAMETERS and tensor.size != 1 and not _is_statistic(value):
                counted[id(tensor)] = tensor
    return sum(tensor.size for tensor in counted.values()), sum(stored.values())


def _is_statistic(value: ir.Value) -> bool:
    uses = value.uses()
    return bool(uses) and all(use.node.op_type == "BatchNormalization" and use.idx in (3, 4) for use in uses)


# These give another shape to the same memory.
_VIEWS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _activation_peak(graph: ir.Graph) -> tuple[int, str | None]:
    """Bytes and the name of the node where the most is alive; see `analyze`."""
    nodes = list(graph)
    owner: dict[ir.Value, ir.Value] = {}
    last: dict[ir.Value, int] = {}
    for place, node in enumerate(nodes):
        for value in _reads(node):
            last[owner.get(value, value)] = place
        source = node.inputs[0] if node.inputs else None
        for output in node.outputs:
            owner[output] = owner.get(source, source) if source and node.op_type in _VIEWS else output
    forever = {owner.get(value, value) for value in (*graph.inputs, *graph.outputs)}
    alive = sum(_bytes(value) for value in graph.inputs if value.const_value is None)
    peak, at = alive, None
    for place, node in enumerate(nodes):
        made = {owner[output] for output in node.outputs} & set(node.outputs)
        alive += sum(map(_bytes, made))
        inner = max((_activation_peak(body)[0] for body in _bodies(node)), default=0)
        if alive + inner > peak:
            peak, at = alive + inner, node.name
        read = {owner.get(value, value) for value in _reads(node)}
        done = {value for value in read | made if last.get(value, place) <= place and value not in forever}
        alive -= sum(_bytes(value) for value in done if value in owner)
    return peak, at


def _bodies(node: ir.Node) -> Sequence[ir.Graph]:
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs += attribute.as_graphs()
    return graphs


def _reads(node: ir.Node) -> list[ir.Value]:
    """What a node reads, what its bodies read from outside included."""
    inner = [value for body in _bodies(node) for item in body for value in _reads(item)]
    return [value for value in (*node.inputs, *inner) if value is not None]


def _bytes(value: ir.Value) -> int:
    if not value.name and not value.uses():
        return 0  # an output that nobody asked for
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        raise UnknownShapeError(f"the shape of '{value.name}' is not known")
    return math.ceil(math.prod(value.shape.numpy()) * value.dtype.itemsize)

"""What TensorRT 10 or 11 would refuse, told before anyone waits for a build. Pure: reads the graph, asks nobody.

It says no where the documentation does, or where TensorRT would take the graph and compute something else (float64
silently becomes float32, unsigned integers are read as signed ones). What it cannot know from the graph, such as the
memory that a kernel wants, the device says when it builds.

Sources: NVIDIA, "TensorRT Developer Guide": Explicit Quantization, Working with Dynamic Shapes, Working with DLA,
"ONNX Opset Guide" (docs.nvidia.com/deeplearning/tensorrt); ONNX-TensorRT's operator matrix (`_tensorrt_operators`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from ..graph import all_graphs, module_path
from ..runtimes._tensorrt_recipe import ShapeRange
from . import Finding
from . import _tensorrt_nodes as nodes
from ._tensorrt_operators import MAX_OPSET, MIN_OPSET, TENSOR_TYPES

MAX_RANK = 8
"""Dimensions of a tensor (nvinfer1::Dims::MAX_DIMS)."""
PROTOBUF_BYTES = 2**31 - 1
"""A protobuf message, and so an ONNX file with its weights inside, is smaller than this."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the graph is to become, as far as that decides what is refused."""

    oldest: tuple[int, int] = (10, 3)  # the oldest TensorRT it must build with
    profiles: Mapping[str, ShapeRange] = field(default_factory=dict)  # input → its shapes, for free dimensions
    precision: str = "fp32"
    dla: bool = False
    gpu_fallback: bool = False  # whether what the DLA does not take may run on the GPU
    external_data: bool = True  # whether large weights are written beside the file


def check(model: ir.Model, plan: Plan) -> list[Finding]:
    """Everything in a graph that TensorRT would refuse; empty: nothing is known against it.

    Args:
        model: with shapes and types inferred; left as it was.
        plan: what it is to become.
    """
    found = [*_opset(model, plan), *_inputs(model, plan), *_size(model, plan)]
    ends = {*model.graph.inputs, *model.graph.outputs}
    for graph in all_graphs(model):
        for node in graph:
            found += [
                Finding(item.rule, name_of(node), node.name or "?", module_path(node), item.reason, item.fix)
                for item in (*nodes.check(node, plan.oldest), *_tensors(node, ends), *_dla(node, plan))
            ]
    return found


def left_to_gpu(model: ir.Model) -> list[str]:
    """The nodes that a DLA does not take, each with the reason: ``Cast  (x_float16)  the DLA does not have it``."""
    return [
        f"{name_of(node)}  ({module_path(node) or node.name or '?'})  {item.reason}"
        for graph in all_graphs(model)
        for node in graph
        for item in nodes.check_dla(node)
    ]


def name_of(node: ir.Node) -> str:
    """``Erf``, or ``com.microsoft.Gelu`` outside ONNX's own domain."""
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _opset(model: ir.Model, plan: Plan) -> Iterator[Finding]:
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    newest = max(limit for first, limit in MAX_OPSET if plan.oldest >= first or first == MAX_OPSET[0][0])
    if opset and not MIN_OPSET <= opset <= newest:
        version = ".".join(map(str, plan.oldest))
        yield Finding(
            "opset",
            "",
            f"opset {opset}",
            "",
            f"TensorRT {version}'s parser states opset {MIN_OPSET} to {newest}",
            f"Export with opset {newest} ([export] opset of the target)",
        )


def _inputs(model: ir.Model, plan: Plan) -> Iterator[Finding]:
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        name = value.name or "?"
        free = [dim for dim in value.shape or () if not isinstance(dim, int)]
        if not free:
            continue
        if plan.dla:
            dims = ", ".join(str(dim.value) for dim in free)
            yield Finding("dla-shape", "", name, "", f"the DLA takes fixed shapes only, {dims} is free", _NO_DYNAMIC)
        elif name not in plan.profiles:
            dims = " and ".join(f"'{dim.value}'" for dim in free)
            yield Finding(
                "profile",
                "",
                name,
                "",
                f"its dimension {dims} is free, and no range is stated to plan for",
                f"State the smallest, usual and largest size: --range {free[0].value}=1..8..32",
            )


_NO_DYNAMIC = "Export with fixed shapes (without --dynamic), or without the DLA"


def _size(model: ir.Model, plan: Plan) -> Iterator[Finding]:
    from ..graph import initializer_bytes

    size = initializer_bytes(model)
    if size > PROTOBUF_BYTES and not plan.external_data:
        yield Finding(
            "size", "", "weights", "", f"{size} bytes do not fit one protobuf file", "Write them as external data"
        )


def _tensors(node: ir.Node, ends: set[ir.Value]) -> Iterator[nodes.Breach]:
    """Types and ranks of what a node reads and writes. Each tensor is told at the node that makes it."""
    constants = [value for value in node.inputs if value is not None and value.is_initializer()]
    fed = [value for value in node.inputs if value is not None and value in ends and value.producer() is None]
    for value in (*constants, *fed, *node.outputs):
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            yield nodes.Breach("type", f"'{value.name}' is a {value.type}, TensorRT has tensors only", _PLAIN)
            continue
        dtype = value.dtype
        if dtype == ir.DataType.DOUBLE:
            fix = "Use float32: model.float(), and float32 constants"
            yield nodes.Breach("type", f"'{value.name}' is float64, which TensorRT would round to float32", fix)
        elif dtype == ir.DataType.UINT8:
            if node.op_type not in ("Cast", "CastLike") and not nodes.is_quantizing(node):
                fix = "Cast it to int32 or float right behind the input"
                yield nodes.Breach("type", f"'{value.name}' is uint8, which nothing but a Cast reads or makes", fix)
        elif dtype is not None and dtype not in TENSOR_TYPES and not nodes.is_quantizing(node):
            yield nodes.Breach("type", f"'{value.name}' is {dtype.name.lower()}, which TensorRT does not have", _PLAIN)
        if value.shape is not None and len(value.shape) > MAX_RANK:
            fix = "Reshape it to fewer dimensions"
            rank = len(value.shape)
            yield nodes.Breach("rank", f"'{value.name}' has {rank} dimensions, TensorRT at most {MAX_RANK}", fix)


_PLAIN = "Use tensors of float32, float16, int32, int64 or bool"


def _dla(node: ir.Node, plan: Plan) -> Iterator[nodes.Breach]:
    if not plan.dla:
        return
    if plan.precision == "fp32" and node.op_type == "Conv":
        yield nodes.Breach("dla-type", "the DLA computes in float16 or int8", "Use a candidate in fp16")
    if not plan.gpu_fallback:
        yield from nodes.check_dla(node)

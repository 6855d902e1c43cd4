"""A model that is quantized before edgekit sees it: in which precision, where, and how many weights it has.

Nobody's word is needed: the graph says it. Weights are constants that DequantizeLinear reads, or that stand in the
place of the weight of an operator that computes with integers (ONNX's QLinear… and …Integer, ``com.microsoft``'s own).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..errors import SourceError

if TYPE_CHECKING:
    import torch

_WEIGHTS = {
    "ConvInteger": (1,),
    "DequantizeLinear": (0,),
    "DynamicQuantizeMatMul": (1,),
    "GatherBlockQuantized": (0,),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "QAttention": (1,),
    "QGemm": (0, 3, 6),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
}
"""Operator → the inputs that may be its quantized weights, or biases."""
_PACKED = ("MatMulBnb4", "MatMulNBits")
"""Their weights are several to a byte, and their number is K·N."""
_DYNAMIC = ("ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat")
_BITS = {
    ir.DataType.INT4: 4,
    ir.DataType.UINT4: 4,
    ir.DataType.INT8: 8,
    ir.DataType.UINT8: 8,
    ir.DataType.FLOAT8E4M3FN: 8,
    ir.DataType.FLOAT8E5M2: 8,
    ir.DataType.INT16: 16,
    ir.DataType.UINT16: 16,
}
_HALVES = {ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a source is that does not come in float32."""

    precision: str  # as a candidate's: "int8", "int8-dynamic", "int8-weights", "int4", "fp16"
    where: str  # "2 Conv, 1 Gemm": the operators that compute so
    parameters: int  # weights, whatever they are stored as; no scales, no zero points

    def __str__(self) -> str:
        return f"{self.precision} already" + (f" ({self.where})" if self.where else "")


def quantized_form(model: ir.Model) -> Quantized | None:
    """How a graph is quantized; None: its weights are float32 and nothing in it is rounded to integers."""
    nodes = list(_nodes(model))
    found = _Found()
    for node in nodes:
        found.add(node)
    floats = _floats(model, found)
    integers = sum(found.weights.values())
    parameters = integers + found.biases + sum(floats.values())
    if integers or found.activations:
        return Quantized(found.precision(), _counts(found.operators), parameters)
    halves = {kind: count for kind, count in floats.items() if kind in _HALVES}
    if halves and sum(halves.values()) * 2 > parameters:
        return Quantized(_HALVES[max(halves, key=lambda kind: halves[kind])], "", parameters)
    return None


class _Found:
    """What the nodes of a graph say."""

    def __init__(self) -> None:
        self.weights: Counter[int] = Counter()  # bits → weights
        self.biases = 0
        self.activations: Counter[int] = Counter()  # bits → tensors that are rounded with fixed scales
        self.dynamic = False
        self.operators: Counter[str] = Counter()
        self.seen: set[ir.Value] = set()  # constants that are counted, or that are scales and zero points

    def add(self, node: ir.Node) -> None:
        if node.op_type in _PACKED:
            size = node.attributes.get_int("K", 0) * node.attributes.get_int("N", 0)
            self.weights[node.attributes.get_int("bits", 4)] += size
            self.operators[node.op_type] += 1
        elif node.op_type == "QuantizeLinear":
            self._rounded(node)
        elif node.op_type in _WEIGHTS:
            self._weights(node)
        elif not node.op_type.startswith("QLinear"):
            self.dynamic |= node.op_type in _DYNAMIC
            return
        self.dynamic |= node.op_type in _DYNAMIC
        self.seen |= {value for value in node.inputs if value is not None and _constant(value) is not None}

    def _rounded(self, node: ir.Node) -> None:
        """QuantizeLinear: of an activation, or of a constant, which is a weight."""
        source = node.inputs[0]
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        bits = _BITS.get(zero.dtype if zero is not None and zero.dtype else ir.DataType.UINT8, 8)
        constant = _constant(source) if source is not None else None
        if constant is None:
            self.activations[bits] += 1
        elif source is not None and source not in self.seen:
            self.weights[bits] += constant.size
            self.operators.update(_readers(node.outputs[0]))

    def _weights(self, node: ir.Node) -> None:
        counted = False
        for place in _WEIGHTS[node.op_type]:
            value = node.inputs[place] if place < len(node.inputs) else None
            constant = _constant(value) if value is not None else None
            if value is None or constant is None or value in self.seen:
                continue
            if constant.dtype == ir.DataType.INT32:
                self.biases += constant.size
            elif constant.dtype in _BITS:
                bits = node.attributes.get_int("bits", _BITS[constant.dtype])
                self.weights[bits] += constant.size * (_BITS[constant.dtype] // bits or 1)
                counted = True
        if node.op_type != "DequantizeLinear":
            self.operators[node.op_type] += 1
            if node.op_type.startswith("Q"):
                self.activations[8] += 1
        elif counted:
            self.operators.update(_readers(node.outputs[0]))

    def precision(self) -> str:
        """By what most weights and most activations have."""
        bits = self.weights.most_common(1)[0][0] if self.weights else 8
        if self.activations:
            wide = self.activations.most_common(1)[0][0]
            return f"int{bits}" if wide == bits else f"w{bits}a{wide}"
        if self.dynamic:
            return f"int{bits}-dynamic"
        return f"int{bits}" if bits < 8 else f"int{bits}-weights"


def _readers(value: ir.Value) -> Iterator[str]:
    """The operators that read a value, or what DequantizeLinear makes of it."""
    for use in value.uses():
        if use.node.op_type == "DequantizeLinear":
            yield from _readers(use.node.outputs[0])
        else:
            yield use.node.op_type


def _floats(model: ir.Model, found: _Found) -> Counter[ir.DataType]:
    """Floating-point type → constants of it that are no scales."""
    counts: Counter[ir.DataType] = Counter()
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point() and value not in found.seen:
                counts[tensor.dtype] += tensor.size
    return counts


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    return value.const_value


def _counts(operators: Counter[str]) -> str:
    shown = ", ".join(f"{count} {name}" for name, count in operators.most_common(_SHOWN))
    return shown + (", …" if len(operators) > _SHOWN else "")


def refuse_packed(spec: str, module: torch.nn.Module) -> None:
    """Refuse PyTorch's own quantized modules: their weights are packed in a form that no exporter can follow.

    Raises:
        SourceError: names the first of them, and what to bring instead.
    """
    for name, part in module.named_modules():
        if ".quantized" in type(part).__module__ and type(part).__module__.startswith(("torch.ao.", "torch.nn.")):
            where = f"'{name}'" if name else "the model"
            kind = f"{type(part).__module__}.{type(part).__name__}"
            raise SourceError(
                f"{spec} is quantized already, by torch.ao: {where} is a {kind}, whose packed weights torch.export "
                "cannot follow",
                fix="Bring the float model: edgekit quantizes it for each engine. Or quantize it with "
                "torch.ao.quantization.quantize_pt2e, or as an ONNX file, and bring that.",
            )

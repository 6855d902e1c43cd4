"""Scales, zero points and integers, and the QuantizeLinear and DequantizeLinear nodes that carry them.

integer = saturate(round(real / scale) + zero_point)        real = (integer − zero_point) · scale
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import UsageError
from ..graph import MODULE_PATH, add_initializer
from .plan import NodePlan, Plan

_DTYPES = {
    "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8,
    "uint16": ir.DataType.UINT16,
    "int16": ir.DataType.INT16,
}
_WEIGHT_DTYPES = {"int8": ir.DataType.INT8, "uint8": ir.DataType.UINT8, "int4": ir.DataType.INT4}
_EIGHT_BITS = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32)  # and the biases' type
# A bias integer has the scale of the products it is added to; this leaves the accumulator half of its range.
_BIAS_LIMIT = 2.0**30
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Scheme:
    """How real numbers become integers."""

    activations: str = "uint8"
    weights: str = "int8"
    per_channel: bool = True
    symmetric: bool = False  # activations: zero point in the middle, ranges widened to match
    reduce_range: bool = False  # weights in 7 bits, for x86 CPUs without VNNI, whose U8S8 products saturate
    bias: str = "int32"  # or "float": engines that add it to the dequantized products

    def __post_init__(self) -> None:
        for field, allowed in (
            ("activations", _DTYPES),
            ("weights", _WEIGHT_DTYPES),
            ("bias", ("int32", "float")),
        ):
            got = getattr(self, field)
            if got not in allowed:
                raise ValueError(f"'{field}' must be one of {', '.join(allowed)}, got '{got}'")


@dataclass(frozen=True, slots=True)
class Params:
    """Scale and zero point of one activation."""

    scale: np.float32
    zero_point: int
    dtype: ir.DataType


def activation_params(low: float, high: float, dtype: str, symmetric: bool = False) -> Params:
    """Scale and zero point so that the integers span ``low`` to ``high``; 0 is an integer exactly.

        scale = (high − low) / (levels − 1)        zero_point = round(lowest − low / scale)

    Symmetric: ``high = −low = max(|low|, |high|)``, and the zero point is the middle.
    """
    limits = np.iinfo(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        middle = 0 if limits.min < 0 else (limits.max + 1) // 2
        scale = np.float32(max(-low, high) / (limits.max - middle))
        return Params(scale if scale >= _TINY else np.float32(1), middle, _DTYPES[dtype])
    scale = np.float32((high - low) / (limits.max - limits.min))
    if not scale >= _TINY:  # nothing but zeros was seen, or so small that float32 has no exact scale for it
        return Params(np.float32(1), int(limits.min), _DTYPES[dtype])
    zero_point = int(np.clip(np.round(limits.min - low / float(scale)), limits.min, limits.max))
    return Params(scale, zero_point, _DTYPES[dtype])


def quantize_weights(
    weights: NDArray[np.float32],
    axis: int | None,
    dtype: str = "int8",
    *,
    reduce_range: bool = False,
    least_scale: NDArray[np.float32] | None = None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Symmetric integers of ``weights``: shape [A, B], axis 0 → integers [A, B], scale [A]; axis None → scale [].

    The zero point is 0, or 128 for uint8. 4-bit integers come as ml_dtypes' ``int4``.

    Args:
        weights: float32.
        axis: the axis along which each slice has a scale of its own; None: one for all.
        dtype: ``int8``, ``uint8`` or ``int4``.
        reduce_range: use 7 bits of the 8.
        least_scale: no scale may be below this (broadcast), lest a bias overflow.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis) if axis is not None else None
    peak = np.abs(weights).max(axis=others)
    top = 7 if dtype == "int4" else 127
    scale = np.asarray(peak / np.float32(63 if reduce_range and top == 127 else top), np.float32)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale if axis is not None else np.float32(least_scale.max()))
    scale = np.where(scale >= _TINY, scale, np.float32(1))
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    integers = np.clip(np.rint(weights / scale.reshape(shape)), -top, top)
    if dtype == "uint8":
        return (integers + 128).astype(np.uint8), scale
    if dtype == "int4":
        return integers.astype(ir.DataType.INT4.numpy()), scale
    return integers.astype(np.int8), scale


def insert(model: ir.Model, plan: Plan, ranges: Mapping[str, tuple[float, float]], scheme: Scheme) -> None:
    """Put the plan into the graph: quantize and dequantize every planned tensor, in place.

    Args:
        model: the graph the plan was made of.
        plan: see `_plan.make_plan`.
        ranges: name of each of ``plan.activations()`` → ``(low, high)``.
        scheme: the integers' dtypes.

    Raises:
        UsageError: the graph's opset has no such QuantizeLinear.
    """
    _Inserter(model, scheme).insert(plan, ranges)


class _Inserter:
    def __init__(self, model: ir.Model, scheme: Scheme) -> None:
        self.model, self.graph, self.scheme = model, model.graph, scheme
        opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
        if opset < 13:
            raise UsageError(f"per-axis QuantizeLinear needs opset 13, the graph has {opset}", fix="Export it again.")
        # Before opset 21 the standard operators know 8 bits only.
        self.old = opset < 21
        self.domain = self._domain(_DTYPES[scheme.activations])
        if self.domain or self._domain(_WEIGHT_DTYPES[scheme.weights]):
            model.opset_imports.setdefault("com.microsoft", 1)
        self.params: dict[ir.Value, tuple[Params, ir.Value, ir.Value]] = {}
        self.dequantized: dict[ir.Value, ir.Value] = {}  # what was computed → the same, through integers
        self.source: dict[ir.Value, ir.Value] = {}  # the other way round
        self.taken = {value.name for node in self.graph for value in node.outputs} | set(self.graph.initializers)

    def _domain(self, dtype: ir.DataType) -> str:
        """The operator set whose QuantizeLinear takes these integers."""
        return "com.microsoft" if self.old and dtype not in _EIGHT_BITS else ""

    def insert(self, plan: Plan, ranges: Mapping[str, tuple[float, float]]) -> None:
        for item in plan.nodes.values():
            for index in item.activations:
                value = item.node.inputs[index]
                assert value is not None
                if value in self.source:  # computed by a quantized node: it reads the integers already
                    continue
                item.node.replace_input_with(index, self._pair(value, ranges, reader=item.node))
            for index in item.constants:
                item.node.replace_input_with(index, self._constant_input(item.node, index))
            if item.weight is not None:
                self._weights(item)
            if item.output is not None:
                self._output(item, ranges)

    def _output(self, item: NodePlan, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Quantize what the node computes; everybody reads the integers from here on."""
        node, value = item.node, item.output
        assert value is not None and value.name is not None
        if item.same_scale:
            source = node.inputs[0]
            assert source is not None
            self.params[value] = self.params[self.source[source]]
        else:
            self._activation_params(value, ranges)
        readers = [use for use in value.uses() if use.node.graph is self.graph]
        if item.absorbed is not None:
            # The integers start at the zero point, so they cannot hold what the Relu would remove.
            result = self._pair(node.outputs[0], ranges, reader=node, named=value)
        else:
            result = self._pair(value, ranges, reader=node)
        for use in readers:
            use.node.replace_input_with(use.idx, result)
        for other in item.more_outputs:
            self._output(replace(item, output=other, more_outputs=(), absorbed=None), ranges)
        for position, output in enumerate(self.graph.outputs):
            if output is value:
                name = value.name
                value.name = f"{name}_float"
                result.name = name
                self.graph.outputs[position] = result
        if item.absorbed is not None and not value.uses():
            self.graph.remove(item.absorbed, safe=True)

    def _activation_params(
        self, value: ir.Value, ranges: Mapping[str, tuple[float, float]]
    ) -> tuple[Params, ir.Value, ir.Value]:
        if value not in self.params:
            assert value.name is not None
            params = activation_params(*ranges[value.name], self.scheme.activations, self.scheme.symmetric)
            scale = self._constant(f"{value.name}_scale", np.array(params.scale))
            zero = self._constant(f"{value.name}_zero_point", np.array(params.zero_point, params.dtype.numpy()))
            self.params[value] = (params, scale, zero)
        return self.params[value]

    def _pair(
        self,
        value: ir.Value,
        ranges: Mapping[str, tuple[float, float]],
        reader: ir.Node,
        named: ir.Value | None = None,
    ) -> ir.Value:
        """Quantize and dequantize ``value``, right after it is computed. ``named``: whose range and name it has."""
        stands_for = named or value
        if stands_for in self.dequantized:
            return self.dequantized[stands_for]
        params, scale, zero = self._activation_params(stands_for, ranges)
        quantize = self._node("QuantizeLinear", [value, scale, zero], f"{stands_for.name}_quantized", params.dtype)
        dequantize = self._node(
            "DequantizeLinear",
            [quantize.outputs[0], scale, zero],
            f"{stands_for.name}_dequantized",
            ir.DataType.FLOAT,
        )
        for node in (quantize, dequantize):
            node.outputs[0].shape = stands_for.shape
            self._belongs_to(node, reader)
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], (quantize, dequantize))
        else:
            self.graph.insert_after(producer, (quantize, dequantize))
        self.dequantized[stands_for] = dequantize.outputs[0]
        self.source[dequantize.outputs[0]] = stands_for
        return dequantize.outputs[0]

    def _weights(self, item: NodePlan) -> None:
        """Replace the weights and the bias by integers; what else reads them keeps the float ones."""
        node, scheme = item.node, self.scheme
        assert item.weight is not None
        weights, name = _constant_of(node, item.weight)
        adder = item.bias_of or node
        whole_bias = item.bias is not None and scheme.bias == "int32"
        bias = _constant_of(adder, item.bias)[0] if whole_bias and item.bias is not None else None
        input_scale = self._scale_of_input(node)
        axis = item.axis if scheme.per_channel and not item.one_scale else None
        dtype = item.weights_as or scheme.weights
        least = None if bias is None else np.asarray(np.abs(bias) / (input_scale * _BIAS_LIMIT), np.float32)
        integers, scale = quantize_weights(weights, axis, dtype, reduce_range=scheme.reduce_range, least_scale=least)
        zero = np.full(scale.shape, 128 if dtype == "uint8" else 0).astype(integers.dtype)
        node.replace_input_with(item.weight, self._dequantized_constant(node, name, integers, scale, zero, axis))
        if bias is not None and item.bias is not None:
            bias_scale = np.asarray(scale * input_scale, np.float32)
            limit = np.iinfo(np.int32)
            whole = np.clip(np.rint(bias.astype(np.float64) / bias_scale), limit.min, limit.max).astype(np.int32)
            label = _constant_of(adder, item.bias)[1]
            zeros = np.zeros(bias_scale.shape, np.int32)
            value = self._dequantized_constant(adder, label, whole, bias_scale, zeros, 0 if bias_scale.ndim else None)
            adder.replace_input_with(item.bias, value)

    def _constant_input(self, node: ir.Node, index: int) -> ir.Value:
        """A constant that is no weights, as integers over its own range; nodes that share it share them."""
        value = node.inputs[index]
        assert value is not None
        if value not in self.dequantized:
            array, name = _constant_of(node, index)
            low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
            params = activation_params(low, high, self.scheme.activations, self.scheme.symmetric)
            limits = np.iinfo(params.dtype.numpy())
            real = np.rint(array.astype(np.float64) / float(params.scale)) + params.zero_point
            integers = np.clip(real, limits.min, limits.max).astype(params.dtype.numpy())
            scale, zero = np.array(params.scale), np.array(params.zero_point, params.dtype.numpy())
            result = self._dequantized_constant(node, name, integers, scale, zero, None)
            dequantize = result.producer()
            assert dequantize is not None
            self.params[value] = (params, *dequantize.inputs[1:3])  # type: ignore[assignment]
            self.dequantized[value], self.source[result] = result, value
        return self.dequantized[value]

    def _scale_of_input(self, node: ir.Node) -> np.float32:
        value = node.inputs[0]
        assert value is not None
        return self.params[self.source[value]][0].scale

    def _dequantized_constant(
        self,
        node: ir.Node,
        name: str,
        integers: NDArray[Any],
        scale: NDArray[Any],
        zero: NDArray[Any],
        axis: int | None,
    ) -> ir.Value:
        inputs = [
            self._constant(f"{name}_quantized", integers),
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero_point", zero),
        ]
        attributes = {} if axis is None else {"axis": axis}
        dtype = inputs[0].dtype
        assert dtype is not None
        dequantize = self._node(
            "DequantizeLinear", inputs, f"{name}_dequantized", ir.DataType.FLOAT, attributes, self._domain(dtype)
        )
        dequantize.outputs[0].shape = ir.Shape(integers.shape)
        self._belongs_to(dequantize, node)
        self.graph.insert_before(node, dequantize)
        return dequantize.outputs[0]

    def _node(
        self,
        op_type: str,
        inputs: list[ir.Value],
        output: str,
        dtype: ir.DataType,
        attributes: dict[str, int] | None = None,
        domain: str | None = None,
    ) -> ir.Node:
        result = ir.Value(name=self._fresh(output), type=ir.TensorType(dtype))
        domain = self.domain if domain is None else domain
        return ir.node(op_type, inputs, attributes, domain=domain, outputs=[result], name=f"{result.name}_{op_type}")

    def _constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        return add_initializer(self.graph, self._fresh(name), array)

    def _fresh(self, name: str) -> str:
        """``name``, or ``name_2``, … where it is taken (weights that two nodes share)."""
        candidate, number = name, 2
        while candidate in self.taken:
            candidate, number = f"{name}_{number}", number + 1
        self.taken.add(candidate)
        return candidate

    @staticmethod
    def _belongs_to(node: ir.Node, owner: ir.Node) -> None:
        if MODULE_PATH in owner.metadata_props:
            node.metadata_props[MODULE_PATH] = owner.metadata_props[MODULE_PATH]


def _constant_of(node: ir.Node, index: int) -> tuple[NDArray[Any], str]:
    value = node.inputs[index]
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    assert value is not None and value.name is not None and tensor is not None
    return tensor.numpy(), value.name

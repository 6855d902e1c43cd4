"""Move a float32 graph to a 16-bit floating-point type, with Casts only where the two meet.

A node is converted where its operator's schema allows the type for all its float32 inputs and outputs. Constants that
it reads are converted with it; a constant that the type cannot hold keeps its node in float32, except for stand-ins of
infinity (attention masks of −3.4e38), which become the type's largest number. Bodies of If, Loop and Scan stay float32.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from ..contracts import Array
from ..graph import MODULE_PATH, add_initializer, module_path
from . import Change, GraphPass
from ._rewriting import forget_unused, is_onnx, tensor_of, unique_names
from .infer_shapes import InferShapes


@dataclass(frozen=True, slots=True)
class Precision:
    """What stays in float32.

    Args:
        keep_io: inputs and outputs of the graph, with Casts behind and before them.
        keep_op_types: operators that lose more by a 16-bit type than they gain (counting, coordinates, order), and
            those that state a quantization.
    """

    keep_io: bool = True
    keep_op_types: tuple[str, ...] = (
        "CumSum",
        "DequantizeLinear",
        "NonMaxSuppression",
        "QuantizeLinear",
        "Range",
        "Resize",
        "RoiAlign",
        "TopK",
    )


class ConvertFloat(GraphPass):
    """Base of the passes for float16 and bfloat16, which set ``name`` and ``dtype``."""

    Options = Precision
    dtype: ir.DataType

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Convert what can be, and name what stays in float32 because a constant does not fit."""
        model = InferShapes()(model).model  # every type must be known
        converter = _Converter(model, self.dtype, self.options, self.context.keep_float)
        count = converter.convert()
        if not count:
            why = converter.summary() or "no node computes in float32"
            return model, Change(False, why)
        unique_names(model)
        detail = f"{count} of {count + converter.kept.total()} float32 nodes compute in {self.dtype.numpy().name}"
        return model, Change(True, "; ".join(part for part in (detail, converter.summary()) if part))


class _Converter:
    """One conversion of one graph."""

    def __init__(self, model: ir.Model, dtype: ir.DataType, options: Precision, keep: frozenset[str]) -> None:
        self.graph, self.dtype, self.options, self.keep_names = model.graph, dtype, options, keep
        self.opsets = model.opset_imports
        self.kept: Counter[str] = Counter()  # reason → nodes
        self.clipped = 0
        self.places: dict[ir.Node, tuple[set[int], set[int]]] = {}  # node → the inputs and outputs that change type
        self.low: set[ir.Value] = set()  # values of the new type
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.constants: dict[ir.Value, ir.Value] = {}

    def summary(self) -> str:
        """What stays, by reason, and what was clipped."""
        parts = [f"{count} stay: {reason}" for reason, count in self.kept.most_common()]
        if self.clipped:
            parts.append(f"clipped {self.clipped} constants that stand for infinity")
        return "; ".join(parts)

    def convert(self) -> int:
        """Convert, and count the nodes that changed."""
        self._decide()
        if not self.places:
            return 0
        if not self.options.keep_io:
            self.low |= {value for value in self.graph.inputs if value.dtype == ir.DataType.FLOAT}
        for node, (_, outputs) in self.places.items():
            self.low |= {node.outputs[place] for place in outputs}
        for node in list(self.graph):
            self._feed(node)
        self._return()
        for node in self.places:
            if is_onnx(node, "Cast"):
                node.attributes["to"] = ir.AttrInt64("to", self.dtype.value)
        for value in self.low:
            value.type = ir.TensorType(self.dtype)  # not its dtype: a clone's may be the same object
        return len(self.places)

    def _decide(self) -> None:
        """Find the nodes to convert. A Cast to float32 follows its readers, so they come first."""
        for node in reversed(list(self.graph)):
            inputs = {i for i, value in enumerate(node.inputs) if value and value.dtype == ir.DataType.FLOAT}
            outputs = {i for i, value in enumerate(node.outputs) if value.dtype == ir.DataType.FLOAT}
            if not inputs and not outputs:
                continue
            if is_onnx(node, "Cast"):
                # Integers may need all digits of float32; a Cast from 16 bits is a border drawn before.
                users = [(use.node, use.idx) for use in node.outputs[0].uses()]
                wanted = users and all(user in self.places and place in self.places[user][0] for user, place in users)
                source = node.inputs[0].dtype if node.inputs[0] else None
                if outputs and wanted and source != self.dtype and not node.outputs[0].is_graph_output():
                    self.places[node] = (set(), outputs)
                continue
            found = self._convertible(node, inputs, outputs)
            if isinstance(found, str):
                self.kept[found] += 1
            else:
                self.places[node] = found

    def _convertible(self, node: ir.Node, inputs: set[int], outputs: set[int]) -> tuple[set[int], set[int]] | str:
        """The inputs and outputs that change type; or why the node stays."""
        if node.op_type in self.options.keep_op_types:
            return f"{node.op_type} is kept by its type"
        if node.name in self.keep_names:
            return f"'{node.name}' is kept by its name"
        version = self.opsets.get(node.domain)
        if version is None or not onnx.defs.has(node.op_type, version, node.domain):
            return f"{node.domain or 'ai.onnx'}::{node.op_type} is unknown to onnx"
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        low = f"tensor({self.dtype.name.lower()})"
        change: set[int] = set()
        parameters: set[str] = set()
        for place in inputs:
            kind = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
            if kind == "tensor(float)":
                continue  # float32 by definition, as Resize's scales
            if low not in allowed.get(kind, ()):
                return f"{node.op_type} does not take {self.dtype.numpy().name}"
            change.add(place)
            parameters.add(kind)
        for place in outputs:
            kind = schema.outputs[min(place, len(schema.outputs) - 1)].type_str
            if kind not in parameters:
                # Its type is set by an attribute, or fixed.
                return f"{node.op_type} makes float32 whatever it reads"
        unfit = [name for place in change if (name := self._unfit(node.inputs[place]))]
        if unfit:
            return f"'{node.name}' reads '{unfit[0]}', whose values do not fit {self.dtype.numpy().name}"
        return change, outputs

    def _unfit(self, value: ir.Value | None) -> str:
        """The name of a constant that the type cannot hold, else ''."""
        tensor = tensor_of(value)
        if value is None or tensor is None:
            return ""
        array = tensor.numpy()
        with np.errstate(over="ignore"):
            low = array.astype(self.dtype.numpy())
        lost = np.isfinite(array) & ~np.isfinite(low) & (np.abs(array) < _LIKE_INFINITY)
        vanished = array.size == 1 and bool((array != 0).all()) and not bool((low != 0).any())  # an epsilon
        return value.name or "?" if lost.any() or vanished else ""

    def _feed(self, node: ir.Node) -> None:
        """Give a node each float32 or 16-bit input in the type that it takes."""
        change = self.places.get(node, (set(), set()))[0]
        for place, value in enumerate(node.inputs):
            if value is None or (value.dtype != ir.DataType.FLOAT and value not in self.low):
                continue
            wants_low = place in change
            if wants_low and tensor_of(value) is not None and value.is_initializer():
                node.replace_input_with(place, self._constant(value))
                forget_unused([value])
            elif wants_low != (value in self.low) and not is_onnx(node, "Cast"):  # which takes any type
                node.replace_input_with(place, self._cast(value, self.dtype if wants_low else ir.DataType.FLOAT, node))
        for attribute in node.attributes.values():
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                graphs = [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else attribute.as_graphs()
                for graph in graphs:
                    for inner in ir.traversal.RecursiveGraphIterator(graph):
                        for place, value in enumerate(inner.inputs):
                            if value is not None and value in self.low:
                                inner.replace_input_with(place, self._cast(value, ir.DataType.FLOAT, node))

    def _return(self) -> None:
        """Give the graph's outputs the type they had, under their names."""
        for place, value in enumerate(self.graph.outputs):
            if value not in self.low or not self.options.keep_io:
                continue
            name, shape = value.name, value.shape
            value.name = f"{name}_{self.dtype.numpy().name}"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
            result = cast.outputs[0]
            result.name, result.dtype, result.shape = name, ir.DataType.FLOAT, shape
            maker = value.producer()
            if maker is not None and (path := module_path(maker)):
                cast.metadata_props[MODULE_PATH] = path
            self.graph.append(cast)
            self.graph.outputs[place] = result

    def _cast(self, value: ir.Value, to: ir.DataType, reader: ir.Node) -> ir.Value:
        """``value`` in the type ``to``; one Cast serves all readers."""
        if (value, to) not in self.casts:
            cast = ir.node("Cast", [value], {"to": to.value})
            result = cast.outputs[0]
            result.name, result.dtype, result.shape = f"{value.name}_{to.numpy().name}", to, value.shape
            maker = value.producer()
            path = module_path(maker) if maker is not None else ""
            if path := path or module_path(reader):
                cast.metadata_props[MODULE_PATH] = path
            if maker is not None:
                self.graph.insert_after(maker, cast)
            else:
                self.graph.insert_before(self.graph[0], cast)
            self.casts[value, to] = result
        return self.casts[value, to]

    def _constant(self, value: ir.Value) -> ir.Value:
        """A 16-bit copy of a constant; the original may be shared with nodes that stay."""
        if value not in self.constants:
            tensor = tensor_of(value)
            array: Array = np.zeros(0) if tensor is None else tensor.numpy()
            largest = float(ml_dtypes.finfo(self.dtype.numpy()).max)  # type: ignore[no-untyped-call]
            low = np.where(np.isfinite(array), np.clip(array, -largest, largest), array).astype(self.dtype.numpy())
            self.clipped += bool((np.isfinite(array) & (np.abs(array) > largest)).any())
            self.constants[value] = add_initializer(self.graph, f"{value.name}_{self.dtype.numpy().name}", low)
        return self.constants[value]


# Nobody computes with numbers this large: a mask writes float32's lowest number for −∞.
_LIKE_INFINITY = 1e30

"""Work out the shape and dtype of every value, with onnx's shape inference.

Weights stay out of it: onnx wants the graph as one protobuf message, which ends at 2 GiB, so only what a shape can
depend on (small constants) goes in.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ..graph import clone
from . import Change, GraphPass

# A constant that is a shape, axes, pads, a slice's bounds or an index is smaller than this.
_SHAPE_LIKE_BYTES = 1024


class InferShapes(GraphPass):
    """Fill in shapes and dtypes."""

    name = "infer_shapes"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Infer, take over what became more precise, and say what stays unknown."""
        light, complaint = _weightless(model), ""
        try:
            inferred = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            # Not strict, it infers what it can around the node that it cannot make sense of.
            complaint = f"; onnx says: {' '.join(str(error).split())}"
            inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
        changed = _merge(model, ir.from_proto(inferred))
        values = [value for graph in model.graphs() for node in graph for value in node.outputs if value.name]
        unknown = sum(value.shape is None for value in values)
        rest = (f"; {unknown} stay unknown" if unknown else "") + complaint
        return model, Change.of(
            changed,
            f"found {changed} of {len(values)} shapes{rest}",
            f"{len(values) - unknown} of {len(values)} shapes are known already{rest}",
        )


def _weightless(model: ir.Model) -> onnx.ModelProto:
    """The graph with its large initializers turned into inputs."""
    light = clone(model)
    for graph in light.graphs():
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= _SHAPE_LIKE_BYTES:
                continue
            value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
            graph.initializers.pop(name)
            value.const_value = None
            if value not in graph.inputs:
                light.graph.inputs.append(value)
    return ir.to_proto(light)


def _merge(model: ir.Model, inferred: ir.Model) -> int:
    """Take shapes and dtypes over from a copy of the model, by name, and count the values that gained by it."""
    changed = 0
    for graph, twin in zip(model.graphs(), inferred.graphs(), strict=True):
        known = ir.convenience.create_value_mapping(twin)
        for name, value in ir.convenience.create_value_mapping(graph).items():
            other = known.get(name)
            if other is None or value.is_initializer():
                continue
            gained = False
            if other.shape is not None and value.shape != other.shape:
                value.shape, gained = other.shape, True
            if other.type is not None and value.type != other.type:
                value.type, gained = other.type, True
            changed += gained
    return changed


PLUGIN = InferShapes

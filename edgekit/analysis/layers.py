"""What a bundle says of its graph's nodes, so that a device without onnx can tell what its engine's time went into."""

from __future__ import annotations

import json
import math
from typing import Any

import onnx_ir as ir

from ..contracts import Feeds
from ..graph import clone, module_path
from .cost import with_fixed_shapes
from .macs import UnknownShapeError, macs

SCHEMA = 1


def layers_json(model: ir.Model, feeds: Feeds) -> bytes:
    """The content of a bundle's ``layers.json``.

    ``nodes``, in the graph's order: name, operator, PyTorch module ('' where not known), MACs (null where a shape is
    not known), names of the tensors read and written. ``tensors``: name → elements and bytes (null where not known),
    and whether it is a constant. Nodes inside branches and loop bodies are left out.

    Args:
        model: the artifact's graph, or for another format the graph it was converted from. Left as it was.
        feeds: inputs, whose sizes the free dimensions are given.
    """
    bound = _sizes(model, feeds)
    known = with_fixed_shapes(model, bound)
    shaped = _with_shapes_of(clone(model), known)
    tensors: dict[str, dict[str, Any]] = {}
    nodes = []
    for node in shaped.graph:
        if node.op_type == "Constant":
            continue
        read = [value for value in node.inputs if value is not None and value.name]
        written = [value for value in node.outputs if value.name]
        for value in (*read, *written):
            tensors.setdefault(value.name or "", _tensor(value))
        nodes.append(
            {
                "name": node.name or "",
                "op_type": node.op_type,
                "module": module_path(node),
                "macs": _macs(node),
                "inputs": [value.name for value in read],
                "outputs": [value.name for value in written],
            }
        )
    table = {"schema": SCHEMA, "dims": dict(bound), "nodes": nodes, "tensors": tensors}
    return (json.dumps(table, separators=(",", ":")) + "\n").encode()


def _sizes(model: ir.Model, feeds: Feeds) -> dict[str, int]:
    """The free dimensions' sizes in these inputs."""
    return {
        dim.value: int(size)
        for value in model.graph.inputs
        if value.shape is not None and value.name is not None and value.name in feeds
        for dim, size in zip(value.shape, feeds[value.name].shape, strict=False)
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }


def _with_shapes_of(model: ir.Model, known: ir.Model) -> ir.Model:
    """``model`` with the shapes of the values that ``known``, the same graph further folded, has by the same name."""
    shapes = {
        value.name: value.shape
        for node in known.graph
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.shape is not None and value.shape.is_static()
    }
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        if value.name in shapes:
            value.shape = shapes[value.name]
    return model


def _macs(node: ir.Node) -> int | None:
    try:
        return macs(node) or 0
    except UnknownShapeError:
        return None


def _tensor(value: ir.Value) -> dict[str, Any]:
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return {"elements": constant.size, "bytes": constant.nbytes, "constant": True}
    if value.shape is None or not value.shape.is_static() or value.dtype is None or value.dtype.bitwidth <= 0:
        return {"elements": None, "bytes": None, "constant": False}
    elements = math.prod(value.shape.numpy())
    return {"elements": elements, "bytes": math.ceil(elements * value.dtype.itemsize), "constant": False}

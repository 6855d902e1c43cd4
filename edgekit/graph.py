"""Small questions about an ``onnx_ir`` graph that several stages ask."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import onnx_ir as ir

from .contracts import Array, TensorSpec
from .errors import SourceError


def specs(model: ir.Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs to feed and the outputs to expect, in the graph's order.

    An input that has an initializer of its name holds a default value (files before IR version 4 list every weight
    so): nobody has to feed it, and it is left out. A free dimension without a name is called after its place:
    dimension 1 of ``x`` is ``x.1``.

    Raises:
        SourceError: an input or output whose dtype or rank is unknown, or which is a sequence or an optional.
    """
    initializers = model.graph.initializers
    inputs = tuple(_spec(value) for value in model.graph.inputs if value.name not in initializers)
    return inputs, tuple(_spec(value) for value in model.graph.outputs)


def _spec(value: ir.Value) -> TensorSpec:
    name = value.name or ""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise SourceError(f"'{name}' is a {value.type}; edgekit feeds and reads tensors only")
    if value.dtype is None or value.shape is None:
        missing = "dtype" if value.dtype is None else "rank"
        raise SourceError(f"the graph does not state the {missing} of '{name}'", fix="Run the pass infer_shapes first.")
    shape = tuple(
        dim if isinstance(dim, int) else dim.value or f"{name}.{axis}" for axis, dim in enumerate(value.shape)
    )
    return TensorSpec(name, dtype_name(value.dtype), shape)


def dtype_name(dtype: ir.DataType) -> str:
    """TensorSpec's name of a dtype: numpy's or ml_dtypes' (``float32``, ``bfloat16``, ``int4``), or ``string``.

    Raises:
        SourceError: ``UNDEFINED``, which has none.
    """
    if dtype == ir.DataType.STRING:
        return "string"
    try:
        return dtype.numpy().name
    except TypeError as error:
        raise SourceError(f"the ONNX data type {dtype.name} has no numpy dtype") from error


def clone(model: ir.Model) -> ir.Model:
    """A copy whose nodes and values are its own and whose weights are shared with ``model``.

    It costs time by the node, not by the byte. Tensors are never edited in place (a pass assigns a new one to
    ``value.const_value``), so changing either model leaves the other as it was.
    """
    twin = model.clone()
    for graph in all_graphs(twin):
        for value in (*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)):
            # onnx_ir hands the type object itself over, and assigning `value.dtype` edits it: both would change.
            value.type = copy.deepcopy(value.type)
    return twin


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, the functions' bodies, and every subgraph of theirs (branches of If, bodies of Loop and Scan)."""
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        yield graph
        yield from graph.subgraphs()


def initializer_bytes(model: ir.Model, larger_than: int = 0) -> int:
    """Size of all initializers, those of subgraphs too; a tensor that several of them share counts once.

    Args:
        model: the graph.
        larger_than: leave out tensors of up to this many bytes.
    """
    sizes = {
        id(value.const_value): value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    return sum(size for size in sizes.values() if size > larger_than)


def count_nodes(model: ir.Model) -> int:
    """Number of nodes in the main graph; constants do not count."""
    return sum(1 for node in model.graph if node.op_type != "Constant")


def module_path(node: ir.Node) -> str:
    """The PyTorch module that a node came from (``encoder.layers.0.mlp``), or '' where the graph does not tell."""
    return node.metadata_props.get(MODULE_PATH, "")


MODULE_PATH = "edgekit.module"
"""Key of a node's metadata: dotted path of its PyTorch module. Written by the exporters, kept by the passes."""


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new initializer called ``name``, or ``name_1``… where that is taken."""
    free, count = name, 0
    while free in graph.initializers:
        count += 1
        free = f"{name}_{count}"
    value = ir.Value(name=free, const_value=ir.tensor(array, name=free))
    value.dtype, value.shape = value.const_value.dtype, ir.Shape(array.shape)  # type: ignore[union-attr]
    graph.register_initializer(value)
    return value

"""What the rewriting passes share: reading constants, replacing nodes, keeping module paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from ..contracts import Array
from ..graph import MODULE_PATH, all_graphs, module_path


def is_onnx(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the standard set."""
    return node is not None and node.domain == "" and node.op_type in op_types


def opset(model: ir.Model) -> int:
    """The version of the standard operator set."""
    return model.opset_imports.get("", 0)


def int_of(node: ir.Node, attribute: str, default: int) -> int:
    """An integer attribute, or the operator's default."""
    return node.attributes[attribute].as_int() if attribute in node.attributes else default


def float_of(node: ir.Node, attribute: str, default: float) -> float:
    """A floating-point attribute, or the operator's default."""
    return node.attributes[attribute].as_float() if attribute in node.attributes else default


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """A value's constant tensor, or None where it is computed, or fed (an input with a default may be fed)."""
    if value is None or value.is_graph_input():
        return None
    return ir.convenience.get_const_tensor(value)


def constant(value: ir.Value | None) -> Array | None:
    """A value's constant array; see `tensor_of`. Treat it as read-only: it may be a shared weight."""
    tensor = tensor_of(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None, rank: int | None = None) -> float | None:
    """The number a constant of one element holds.

    Args:
        value: the candidate.
        rank: the rank of the tensor that it is combined with; a constant of more dimensions than that would add some,
            so it is no scalar. None: not known.
    """
    tensor = tensor_of(value)
    if tensor is None or tensor.size != 1 or len(tensor.shape) > (rank or 0):
        return None
    return float(tensor.numpy().reshape(()).astype(np.float64))


def rank_of(value: ir.Value) -> int | None:
    """Number of dimensions, where known."""
    return None if value.shape is None else len(value.shape)


def single_user(value: ir.Value) -> ir.Node | None:
    """The only node that reads ``value``, or None: several do, one does twice, or the graph returns it."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def main_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the main graph and its subgraphs. Not of functions: their bodies have no initializers."""
    for graph in list(model.graphs()):
        yield from list(graph)


def forget_unused(values: Sequence[ir.Value | None]) -> None:
    """Drop those initializers that nobody reads any more."""
    for value in values:
        if value is None or not value.is_initializer() or value.uses():
            continue
        if not (value.is_graph_output() or value.is_graph_input()) and value.graph is not None:
            value.graph.initializers.pop(value.name or "", None)


def replace(old: Sequence[ir.Node], new: Sequence[ir.Node], old_output: ir.Value, new_output: ir.Value) -> None:
    """Put ``new`` in the place of ``old``. The output keeps its name, type and shape; ``new`` get a module path.

    Args:
        old: the nodes to remove; outside of them, only ``old_output`` is read.
        new: the nodes that come instead, in order.
        old_output: what the rest of the graph reads; an output of one of ``old``.
        new_output: what takes its place; an output of one of ``new``.
    """
    last = old_output.producer()
    if last is None or last.graph is None:
        raise ValueError(f"'{old_output.name}' is not computed by a node of a graph")
    path = common_path(old)
    for node in new:
        if path and not module_path(node):
            node.metadata_props[MODULE_PATH] = path
    inputs = [value for node in old for value in node.inputs]
    order = {node: place for place, node in enumerate(last.graph)}
    remove = sorted(set(old), key=lambda node: -order[node])
    ir.convenience.replace_nodes_and_values(last.graph, last, remove, new, [old_output], [new_output])
    forget_unused(inputs)


def common_path(nodes: Sequence[ir.Node]) -> str:
    """The module that all of ``nodes`` lie in: the longest common prefix of their paths, leaving out unknown ones."""
    paths = sorted({path for node in nodes if (path := module_path(node))})
    if not paths:
        return ""
    # The first and the last in sorted order differ the most, so what they share, all share.
    parts = zip(paths[0].split("."), paths[-1].split("."), strict=False)
    return ".".join(left for left, right in takewhile(lambda pair: pair[0] == pair[1], parts))


@contextmanager
def kept_module_paths(model: ir.Model) -> Iterator[None]:
    """Around a rewrite by a library that does not know `MODULE_PATH`: nodes it makes get the path they should have.

    A new node takes the path of the node that computed its output before, else that of the first node that reads it,
    else that of the first node it reads.
    """
    before = {
        output.name: path
        for graph in all_graphs(model)
        for node in graph
        if (path := module_path(node))
        for output in node.outputs
    }
    yield
    if not before:
        return
    for graph in all_graphs(model):
        # Backwards, so that a chain of new nodes hands the path up from the one reader that has it.
        for node in reversed(list(graph)):
            if module_path(node):
                continue
            readers = (module_path(use.node) for output in node.outputs for use in output.uses())
            sources = (module_path(maker) for value in node.inputs if value and (maker := value.producer()))
            names = (before.get(output.name, "") for output in node.outputs)
            path = next((path for path in (*names, *readers, *sources) if path), "")
            if path:
                node.metadata_props[MODULE_PATH] = path


def unique_names(model: ir.Model) -> None:
    """Give values and nodes that share a name one of their own; inputs and outputs keep theirs."""
    NameFixPass()(model)


def signature(model: ir.Model) -> list[tuple[object, ...]]:
    """Every node with what it reads and writes: equal before and after where a rewrite changed no node."""
    return [
        (node.domain, node.op_type, *(value and value.name for value in (*node.inputs, *node.outputs)))
        for graph in all_graphs(model)
        for node in graph
    ]

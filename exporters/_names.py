"""Names in a graph: nodes, values and free dimensions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import onnx_ir as ir


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, also those inside loops, conditions and functions."""
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def unique_node_names(model: ir.Model) -> None:
    """A name for every node that no other has, made of its operator and its place: the same in every export."""
    taken: set[str] = set()
    for node in all_nodes(model):
        base = (node.name or node.op_type).removeprefix("node_")
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        node.name = name


def own_outputs(graph: ir.Graph) -> None:
    """Give each graph output a value of its own, by an Identity where it is also an input, a weight or another output.

    ONNX allows one value in several places, but then it cannot have several names.
    """
    seen: set[int] = set()
    for index, value in enumerate(graph.outputs):
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            identity = ir.node("Identity", [value], name=f"output_{index}_identity")
            copy = identity.outputs[0]
            copy.shape, copy.type, copy.name = value.shape, value.type, f"output_{index}_copy"
            graph.append(identity)
            graph.outputs[index] = copy
        seen.add(id(graph.outputs[index]))


def name_ends(model: ir.Model, inputs: list[str], outputs: list[str]) -> None:
    """Name the graph's inputs and outputs; an inner value that has one of these names gets a number behind its own."""
    graph = model.graph
    ends = [*graph.inputs, *graph.outputs]
    kept = {id(value) for value in ends}
    inner = [value for value in graph.initializers.values() if id(value) not in kept]
    inner += [value for node in all_nodes(model) for value in node.outputs if id(value) not in kept]
    wanted = {*inputs, *outputs}
    taken = wanted | {str(value.name) for value in inner}
    for value in inner:
        if value.name in wanted:
            value.name = _fresh(str(value.name), taken)
    # By way of names that nothing has: a new name may be the old name of another end.
    for value in ends:
        value.name = _fresh("end", taken)
    for value, name in zip(ends, [*inputs, *outputs], strict=True):
        value.name = name


def _fresh(base: str, taken: set[str]) -> str:
    number = 1
    while (name := f"{base}_{number}") in taken:
        number += 1
    taken.add(name)
    return name


def rename_dimensions(model: ir.Model, names: Mapping[str, int | str]) -> None:
    """Rename free dimensions everywhere, also inside expressions (``2*s0``); a number fixes one."""
    if not names:
        return
    values: list[ir.Value] = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in all_nodes(model) for value in node.outputs]
    for value in values:
        if value.shape is not None and any(isinstance(size, ir.SymbolicDim) for size in value.shape):
            value.shape = ir.Shape([_renamed(size, names) for size in value.shape])


def _renamed(size: int | ir.SymbolicDim, names: Mapping[str, int | str]) -> int | str | None:
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    if size.value in names:
        return names[size.value]
    return re.sub(r"[A-Za-z_]\w*", lambda match: str(names.get(match.group(), match.group())), size.value)

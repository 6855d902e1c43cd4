"""PyTorch → ONNX: `torch.export`, then `torch.onnx.export(dynamo=True)`, as an `onnx_ir.Model`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgekit.errors import SourceError
from edgekit.passes import MODULE_PATH

if TYPE_CHECKING:
    import torch

    from edgekit.exporters import GraphRequest
    from edgekit.source import Source

_SCOPES = "pkg.torch.onnx.name_scopes"


class TorchOnnx:
    """Exports the kinds of source that hold a PyTorch program. Weights stay the module's own memory: no copy."""

    name = "torch_onnx"
    kinds = ("factory", "exported-program", "huggingface")

    def to_graph(self, source: Source, request: GraphRequest) -> ir.Model:
        """See `edgekit.exporters.GraphExporter`."""
        from . import _failure

        program: torch.export.ExportedProgram | None = None
        try:
            program = _program(source)
            model = _convert(program, request.opset)
        except SourceError:
            raise
        except Exception as error:
            raise _failure.explain(source, program, error, request.report) from error
        _name_inputs_and_outputs(model, source, program)
        for node in _nodes(model):
            path = _module_path(node, source)
            _strip(node)
            if path:
                node.metadata_props[MODULE_PATH] = path
        _unique_node_names(model)
        return model


def _program(source: Source) -> torch.export.ExportedProgram:
    """The captured program; captured now where shapes are static."""
    from edgekit.sources import capture

    if source.capture_error is not None:
        raise source.capture_error
    if source.program is not None:
        return source.program
    assert source.flat is not None
    tensors = tuple(tensor.detach() for tensor in source.flat.tensors.value)
    return capture.capture(source.flat, tensors, [{} for _ in tensors])


def _convert(program: torch.export.ExportedProgram, opset: int) -> ir.Model:
    import torch

    from edgekit.sources.capture import quiet

    with quiet():
        converted = torch.onnx.export(program, dynamo=True, opset_version=opset, verbose=False)
    assert converted is not None
    model: ir.Model = converted.model
    return model


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, also those inside loops and conditions and functions."""
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def _module_path(node: ir.Node, source: Source) -> str:
    """``"['', 'model', 'model.b.0', 'conv2d']"`` → ``b.0``; the last entry is the operator, not a module."""
    from edgekit.sources.flat import PREFIX

    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    path = str(scopes[-2]) if len(scopes) >= 2 else ""
    if source.kind == "exported-program":
        return path
    return path.removeprefix(PREFIX).removeprefix(".")


def _strip(node: ir.Node) -> None:
    """Remove torch's notes: they hold the paths and lines of the user's files."""
    node.doc_string = None
    for item in (node, *node.outputs):
        _strip_metadata(item)


def _strip_metadata(item: ir.Node | ir.Value | ir.Graph | ir.Model) -> None:
    for key in [key for key in item.metadata_props if key.startswith("pkg.torch") or key == "namespace"]:
        del item.metadata_props[key]
    item.doc_string = None


def _name_inputs_and_outputs(model: ir.Model, source: Source, program: torch.export.ExportedProgram) -> None:
    """Name graph inputs, outputs and free dimensions as ``source`` does, and clear the rest of torch's notes.

    Raises:
        SourceError: the graph has not the inputs or outputs of the source.
    """
    graph = model.graph
    for item in (model, graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
        _strip_metadata(item)
    for kind, values, specs in (("inputs", graph.inputs, source.inputs), ("outputs", graph.outputs, source.outputs)):
        if len(values) != len(specs):
            raise SourceError(
                f"the exported graph has {len(values)} {kind}, {source.spec} has {len(specs)}",
                details=[
                    f"graph: {', '.join(str(v.name) for v in values)}",
                    f"model: {', '.join(s.name for s in specs)}",
                ],
            )
    _own_outputs(graph)
    wanted = {item.name for item in (*source.inputs, *source.outputs)}
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    _free_names(model, wanted, ends)
    renamed: dict[str, str] = {}
    for value, spec in zip(graph.inputs, source.inputs, strict=True):
        value.name = spec.name
        assert value.shape is not None
        for size, dim in zip(value.shape, spec.shape, strict=True):
            if isinstance(size, ir.SymbolicDim) and isinstance(dim, str):
                renamed[str(size.value)] = dim
    for value, spec in zip(graph.outputs, source.outputs, strict=True):
        value.name = spec.name
    if renamed:
        _rename_dimensions(model, renamed)


def _own_outputs(graph: ir.Graph) -> None:
    """Give each graph output a value of its own, by an Identity where it is also an input, a weight or another output.

    ONNX allows one value in several places, but then it cannot have several names.
    """
    seen: set[int] = set()
    for index, value in enumerate(graph.outputs):
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            identity = ir.node("Identity", [value], name=f"output_{index}_identity")
            copy = identity.outputs[0]
            copy.shape, copy.type = value.shape, value.type
            copy.name = f"output_{index}_copy"
            graph.append(identity)
            graph.outputs[index] = copy
        seen.add(id(graph.outputs[index]))


def _free_names(model: ir.Model, wanted: set[str], ends: set[int]) -> None:
    """Rename every inner value that has a name the graph's inputs and outputs need."""
    graph = model.graph
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)} | ends
    inner = [value for value in graph.initializers.values() if id(value) not in ends]
    inner += [value for node in _nodes(model) for value in node.outputs if id(value) not in ends]
    taken = wanted | {str(value.name) for value in inner}
    for value in inner:
        if value.name in wanted:
            number = 1
            while (fresh := f"{value.name}_{number}") in taken:
                number += 1
            taken.add(fresh)
            value.name = fresh
    for index, value in enumerate((*graph.inputs, *graph.outputs)):
        value.name = f"__edgekit_{index}"


def _rename_dimensions(model: ir.Model, renamed: dict[str, str]) -> None:
    from edgekit.sources.capture import rename_dimension

    values: list[ir.Value] = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in _nodes(model) for value in node.outputs]
    for value in values:
        if value.shape is not None and any(isinstance(size, ir.SymbolicDim) for size in value.shape):
            value.shape = ir.Shape(
                [
                    size if isinstance(size, int) or size.value is None else rename_dimension(size.value, renamed)
                    for size in value.shape
                ]
            )


def _unique_node_names(model: ir.Model) -> None:
    """A name for every node that no other has, made of its operator and its place, the same in every export."""
    taken: set[str] = set()
    for node in _nodes(model):
        base = (node.name or node.op_type).removeprefix("node_")
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        node.name = name


PLUGIN: Any = TorchOnnx

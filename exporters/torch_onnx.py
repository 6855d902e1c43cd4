"""PyTorch → ONNX: `torch.export`, then `torch.onnx.export(dynamo=True)`, as an `onnx_ir.Model`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgekit.errors import SourceError
from edgekit.passes import MODULE_PATH

from . import _names

if TYPE_CHECKING:
    import torch

    from edgekit.exporters import GraphRequest
    from edgekit.source import Source

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # torch's mark on nodes it made itself, such as sizes


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
        for node in _names.all_nodes(model):
            path = _module_path(node, source)
            _strip(node)
            if path:
                node.metadata_props[MODULE_PATH] = path
        _names.unique_node_names(model)
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


def _module_path(node: ir.Node, source: Source) -> str:
    """``"['', 'model', 'model.b.0', 'conv2d']"`` → ``b.0``; the last entry is the operator, not a module."""
    from edgekit.sources.flat import PREFIX

    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    path = str(scopes[-2]) if len(scopes) >= 2 else ""
    if path == _NO_MODULE:
        return ""
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
    _names.own_outputs(graph)
    _names.name_ends(model, [item.name for item in source.inputs], [item.name for item in source.outputs])
    renamed: dict[str, int | str] = {}
    for value, spec in zip(graph.inputs, source.inputs, strict=True):
        assert value.shape is not None
        for size, dim in zip(value.shape, spec.shape, strict=True):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                renamed[size.value] = dim
    _names.rename_dimensions(model, renamed)


PLUGIN: Any = TorchOnnx

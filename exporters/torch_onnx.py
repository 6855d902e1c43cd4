"""PyTorch → ONNX: `torch.export`, then `torch.onnx.export(dynamo=True)`, as an `onnx_ir.Model`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..errors import SourceError
from ..graph import MODULE_PATH
from . import _names

if TYPE_CHECKING:
    import torch

    from ..sources.source import Source
    from . import GraphRequest

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # torch's mark on nodes it made itself, such as sizes


class TorchOnnx:
    """Exports the kinds of source that hold a PyTorch program. Weights stay the module's own memory: no copy."""

    name = "torch_onnx"
    kinds = ("factory", "exported-program", "huggingface")

    def to_graph(self, source: Source, request: GraphRequest) -> ir.Model:
        """See `edgekit.exporters.GraphExporter`."""
        from . import _failure

        if source.capture_error is not None:
            raise _failure.explain(source, source.capture_error, request.report) from source.capture_error
        assert source.program is not None
        try:
            model, functional = _convert(source.program, request.opset)
        except Exception as error:
            raise _failure.explain(source, error, request.report) from error
        _refuse_state(source, functional)
        _name_inputs_and_outputs(model, source)
        for node in _names.all_nodes(model):
            path = _module_path(node, source)
            _strip(node)
            if path:
                node.metadata_props[MODULE_PATH] = path
        _widen_indices(model)
        _names.unique_node_names(model)
        return model


def _convert(program: torch.export.ExportedProgram, opset: int) -> tuple[ir.Model, torch.export.ExportedProgram]:
    """The graph, and the functional program (no operator writes in place) it was made from."""
    import torch

    from ..quiet import TORCH, quiet

    with quiet(*TORCH):
        converted = torch.onnx.export(program, dynamo=True, opset_version=opset, verbose=False)
    assert converted is not None and converted.exported_program is not None
    return converted.model, converted.exported_program


def _widen_indices(model: ir.Model) -> None:
    """For int64: torch's translation of some operators (``istft``'s overlap-add) leaves int32, which ONNX forbids."""
    for node in list(_names.all_nodes(model)):
        if node.domain or node.op_type not in ("ScatterND", "GatherND"):
            continue
        indices = node.inputs[1]
        if indices is None or indices.dtype in (None, ir.DataType.INT64):
            continue
        wide = ir.node("Cast", [indices], {"to": ir.DataType.INT64.value}, name=f"{node.name}_indices")
        wide.outputs[0].type, wide.outputs[0].shape = ir.TensorType(ir.DataType.INT64), indices.shape
        wide.metadata_props.update(node.metadata_props)
        assert node.graph is not None
        node.graph.insert_before(node, wide)
        node.replace_input_with(1, wide.outputs[0])


def _refuse_state(source: Source, program: torch.export.ExportedProgram) -> None:
    """An ONNX graph starts every call from the same weights; a model that carries state over computes something else.

    A buffer that is only written (a counter, a cache that is filled anew) is no state.

    Raises:
        SourceError: an output depends on what an earlier call left in a buffer.
    """
    signature = program.graph_signature
    written = set(signature.buffers_to_mutate.values())
    if not written:
        return
    nodes = {node.name: node for node in program.graph.nodes}
    open_nodes = [nodes[name] for name in signature.user_outputs if isinstance(name, str)]
    behind: set[str] = set()
    while open_nodes:
        node = open_nodes.pop()
        if node.name not in behind:
            behind.add(node.name)
            open_nodes += node.all_input_nodes
    carried = [name for node, name in signature.inputs_to_buffers.items() if name in written and node in behind]
    if carried:
        names = ", ".join(f"'{_user_path(name, source)}'" for name in carried)
        raise SourceError(
            f"{source.spec} carries state from one call to the next in {names}, which a graph cannot",
            fix="Take the state as an input of forward and return the new state as an output.",
        )


def _module_path(node: ir.Node, source: Source) -> str:
    """``"['', 'model', 'model.b.0', 'conv2d']"`` → ``b.0``; the last entry is the operator, not a module."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    path = str(scopes[-2]) if len(scopes) >= 2 else ""
    return "" if path == _NO_MODULE else _user_path(path, source)


def _user_path(path: str, source: Source) -> str:
    """A path below the exported module as the user knows it: without the module that edgekit put around theirs."""
    from ..sources.flat import PREFIX

    return path if source.kind == "exported-program" else path.removeprefix(PREFIX).removeprefix(".")


def _strip(node: ir.Node) -> None:
    """Remove torch's notes: they hold the paths and lines of the user's files."""
    node.doc_string = None
    _strip_metadata(node)
    for value in node.outputs:
        _strip_metadata(value)


def _strip_metadata(item: ir.Node | ir.Value | ir.Graph | ir.Model) -> None:
    for key in [key for key in item.metadata_props if key.startswith("pkg.torch") or key == "namespace"]:
        del item.metadata_props[key]
    item.doc_string = None


def _name_inputs_and_outputs(model: ir.Model, source: Source) -> None:
    """Name graph inputs, outputs and free dimensions as ``source`` does, and clear the rest of torch's notes.

    Raises:
        SourceError: the graph has not the inputs or outputs of the source.
    """
    graph = model.graph
    _strip_metadata(model)
    _strip_metadata(graph)
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        _strip_metadata(value)
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

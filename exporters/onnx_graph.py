"""A ``.onnx`` file → the graph that the passes work on."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..errors import SourceError
from ..graph import MODULE_PATH, all_graphs
from . import _names

if TYPE_CHECKING:
    from ..sources.source import Source
    from . import GraphRequest

OLDEST_OPSET = 17
"""Passes and quantizers need per-axis QDQ (13), LayerNormalization (17). Newer files keep their own opset."""


class OnnxGraph:
    """Opens the file. Weights stay in it, memory-mapped; the passes never see more than they read."""

    name = "onnx_graph"
    kinds = ("onnx",)

    def to_graph(self, source: Source, request: GraphRequest) -> ir.Model:
        """See `edgekit.exporters.GraphExporter`."""
        from ..sources import onnx_file

        assert source.path is not None
        model = onnx_file.open_model(source.path)
        _drop_weights_from_inputs(model)
        _forget_shapes(model)
        for value, spec in zip(model.graph.inputs, source.inputs, strict=True):
            value.shape = ir.Shape(spec.shape)
        for value, spec in zip(model.graph.outputs, source.outputs, strict=True):
            if isinstance(value.type, ir.TensorType):
                value.shape = ir.Shape(spec.shape if source.settled else [None] * len(spec.shape))
        _raise_opset(source, model, request)
        for node in _names.all_nodes(model):
            path = _module_path(node)
            if path:
                node.metadata_props[MODULE_PATH] = path
        _names.unique_node_names(model)
        return model


def _drop_weights_from_inputs(model: ir.Model) -> None:
    """Before IR version 4 weights had to be listed among the inputs; there they could be fed, which hinders folding."""
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)


def _forget_shapes(model: ir.Model) -> None:
    """Drop what the file says of every shape but the inputs': a pass that believes what is not true breaks the graph.

    The passes infer them anew from the inputs'.
    """
    for graph in all_graphs(model):
        for node in graph:
            for value in node.outputs:
                value.shape = None


def _raise_opset(source: Source, model: ir.Model, request: GraphRequest) -> None:
    """Convert a file whose opset is too old for the passes; a newer one is kept, for every engine reads older opsets.

    Raises:
        SourceError: the converter cannot do it.
    """
    from ..quiet import TORCH, quiet

    opset = model.opset_imports.get("")
    if opset is None or opset >= OLDEST_OPSET:
        return
    from onnxscript import version_converter

    wanted = max(request.opset, OLDEST_OPSET)
    try:
        with quiet(*TORCH):
            version_converter.convert_version(model, wanted, fallback=True)
    except Exception as error:
        request.report.write_text(str(error), encoding="utf-8")
        raise _too_old(source, opset, wanted, f"{' '.join(str(error).split())[:200]}") from error
    if model.opset_imports.get("") == opset:
        raise _too_old(source, opset, wanted, "the converter left it as it was")


def _too_old(source: Source, opset: int, wanted: int, reason: str) -> SourceError:
    return SourceError(
        f"{source.spec} is of opset {opset} and cannot be raised to {wanted}: {reason}",
        fix=f"Export it again with opset {wanted}",
    )


def _module_path(node: ir.Node) -> str:
    """The PyTorch module by torch's own notes, or by the names its older exporter gave: ``/layer1/0/conv/Conv``."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        try:
            return str(ast.literal_eval(scopes)[-2])
        except (ValueError, SyntaxError, IndexError):
            return ""
    name = node.name or ""
    return ".".join(name.split("/")[1:-1]) if name.startswith("/") else ""


PLUGIN: Any = OnnxGraph

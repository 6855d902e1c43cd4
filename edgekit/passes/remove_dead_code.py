"""Remove what no output depends on: nodes, ``Identity``, functions and weights."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedFunctionsPass, RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from ..graph import count_nodes, initializer_bytes
from . import Change, GraphPass
from ._rewriting import forget_unused, is_onnx, main_nodes


class RemoveDeadCode(GraphPass):
    """Remove nodes and weights that no output depends on."""

    name = "remove_dead_code"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Remove, and count nodes and bytes."""
        nodes, size = count_nodes(model), initializer_bytes(model)
        shortened = sum(_remove_identity(node) for node in main_nodes(model) if is_onnx(node, "Identity"))
        steps: tuple[ir.passes.PassBase, ...] = (
            RemoveUnusedNodesPass(),
            RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            RemoveUnusedOpsetsPass(),
        )
        changed = [step(model).modified for step in steps]
        for graph in model.graphs():
            forget_unused(list(graph.initializers.values()))
        freed = size - initializer_bytes(model)
        if not shortened and not any(changed) and not freed:
            return model, Change(False, "every node and weight is needed by an output")
        gone = nodes - count_nodes(model)
        return model, Change(True, f"removed {gone} of {nodes} nodes and {freed} of {size} bytes of weights")


def _remove_identity(node: ir.Node) -> bool:
    """Let the readers of ``y = Identity(x)`` read ``x``, and say whether that was possible.

    It is not where the graph returns ``y`` and ``x`` cannot take that name, being an input, a weight, a value of an
    outer graph, or returned itself.
    """
    source, result, graph = node.inputs[0], node.outputs[0], node.graph
    if source is None or graph is None:
        return False
    if result.is_graph_output():
        maker = source.producer()
        if maker is None or maker.graph is not graph or source.is_graph_output():
            return False
        source.name, result.name = result.name, None
    if source.type is None:
        source.type = result.type
    if source.shape is None:
        source.shape = result.shape
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


PLUGIN = RemoveDeadCode

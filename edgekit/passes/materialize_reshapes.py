"""Give a ``Reshape`` its shape as a constant where the graph's shapes prove it, so that nobody computes it at run time.

With free dimensions, exporters compute each target shape by Shape, Slice and Concat nodes. In a constant shape,

    0   copies the dimension of the input at the same place (allowzero = 0)
    −1  stands for what is left, once

so a target whose free dimensions are each equal to the input's at the same place, but for one at most, is a constant:
[batch, length, 384] → [batch, length, 12, 32] is [0, 0, 12, 32]. Two dimensions are equal where they have the same
name, which is the exporter's word for it. The nodes that computed the shape are then dead code. Tensors that hold no
number at all are the exception: next to a 0, −1 cannot be told, and engines refuse it.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from ..graph import add_initializer
from . import Change, GraphPass
from ._rewriting import constant, forget_unused, is_onnx, main_nodes, unique_names


class MaterializeReshapes(GraphPass):
    """Replace computed shapes of Reshape by constants."""

    name = "materialize_reshapes"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite each Reshape that can be, and say for the others why not."""
        reshapes = [node for node in main_nodes(model) if is_onnx(node, "Reshape")]
        found = [node for node in reshapes if node.inputs[1] is not None and constant(node.inputs[1]) is None]
        if not found:
            return model, Change(False, f"all of {len(reshapes)} Reshape have a constant shape")
        reasons = Counter(reason for node in found if (reason := _materialize(node)))
        done = len(found) - reasons.total()
        if done:
            unique_names(model)
        detail = f"gave {done} of {len(found)} Reshape a constant shape"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(done > 0, f"{detail}; {left}" if left else detail)


def _materialize(node: ir.Node) -> str | None:
    """Give one Reshape its shape; or return why not."""
    data, target, graph = node.inputs[0], node.inputs[1], node.graph
    before, after = None if data is None else data.shape, node.outputs[0].shape
    if graph is None or before is None or after is None:
        return "its shape is unknown"
    if any(isinstance(dim, int) and dim == 0 for dim in (*before, *after)):
        return "it is empty"
    shape: list[int] = []
    for place, dim in enumerate(after):
        if isinstance(dim, int):
            shape.append(dim)
        elif dim.value is not None and place < len(before) and before[place] == dim:
            shape.append(0)
        else:
            shape.append(-1)
    if shape.count(-1) > 1:
        return "more than one of its dimensions is free and new"
    node.replace_input_with(1, add_initializer(graph, f"{node.outputs[0].name}_shape", np.array(shape, np.int64)))
    node.attributes.pop("allowzero", None)
    forget_unused([target])
    return None


PLUGIN = MaterializeReshapes

"""Compute now what does not depend on the inputs: constant expressions, static shapes, casts to the same type.

The work is onnxscript's constant folder; this pass decides how much may be folded, lifts ``Constant`` nodes to
initializers, and keeps the module paths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import FOLDED_FROM_KEY
from onnxscript.optimizer import fold_constants as fold

from ..graph import all_graphs, count_nodes
from . import Change, GraphPass
from ._rewriting import kept_module_paths, signature


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is folded.

    Args:
        grow_elements: a result may have this many elements more than the constants it makes superfluous, so that
            ``Expand`` of one number does not become megabytes of weights.
    """

    grow_elements: int = 65_536

    def __post_init__(self) -> None:
        if self.grow_elements < 0:
            raise ValueError(f"'grow_elements' must be 0 or more, got {self.grow_elements}")


# The folder computes with numpy; above this, one node would take seconds.
_INPUT_ELEMENTS = 2**26


class FoldConstants(GraphPass):
    """Replace nodes whose inputs are all constant by their result."""

    name = "fold_constants"
    Options = Limits

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Fold until nothing changes: a folded shape can make the next expression constant."""
        nodes, before = count_nodes(model), signature(model)
        # A constant may well be infinite (a mask's log of 0): no reason for numpy to warn.
        with kept_module_paths(model), np.errstate(all="ignore"):
            while True:
                last = signature(model)
                fold(
                    model,
                    onnx_shape_inference=True,
                    input_size_limit=_INPUT_ELEMENTS,
                    output_size_limit=self.options.grow_elements,
                )
                if signature(model) == last:
                    break
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        _forget_origins(model)
        if signature(model) == before:
            return model, Change(False, "no node has only constant inputs")
        return model, Change(True, f"folded {nodes - count_nodes(model)} of {nodes} nodes")


def _forget_origins(model: ir.Model) -> None:
    """Drop the folder's notes on what a constant was made of: they grow with every fold."""
    for graph in all_graphs(model):
        for value in (*graph.initializers.values(), *(output for node in graph for output in node.outputs)):
            value.metadata_props.pop(FOLDED_FROM_KEY, None)


PLUGIN = FoldConstants

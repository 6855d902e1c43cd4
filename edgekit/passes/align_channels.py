"""Give the convolutions that read few channels more of them, zeros, as tensor cores want.

    Conv(x, W) = Conv(Pad(x, zeros to C′ channels), Pad(W, zeros to C′ channels))      x [N, C, …], W [M, C, …], C < C′

A picture has 3 channels, and the 16-bit kernels of tensor cores read 8 at a time: the first layer of a ResNet-50 ran in
a kernel that took 16 % of the whole network's time on an H100. The zeros cost a copy of the input, so whether this pays
depends on the model: a target tries it as a candidate of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from . import MODULE_PATH, Change, GraphPass, module_path
from ._rewriting import add_initializer, constant, forget_unused, int_of, is_onnx, main_nodes, unique_names


@dataclass(frozen=True, slots=True)
class Alignment:
    """How many channels an engine reads at a time.

    Args:
        channels: convolutions with fewer get so many.
    """

    channels: int = 8

    def __post_init__(self) -> None:
        if self.channels < 2:
            raise ValueError(f"'channels' must be 2 or more, got {self.channels}")


class AlignChannels(GraphPass):
    """Pad the channels of convolutions that read few."""

    name = "align_channels"
    Options = Alignment

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Pad each one that can be, and say for the others why not."""
        found = [node for node in main_nodes(model) if is_onnx(node, "Conv")]
        if not found:
            return model, Change(False, "the graph has no Conv")
        padded: dict[ir.Value, ir.Value] = {}
        reasons = Counter(reason for node in found if (reason := _align(node, self.options.channels, padded)))
        done = len(found) - reasons.total()
        if done:
            unique_names(model)
        why = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        changed = f"gave {done} of {len(found)} Conv {self.options.channels} input channels"
        return model, Change.of(done, changed, f"no Conv needs more channels; {why}")


def _align(node: ir.Node, channels: int, padded: dict[ir.Value, ir.Value]) -> str | None:
    """Pad one; or return why not. ``padded``: what was padded before → its result."""
    data, graph = node.inputs[0], node.graph
    weights = constant(node.inputs[1])
    if data is None or graph is None or weights is None:
        return "its weights are computed"
    if int_of(node, "group", 1) != 1:
        return "it has groups"
    missing = channels - weights.shape[1]
    if missing <= 0:
        return "it has enough"
    if data not in padded:
        amounts = np.zeros(2 * weights.ndim, np.int64)
        amounts[weights.ndim + 1] = missing
        pad = ir.node("Pad", [data, add_initializer(graph, f"{data.name}_channels", amounts)])
        if data.dtype is not None:
            pad.outputs[0].dtype = data.dtype
        if data.shape is not None:
            sizes = list(data.shape)
            pad.outputs[0].shape = ir.Shape([sizes[0], channels, *sizes[2:]])
        if path := module_path(node):
            pad.metadata_props[MODULE_PATH] = path
        graph.insert_before(node, pad)
        padded[data] = pad.outputs[0]
    wide = np.pad(weights, [(0, 0), (0, missing), *[(0, 0)] * (weights.ndim - 2)])
    old = node.inputs[1]
    node.replace_input_with(0, padded[data])
    node.replace_input_with(1, add_initializer(graph, f"{old.name if old else node.name}_aligned", wide))
    forget_unused([old])
    return None


PLUGIN = AlignChannels

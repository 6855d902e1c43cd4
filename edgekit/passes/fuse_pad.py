"""Fold a ``Pad`` with zeros into the padding of the convolution after it.

    Conv(Pad(x, p), pads=q) = Conv(x, pads=p + q)

where p is zero on the batch and channel axes and negative nowhere. TensorFlow's "same" padding reaches ONNX as such
Pads (MobileNetV2 of transformers has 52). Engines fold them in floating point; between the QuantizeLinear nodes of an
int8 graph they do not.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from . import Change, GraphPass
from ._rewriting import constant, forget_unused, is_onnx, main_nodes, rank_of, scalar


class FusePad(GraphPass):
    """Fold zero padding into Conv."""

    name = "fuse_pad"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Fold each Pad that can be, and say for the others why not."""
        found = [node for node in main_nodes(model) if is_onnx(node, "Pad")]
        if not found:
            return model, Change(False, "the graph has no Pad")
        reasons = Counter(reason for node in found if (reason := _fuse(node)))
        folded = len(found) - reasons.total()
        detail = f"folded {folded} of {len(found)} Pad"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(folded > 0, f"{detail}; {left}" if left else detail)


def _fuse(pad: ir.Node) -> str | None:
    """Fold one Pad into all the convolutions that read it; or return why not."""
    result, source, graph = pad.outputs[0], pad.inputs[0], pad.graph
    if source is None or graph is None:
        return "it lacks an input"
    users = [use.node for use in result.uses()]
    if result.is_graph_output() or not users or not all(_takes_pads(user, result) for user in users):
        return "it is not read by a Conv with stated pads"
    rank = rank_of(source) or len(users[0].attributes.get_ints("kernel_shape", ())) + 2
    pads = _pads(pad, rank)
    if pads is None:
        return "it does not pad by a known number of zeros"
    if any(pads[axis] or pads[rank + axis] for axis in (0, 1)) or min(pads) < 0:
        return "it pads the batch or the channels, or takes away"
    more = [*pads[2:rank], *pads[rank + 2 :]]
    for user in users:
        own = list(user.attributes["pads"].as_ints()) if "pads" in user.attributes else [0] * len(more)
        user.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, more, strict=True)])
        user.attributes.pop("auto_pad", None)
        user.replace_input_with(0, source)
    inputs = list(pad.inputs)
    graph.remove(pad, safe=True)
    forget_unused(inputs)
    return None


def _takes_pads(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node is a Conv of ``value`` whose padding is stated in numbers, or none."""
    stated = "auto_pad" not in node.attributes or node.attributes["auto_pad"].as_string() in ("NOTSET", "VALID")
    places = [place for place, item in enumerate(node.inputs) if item is value]
    return is_onnx(node, "Conv") and stated and places == [0]


def _pads(pad: ir.Node, rank: int) -> list[int] | None:
    """Zeros before each axis, then after each; None where they are unknown, or no zeros."""
    if "mode" in pad.attributes and pad.attributes["mode"].as_string() != "constant":
        return None
    filling = pad.inputs[2] if len(pad.inputs) > 2 else None
    axes = pad.inputs[3] if len(pad.inputs) > 3 else None
    amounts = constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if amounts is None or (filling is not None and scalar(filling, 1) != 0.0):
        return None
    chosen = list(range(rank)) if axes is None else constant(axes)
    if chosen is None:
        return None
    pads = [0] * (2 * rank)
    for place, axis in enumerate(chosen):
        pads[int(axis) % rank] = int(amounts[place])
        pads[rank + int(axis) % rank] = int(amounts[place + len(chosen)])
    return pads


PLUGIN = FusePad

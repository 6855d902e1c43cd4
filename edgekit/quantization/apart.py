"""What one scale cannot hold: a Concat of pixels in 0 to 640 and scores in 0 to 1 is left in floating point.

Integers of 8 bits over 0 to 640 step by 2.5, and every score becomes 0. The joined values are right as long as nobody
rounds them to one scale, so the Concat and whatever reads its result as integers stay in float; their inputs keep the
scales of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from .plan import Plan

FEWEST_STEPS = 16
"""The smaller of two inputs must keep this many of the integers' steps: 4 bits."""


def leave_joined(plan: Plan, ranges: Mapping[str, tuple[float, float]], levels: int) -> None:
    """Take out of ``plan`` each Concat whose inputs share no scale, and the nodes that read its values.

    Args:
        plan: what would be quantized.
        ranges: value → its smallest and largest number.
        levels: how many an activation's integers have: 256 or 65536.
    """
    joined: set[ir.Value] = set()
    for name, item in list(plan.nodes.items()):
        node = item.node
        reach = [_reach(node.inputs[index], plan, ranges) for index in item.activations]
        known = [value for value in reach if value]
        reads = any(node.inputs[index] in joined for index in item.activations)
        if node.op_type == "Concat" and known and max(known) * FEWEST_STEPS > levels * min(known):
            why = f"its inputs reach {max(known):.3g} and {min(known):.3g}, which share no scale of {levels} steps"
        elif reads:
            why = "it reads values that share no scale"
        else:
            continue
        del plan.nodes[name]
        plan.leave(node, why)
        if node.op_type == "Concat" or item.same_scale:
            joined.update((item.absorbed or node).outputs)


def _reach(value: ir.Value | None, plan: Plan, ranges: Mapping[str, tuple[float, float]]) -> float | None:
    """The largest absolute number of a value; of what only moves numbers about, that of its source; None: not known."""
    while value is not None:
        if (value.name or "") in ranges:
            return max(abs(end) for end in ranges[value.name or ""])
        node = value.producer()
        item = plan.nodes.get(node.name or "") if node is not None else None
        if item is None or not item.same_scale:
            return None
        value = item.node.inputs[0]
    return None

"""What one scale cannot hold: a Concat of pixels in 0 to 640 and scores in 0 to 1 is left in floating point.

Integers of 8 bits over 0 to 640 step by 2.5, and every score becomes 0. The joined values are right as long as nobody
rounds them to one scale, so the Concat and whatever reads its result as integers stay in float; its inputs keep the
scales of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from .plan import LAYOUT, Plan, name_of

FEWEST_STEPS = 16
"""The smaller of two inputs must keep this many of the integers' steps: 4 bits."""


def joined_inputs(plan: Plan) -> list[str]:
    """Names of the values, not calibrated for another reason, whose ranges `leave_joined` wants to know."""
    known = {*plan.activations(), *plan.prescribed()}
    inputs = [value for node in _joins(plan) for value in node.inputs if value is not None]
    names = [name_of(value) for value in inputs if ir.convenience.get_const_tensor(value) is None]
    return [name for name in dict.fromkeys(names) if name not in known]


def leave_joined(plan: Plan, ranges: Mapping[str, tuple[float, float]], levels: int) -> None:
    """Take out of ``plan`` each Concat whose inputs share no scale, and the nodes that read its values.

    Args:
        plan: what would be quantized.
        ranges: value → its smallest and largest number.
        levels: how many an activation's integers have: 256 or 65536.
    """
    apart: set[ir.Value] = set()
    for node in list(_joins(plan)):
        known = [reach for value in node.inputs if (reach := _reach(value, plan, ranges))]
        if not known or max(known) * FEWEST_STEPS <= levels * min(known):
            continue
        apart.add(node.outputs[0])
        if (item := plan.nodes.pop(node.name or "", None)) is not None:
            why = f"its inputs reach {max(known):.3g} and {min(known):.3g}, which share no scale of {levels} steps"
            plan.leave(node, why)
            apart.update(item.absorbed.outputs if item.absorbed else ())
    for name, item in list(plan.nodes.items()):
        if any(_source(item.node.inputs[index]) in apart for index in item.activations):
            del plan.nodes[name]
            plan.leave(item.node, "it reads values that share no scale")


def _joins(plan: Plan) -> Iterator[ir.Node]:
    """Each Concat that is planned, or whose values a planned node reads."""
    seen: set[ir.Node] = set()
    for item in plan.nodes.values():
        sources = (_source(item.node.inputs[index]) for index in item.activations)
        for node in (item.node, *(source.producer() for source in sources if source is not None)):
            if node is not None and node.op_type == "Concat" and node.domain in ("", "ai.onnx") and node not in seen:
                seen.add(node)
                yield node


def _source(value: ir.Value | None) -> ir.Value | None:
    """Where the numbers of a value come from: it, or what nodes that only move numbers about began with."""
    while value is not None and (node := value.producer()) is not None and node.op_type in LAYOUT:
        value = node.inputs[0]
    return value


def _reach(value: ir.Value | None, plan: Plan, ranges: Mapping[str, tuple[float, float]]) -> float | None:
    """The largest absolute number of a value; of what only moves numbers about, that of its source; None: not known."""
    while value is not None:
        if (value.name or "") in ranges:
            return max(abs(end) for end in ranges[value.name or ""])
        constant = ir.convenience.get_const_tensor(value)
        if constant is not None:
            return float(np.abs(constant.numpy()).max(initial=0.0))
        node = value.producer()
        item = plan.nodes.get(node.name or "") if node is not None else None
        if item is None or not item.same_scale:
            return None
        value = item.node.inputs[0]
    return None

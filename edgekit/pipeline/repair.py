"""When a candidate misses the accuracy: which nodes to leave in floating point, or in float32, more at every try.

Two kinds of candidates can be repaired. An int8 one loses by rounding: its nodes are ranked by the damage they do
(`sensitivity`). A float16 one is either near enough or overflows: then the nodes around the numbers that are too large
stay in float32 (`overflow`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx_ir as ir

from ..analysis.overflow import LARGEST, SAMPLES, find_overflows
from ..analysis.sensitivity import Goal, NothingToRankError
from ..contracts import Feeds
from ..graph import module_path
from ..target.toolchain import Toolchain
from .diagnose import diverging_layer

if TYPE_CHECKING:
    from .job import Built, Check, Variant

MAX_TRIES = 5
MARGIN_DB = 1.0
"""How much better than its tolerance the simulation must be: the engine rounds a little differently."""
METRIC_STEP_DB = 6.0
"""Where a metric missed and not parity: how much better the next try must be. No formula leads from dB to a metric."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Nodes to leave in floating point."""

    nodes: frozenset[str]
    modules: tuple[str, ...]  # their PyTorch modules (or names, without), the most harmful first
    of: int  # nodes that could be converted
    left_in: str = "floating point"
    why: str = ""  # what is wrong with them, where that is known

    def describe(self) -> str:
        """``3 of 24 nodes (encoder.layer.0.output.dense, …) left in floating point``."""
        shown = ", ".join(self.modules[:3]) + (", …" if len(self.modules) > 3 else "")
        text = f"{len(self.nodes)} of {self.of} nodes ({shown}) left in {self.left_in}"
        return f"{text}: {self.why}" if self.why else text


class Repair(Protocol):
    """One candidate's way back to accuracy, a proposal a try."""

    def next(self, failed: Built) -> Proposal | None:
        """What to leave out after ``failed`` missed; None: there is nothing left to try."""
        ...


def repair_for(toolchain: Toolchain, missed: Check, variant: Variant) -> Repair | None:
    """How to repair a candidate that missed, or None: nothing of it can be left out."""
    halved = any(spec.name == "convert_float16" for spec in toolchain.candidate.passes)
    ranked = _Ranked(_proposals(missed, variant)) if toolchain.needs_calibration else None
    if not halved:
        return ranked
    overflow = OverflowRepair(variant)
    return overflow if ranked is None else _Both(overflow, ranked)


@dataclass
class _Ranked:
    """Proposals that do not depend on how the last one failed."""

    proposals: Iterator[Proposal]

    def next(self, failed: Built) -> Proposal | None:
        return next(self.proposals, None)


@dataclass
class _Both:
    """For integers in a float16 graph: what overflows, and after that what loses by rounding."""

    overflow: Repair
    ranked: Repair
    _kept: frozenset[str] = frozenset()

    def next(self, failed: Built) -> Proposal | None:
        found = self.overflow.next(failed)
        if found is not None:
            self._kept = found.nodes
            return found
        more = self.ranked.next(failed)
        return None if more is None else replace(more, nodes=more.nodes | self._kept)


def _proposals(missed: Check, variant: Variant) -> Iterator[Proposal]:
    """Sets of nodes to leave in floating point, growing from try to try, until nothing would be left to quantize."""
    try:
        first = variant.rankings.reach(_goal(missed), variant.graph, variant.pass_context("onnxruntime"))
    except NothingToRankError:  # another quantizer than ours found something: its miss stands
        return
    total = sum(len(item.nodes) for item in first.damage)
    groups = max(1, sum(1 for item in first.damage if item.nodes[0] in first.keep_float))
    for _ in range(MAX_TRIES):
        if groups >= len(first.damage):
            return
        kept = first.damage[:groups]
        yield Proposal(
            nodes=frozenset(name for item in kept for name in item.nodes),
            modules=tuple(item.module_path or item.node for item in kept),
            of=total,
        )
        groups = max(groups + 1, round(groups * 1.5))


def _goal(missed: Check) -> Goal:
    parity, tolerance = missed.parity, missed.parity.tolerance
    if parity.passed:  # the metric missed
        return Goal(parity.sqnr_db + METRIC_STEP_DB, parity.part_db + METRIC_STEP_DB)
    whole = parity.sqnr_db + METRIC_STEP_DB if tolerance.sqnr_db is None else tolerance.sqnr_db + MARGIN_DB
    return Goal(whole, -math.inf if tolerance.part_db is None else tolerance.part_db + MARGIN_DB)


@dataclass
class OverflowRepair:
    """Proposals for a float16 candidate."""

    variant: Variant
    _kept: dict[str, str] = field(default_factory=dict)  # node → its module
    _tries: int = 0

    def next(self, failed: Built) -> Proposal | None:
        """First the nodes around numbers that are too large; then, one by one, those whose inside overflows."""
        self._tries += 1
        if self._tries > MAX_TRIES:
            return None
        if self._tries == 1:
            overflows = find_overflows(self.variant.graph, self._samples(), self.variant.job.workdir)
            if overflows:
                paths = {node.name: module_path(node) for node in self.variant.graph.graph}
                self._kept |= {name: paths.get(name, "") for item in overflows for name in item.nodes}
                worst = max(overflows, key=lambda item: item.largest)
                where = worst.module or worst.tensor
                why = f"values reach {worst.largest:.3g} in {where}, float16 ends at {LARGEST:.0f}"
                return self._proposal([item.module for item in overflows], why)
        return self._inside(failed)

    def _inside(self, failed: Built) -> Proposal | None:
        """The first node of the candidate's own run whose output is not finite though its inputs are."""
        if not self.variant.job.site.is_here:  # the walk opens the engine on this machine
            return None
        for sample in self.variant.job.expected.first(SAMPLES):
            found = diverging_layer(failed, sample.feeds, sample.expected)
            if found is None or np.isfinite(found.rel_l2) or not found.node or found.node in self._kept:
                continue
            self._kept |= {node.name or "": module_path(node) for node in self._around(found.node)}
            where = found.module or found.node
            return self._proposal([where], f"{found.op_type} in {where} overflows float16")
        return None

    def _around(self, name: str) -> list[ir.Node]:
        """A node of the float32 graph and those that read its outputs: what is too large for one is for the others."""
        node = next(node for node in self.variant.graph.graph if node.name == name)
        return [node, *(use.node for output in node.outputs for use in output.uses() if use.node.graph is node.graph)]

    def _samples(self) -> list[Feeds]:
        return [sample.feeds for sample in self.variant.job.expected.first(SAMPLES)]

    def _proposal(self, modules: Iterable[str], why: str) -> Proposal:
        shown: Mapping[str, None] = dict.fromkeys(name for name in modules if name)
        total = sum(1 for node in self.variant.graph.graph if node.op_type != "Constant")
        return Proposal(frozenset(self._kept), tuple(shown), total, "float32", why)

"""When a candidate misses the accuracy: which nodes to leave in floating point, or in float32, more at every try.

Two kinds of candidates can be repaired. An int8 one loses by rounding: its nodes are ranked by the damage they do
(`sensitivity`). A float16 one is either near enough or overflows: then the nodes around the numbers that are too large
stay in float32 (`overflow`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from . import plugins
from .contracts import options_from
from .target import Candidate

if TYPE_CHECKING:
    from . import sensitivity
    from .candidates import Built, Check, Job

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


@dataclass
class Rankings:
    """The ranking of one export's nodes by the damage they do; made when first asked for, then shared."""

    _by_goal: dict[float, sensitivity.Proposal] = field(default_factory=dict)

    def reach(self, goal_db: float, job: Job) -> sensitivity.Proposal:
        """The smallest set of nodes in floating point that reaches ``goal_db`` in the simulation, and the ranking."""
        from .sensitivity import propose

        if goal_db not in self._by_goal:
            self._by_goal[goal_db] = propose(job.graph, job.pass_context("onnxruntime"), goal_db)
        return self._by_goal[goal_db]


def repair_for(candidate: Candidate, missed: Check, job: Job) -> Repair | None:
    """How to repair a candidate that missed, or None: nothing of it can be left out."""
    halved = any(spec.name == "convert_float16" for spec in candidate.passes)
    ranked = _Ranked(_proposals(missed, job)) if needs_calibration(candidate) else None
    if not halved:
        return ranked
    from .overflow import OverflowRepair

    overflow = OverflowRepair(candidate, missed, job)
    return overflow if ranked is None else _Both(overflow, ranked)


def needs_calibration(candidate: Candidate) -> bool:
    """Whether building the candidate needs samples; if so, single nodes can be left in floating point as well."""
    if any(plugins.load("passes", spec.name).needs_calibration for spec in candidate.passes):
        return True
    if "quantize" not in candidate.export_options:
        return False
    exporter = plugins.load("exporters", candidate.format)
    asks = getattr(exporter, "needs_calibration", None)  # a quantizer that also works without
    options = options_from(exporter.Options, candidate.export_options, f"candidate '{candidate.name}', exporter")
    return asks is None or bool(asks(options))


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


def _proposals(missed: Check, job: Job) -> Iterator[Proposal]:
    """Sets of nodes to leave in floating point, growing from try to try, until nothing would be left to quantize."""
    first = job.rankings.reach(_goal_db(missed), job)
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


def _goal_db(missed: Check) -> float:
    bound = missed.parity.tolerance.sqnr_db
    if not missed.parity.passed and bound is not None:
        return bound + MARGIN_DB
    return missed.parity.sqnr_db + METRIC_STEP_DB

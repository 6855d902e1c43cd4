"""When int8 misses the accuracy: which nodes to leave in floating point, a few more at every try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import plugins
from .target import Candidate

if TYPE_CHECKING:
    from .candidates import Check, Job


@dataclass(frozen=True, slots=True)
class Proposal:
    """Nodes to leave in floating point."""

    nodes: frozenset[str]
    modules: tuple[str, ...]  # their PyTorch modules, the most harmful first

    def describe(self) -> str:
        """``3 of 24 nodes (encoder.layer.0.output.dense, …)``."""
        shown = ", ".join(self.modules[:3]) + (", …" if len(self.modules) > 3 else "")
        return f"{len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''} ({shown})"


def needs_calibration(candidate: Candidate) -> bool:
    """Whether building the candidate needs samples; if so, single nodes can be left in floating point as well."""
    calibrated = any(plugins.load("passes", spec.name).needs_calibration for spec in candidate.passes)
    return calibrated or "quantize" in candidate.export_options


def proposals(candidate: Candidate, missed: Check, job: Job) -> Iterator[Proposal]:
    """Sets of nodes to leave in floating point, growing from try to try."""
    return iter(())

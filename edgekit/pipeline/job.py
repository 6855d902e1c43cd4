"""What an export works on: the job, the variants of its model, what was built of them, how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accuracy.expected import ReferenceRun
from ..accuracy.rollout import Rollout
from ..accuracy.rules import Accuracy
from ..analysis.overflow import Overflow
from ..analysis.sensitivity import Rankings
from ..context import PassContext
from ..contracts import Artifact, PassRecord, Progress, Tolerance
from ..errors import EngineError
from ..measure.ignore import IgnoreWhere
from ..measure.parity import Parity
from ..results import MetricReport, ParityReport, RolloutReport, SameGraph
from ..target.fineness import needs_evidence
from ..target.needs import StandIn
from ..target.profile import Candidate, Target
from ..target.toolchain import Toolchain
from ..units import metric_details, metric_title
from .free_dimensions import Resized

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..data.dataset import Dataset
    from ..sources.source import Source
    from .site import Site


GOLDEN_SAMPLES = 4
"""The first samples go into the bundle, with the reference's outputs for them."""
GOLDEN_STEPS = 8
"""And the first steps of a stream, where the model has memory."""


STEP_FLIPS = Tolerance(rel_l2=0.02, part_db=25.0)
"""How far two right implementations of one integer graph may be apart. Rounding makes a noise of step²/12; a value that
lies between two steps and that float32's last digit sends to the other one is off by a step². Where that is one in a
hundred, their noise is 9 dB below the rounding's own, which for 8 bits is 30 dB and more below the signal."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every variant of one export shares: where it goes, what it is judged by, and where."""

    target: Target
    expected: ReferenceRun  # the samples to check on, with the answers of the model as the user brought it
    calibration: Dataset | None
    accuracy: Accuracy
    site: Site  # where candidates are checked and timed
    workdir: Path
    progress: Progress
    allow_fallback: frozenset[str] = frozenset()  # operators that may run elsewhere than on the target's device
    dimensions: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # see PassContext.dimensions
    rollout: Rollout | None = None  # None: the model has no memory, or no step was asked for
    ignore: tuple[IgnoreWhere, ...] = ()  # what nobody reads of the outputs; ``expected`` has 0 there
    resized: tuple[Resized, ...] = ()  # a sample at a second size of each free dimension
    real: bool = True  # whether the samples are data that a user gave, and not the model's example inputs
    unverified: bool = False  # what was not checked on data may ship all the same
    unfit: Mapping[str, EngineError] = field(default_factory=dict)  # runtime → why no self-test could run it here

    def emulator_of(self, toolchain: Toolchain) -> str | None:
        """What stands for the device where the candidate is checked; None: nothing does, or the engine is silent."""
        return toolchain.emulator if self.site.is_here else None

    def pass_context(self, runtime: str = "any") -> PassContext:
        """What passes and exporters may look at for an engine; ``any``: passes that all candidates share."""
        data = self.calibration
        return PassContext(
            arch=self.site.arch,
            runtime=runtime,
            calibration=data.feeds if data is not None else None,
            calibration_samples=len(data) if data is not None else 0,
            target=self.target.name,
            device="" if self.target.measure.fallback else self.target.measure.device,
            allow_fallback=self.allow_fallback,
            workdir=self.workdir,
            progress=self.progress,
            dimensions=self.dimensions,
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of the user's model: as it was brought, or as a module pass left it; and what was learned of it."""

    job: Job
    source: Source
    graph: ir.Model  # after the shared passes; candidates work on clones
    rankings: Rankings = field(default_factory=Rankings)
    ranges: dict[object, dict[str, tuple[float, float]]] = field(default_factory=dict)  # see PassContext.ranges
    beyond: dict[str, list[Overflow]] = field(default_factory=dict)  # "float16" → what does not fit its range
    built: dict[str, Built] = field(default_factory=dict)  # artifacts by all that decides what is in them

    def pass_context(self, runtime: str, keep_float: frozenset[str] = frozenset()) -> PassContext:
        """What passes and exporters may look at for an engine, with what this variant's candidates share."""
        return replace(self.job.pass_context(runtime), keep_float=keep_float, ranges=self.ranges)


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate's artifact on disk, and how it came about."""

    variant: Variant
    toolchain: Toolchain
    artifact: Artifact
    directory: Path  # holds the artifact's files and nothing else
    records: tuple[PassRecord, ...]
    info: Mapping[str, Any]  # what the exporter says it did
    keep_float: frozenset[str]
    size_bytes: int  # of every file of the artifact
    operators: frozenset[str] = frozenset()  # of the graph that the exporter was given
    digest: str = ""  # of every file of the artifact
    stand_in: StandIn | None = None  # what checks it here in place of its own engine; None: its own does
    plain: Artifact | None = None  # the same graph as ONNX, where the engine emulates its device
    steps: Mapping[str, float] = field(default_factory=dict)  # of ``plain``: output → step of its quantization

    @property
    def candidate(self) -> Candidate:
        """What the profile states of it."""
        return self.toolchain.candidate

    @property
    def precision(self) -> str:
        """What it computes in: the candidate's, or, of a source that was quantized before and left so, the source's."""
        source = self.variant.source
        as_brought = self.candidate.precision == "fp32" and source.quantized is not None
        return source.precision if as_brought else self.candidate.precision

    @property
    def tolerance(self) -> Tolerance:
        """How far it may be from the reference: its precision's bounds; `STEP_FLIPS` for integers that were brought."""
        stated = self.variant.job.accuracy.tolerance(self.candidate.precision)
        if self.precision == self.candidate.precision or not needs_evidence(self.precision):
            return stated
        return replace(
            stated,
            rel_l2=None if stated.rel_l2 is None else max(stated.rel_l2, STEP_FLIPS.rel_l2 or 0.0),
            part_db=None if stated.part_db is None else min(stated.part_db, STEP_FLIPS.part_db or 0.0),
        )

    @property
    def placement(self) -> Mapping[str, int] | None:
        """Device → number of the graph's nodes, where it was compiled ahead of time: it is few nodes afterwards."""
        found: Mapping[str, int] | None = self.info.get("placement")
        return found


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """Why nothing was built of a candidate, though nothing failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Check:
    """How a candidate did against the reference."""

    parity: ParityReport
    metric: MetricReport | None
    golden: Parity  # over the first `GOLDEN_SAMPLES` alone
    rollout: RolloutReport | None = None  # of a model with memory, each side with its own state
    golden_steps: Parity | None = None  # over the first `GOLDEN_STEPS` of it
    same_graph: SameGraph | None = None  # against the CPU on the same graph, where the device is emulated

    @property
    def miss(self) -> str | None:
        """Why it is not accurate enough, or None where it is."""
        if not self.parity.passed:
            return "parity: " + "; ".join(self.parity.misses)
        if self.metric and self.metric.max_drop is not None and self.metric.drop > self.metric.max_drop:
            title = metric_title(self.metric.name, self.metric.compared_with)
            told = metric_details(self.metric.details)
            return f"{title} drops by {self.metric.drop:.4g}, allowed {self.metric.max_drop:g}" + (
                f": {told}" if told else ""
            )
        if self.rollout is not None and not self.rollout.passed:
            return "stream: " + "; ".join(self.rollout.misses)
        return None

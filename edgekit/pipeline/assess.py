"""A candidate's way through the export: build, check in its engine, repair if it misses, time it shortly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import units
from ..contracts import Placement
from ..devices.local import Worker
from ..errors import EdgekitError, EngineError, ParityError, PlacementError
from ..graph import module_path
from ..placement import refusal
from ..results import CandidateResult
from ..target.fineness import needs_evidence
from ..target.needs import StandIn, checker_of
from ..target.profile import Candidate
from ..target.toolchain import Toolchain
from .build import build
from .check import check, open_worker
from .failure import is_everybodys, unexpected
from .half import beyond_range
from .job import Built, Check, NotBuilt, Variant
from .memory import peak_memory, too_large
from .race import Contender, is_slower, screen, speedup
from .refused_operator import located
from .repair import Repair, repair_for
from .stages import REPORTS
from .tuning import choices


@dataclass(frozen=True, slots=True)
class Assessed:
    """What became of a candidate. It can be picked if neither ``error`` nor ``reason`` is set."""

    toolchain: Toolchain
    built: Built | None = None
    check: Check | None = None
    contenders: tuple[Contender, ...] = ()  # timed shortly, one a combination of session options; empty: not timed here
    options: Mapping[str, Any] | None = None  # session options that ``check`` is of
    placement: Mapping[str, int] | None = None
    error: EdgekitError | None = None
    reason: str | None = None  # no error, but it would be no different from the plain graph
    withheld: str | None = None  # why it must not be picked though it passed: there is no evidence for it
    unverified: str | None = None  # the same reason, where the user ships it all the same
    note: str | None = None  # what was kept in floating point, and what the accuracy was without
    version: str = ""  # the engine's, where it was checked
    peak_bytes: int | None = None  # of a process that runs it; None: the target has no limit, or not known

    @property
    def candidate(self) -> Candidate:
        """What the profile states of it."""
        return self.toolchain.candidate

    @property
    def passed(self) -> bool:
        """Whether it was built and holds the accuracy."""
        return self.error is None and self.reason is None

    @property
    def free(self) -> bool:
        """Whether it may be picked."""
        return self.passed and self.withheld is None

    @property
    def why_not(self) -> str | None:
        """One line: why it is out."""
        return self.reason if self.error is None else str(self.error).splitlines()[0].removesuffix(":")

    @property
    def best(self) -> Contender | None:
        """What stands for it: the fastest of those that got furthest in the race; None: not timed here."""
        return min(self.contenders, key=lambda item: (not item.finished, not item.blocks, item.p50_s), default=None)

    def result(self, baseline: Contender | None = None) -> CandidateResult:
        """The row for the table and the JSON.

        Args:
            baseline: the fp32 contender that its speed is compared with.
        """
        best = self.best
        options = best.in_force if best else self.options or self.candidate.options
        slower = best is not None and baseline is not None and self.passed and is_slower(best, baseline)
        slow = "slower than fp32" if slower else None
        if slow and self.built is not None and self.built.variant.source.quantized is not None:
            slow = "slower than the source"
        notes = (
            self._tuned(best),
            self._as_brought(),
            self.note,
            slow or self._tempting(best, baseline),
            self.withheld or self.unverified,
        )
        return CandidateResult(
            name=self.candidate.name,
            runtime=self.candidate.runtime,
            precision=self.built.precision if self.built else self.candidate.precision,
            options=options,
            size_bytes=self.built.size_bytes if self.built else None,
            nodes=sum(self.placement.values()) if self.placement else None,
            parity=self.check.parity if self.check else None,
            metric=self.check.metric if self.check else None,
            rollout=self.check.rollout if self.check else None,
            same_graph=self.check.same_graph if self.check else None,
            latency=best.latency(baseline) if best and self.passed else None,
            passes=self.built.records if self.built else (),
            kept_float=tuple(sorted(self.built.keep_float)) if self.built else (),
            rejected=self.why_not,
            withheld=self.withheld if self.passed else None,
            note="; ".join(filter(None, notes)) or None,
            checked_with=self.built.stand_in.runtime if self.built and self.built.stand_in else None,
            peak_rss_bytes=self.peak_bytes,
        )

    def _as_brought(self) -> str:
        """That nothing was quantized here, because it was before."""
        built = self.built
        if built is None or built.precision == self.candidate.precision:
            return ""
        return f"as it was brought: {built.variant.source.quantized}"

    def _tempting(self, best: Contender | None, baseline: Contender | None) -> str:
        """``2.4x faster``: what one that is withheld would bring, where the race shows it."""
        gain = speedup(best, baseline) if self.withheld and best is not None and baseline is not None else None
        return f"{units.ratio(gain.value)} faster" if gain is not None and gain.low > 1 else ""

    def _tuned(self, best: Contender | None) -> str:
        """``with cuda_graph = True``: what tuning changed; not the threads, which have a column of their own."""
        if best is None:
            return ""
        tune = self.candidate.tune
        changed = [
            f"{key} = {value}"
            for key, value in best.options.items()
            if key != "threads" and key in tune and value != tune[key][0]
        ]
        return f"with {', '.join(changed)}" if changed else ""


def assess(toolchain: Toolchain, variant: Variant, threads: int | None) -> Assessed:
    """Build a candidate, check it in its own engine and time it shortly.

    An engine that is missing or refuses the model, a missed accuracy, and whatever else is raised are outcomes here,
    not exceptions: the other candidates go on. An int8 or float16 candidate that misses is tried again without its most
    harmful nodes (`repair`).
    """
    job = variant.job
    checker = checker_of(toolchain, job.site.is_here, job.unfit)
    if checker.missing is not None:
        return Assessed(toolchain, error=checker.missing)
    try:
        before = variant.source.quantized
        if before is not None and needs_evidence(before.precision) and needs_evidence(toolchain.candidate.precision):
            return Assessed(toolchain, reason=f"the source is {before}: it is not quantized a second time")
        beyond = beyond_range(toolchain, variant)
        if isinstance(beyond, ParityError):
            return Assessed(toolchain, error=beyond)
        kept = frozenset() if beyond is None else beyond.nodes
        first = _attempt(toolchain, variant, threads, kept, "", checker.stand_in)
        if beyond is not None and first.built is not None:
            first = replace(first, note="; ".join(filter(None, (beyond.describe(), first.note))))
        if first.check is None or first.check.miss is None:
            return first
        if job.emulator_of(toolchain):  # too slow to try again and again; the next candidate has more bits
            return first
        if toolchain.needs_calibration and not (job.real or job.unverified):  # repaired or not, it would not ship
            return first
        way = None if toolchain.takes_program else repair_for(toolchain, first.check, variant)
        return first if way is None else _repair(first, way, variant, threads, checker.stand_in)
    except EngineError as error:
        return Assessed(toolchain, error=located(error, variant.graph, variant.source.program))
    except EdgekitError as error:
        return Assessed(toolchain, error=error)
    except Exception as error:
        if is_everybodys(error):
            raise
        return Assessed(
            toolchain, error=unexpected(error, f"{variant.source.name}-{toolchain.candidate.name}", REPORTS)
        )


def _attempt(
    toolchain: Toolchain,
    variant: Variant,
    threads: int | None,
    keep_float: frozenset[str],
    tag: str,
    stand_in: StandIn | None,
) -> Assessed:
    job = variant.job
    outcome = build(toolchain, variant, keep_float, tag)
    if isinstance(outcome, NotBuilt):
        return Assessed(toolchain, reason=outcome.reason)
    built = replace(outcome, stand_in=stand_in)
    given = choices(toolchain, threads, job.site.cores, built.operators, job.allow_fallback)
    with _open(built, given.first) as worker:
        placement: Placement = worker.info.placement
        misplaced = _misplaced(placement, built) if stand_in is None else None
        if misplaced is not None:
            return Assessed(toolchain, built, error=misplaced)
        found = check(built, worker)
        if found.miss is not None:
            return Assessed(toolchain, built, found, error=ParityError(found.miss))
        here = Assessed(toolchain, built, found, options=given.first)
        if stand_in is not None:  # where its nodes run is not where the engine's would
            return here
        here = replace(here, placement=built.placement or placement.counts(), version=worker.info.version)
        if job.site.unmeasured is not None or job.emulator_of(toolchain):
            return here
        timed, refused = screen(built, given, worker, job.target.measure.warmup_s)
    here = replace(here, contenders=tuple(timed), note=refused[0] if refused else None)
    if job.target.limits.memory_bytes is None:
        return here
    peak = peak_memory(built, given.first)
    return replace(here, peak_bytes=peak, error=too_large(peak, built))


def _repair(first: Assessed, way: Repair, variant: Variant, threads: int | None, stand_in: StandIn | None) -> Assessed:
    """Leave out more and more nodes until the accuracy holds, or give up."""
    assert first.check is not None
    last, tries = first, itertools.count(1)
    while last.built is not None and (proposal := way.next(last.built)) is not None:
        again = _attempt(first.toolchain, variant, threads, proposal.nodes, f"-repair-{next(tries)}", stand_in)
        if again.reason is not None:  # nothing would be left to convert
            break
        last = again
        if again.passed:
            parity, precision = first.check.parity, first.candidate.precision
            before = f"all {precision} had {parity.sqnr_db:.1f} dB ({first.check.miss})"
            note = f"{proposal.describe()}{'; ' if proposal.why else ': '}{before}"
            return replace(again, note="; ".join(filter(None, (note, again.note))))
        if again.check is not None and again.check.miss is None:  # accurate, and out for another reason
            return again
    return Assessed(first.toolchain, last.built, last.check, error=last.error or first.error)


def confirm(item: Assessed, contender: Contender) -> Assessed:
    """``item`` checked with the session options that it would ship with, where these may change what it computes.

    The number of threads does not; another kernel or another layout may.
    """
    assert item.built is not None and item.options is not None
    if _kernels(contender.options) == _kernels(item.options):
        return item
    with open_worker(item.built, contender.options) as worker:
        misplaced = _misplaced(worker.info.placement, item.built)
        if misplaced is not None:
            return replace(item, error=misplaced)
        outcome = check(item.built, worker)
        counts = worker.info.placement.counts()
    error = None if outcome.miss is None else ParityError(outcome.miss)
    return replace(item, check=outcome, options=contender.options, placement=counts, error=error)


def _kernels(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "threads"}


def _open(built: Built, options: Mapping[str, Any]) -> Worker:
    """A worker; of an engine that refuses to run nodes elsewhere, the error names them by their PyTorch modules."""
    try:
        return open_worker(built, options)
    except PlacementError as error:
        if not built.toolchain.has_option("fallback"):
            raise
        with open_worker(built, {**options, "fallback": ["*"]}) as worker:
            raise _misplaced(worker.info.placement, built) or error from error


def _misplaced(placement: Placement, built: Built) -> PlacementError | None:
    """The error for nodes that run where neither the target nor the user allows, or None."""
    variant, job = built.variant, built.variant.job
    return refusal(
        placement,
        devices=job.target.devices_of(built.candidate),
        target=job.target.name,
        allowed=job.allow_fallback,
        modules={node.name or "": module_path(node) for node in variant.graph.graph},
        advice=built.toolchain.runtime_facts.advice,
    )


def why_not_measured(picked: Assessed) -> str | None:
    """Why nothing was timed, and what in consequence is not known; None: it was."""
    assert picked.built is not None, "a picked candidate was built"
    job, stand_in = picked.built.variant.job, picked.built.stand_in
    emulator = job.emulator_of(picked.toolchain)
    if stand_in is None:
        return f"verified on the emulator ({emulator}); latency needs a device" if emulator else job.site.unmeasured
    built = picked.toolchain.runtime_facts.prepares
    unbuilt = f"no {built} was built on this machine, the device builds it at first open; " if built else ""
    return f"{stand_in.reason}; {unbuilt}the numerics were checked with {stand_in.runtime} {stand_in.version}"

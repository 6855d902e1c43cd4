"""Faster, slower, or not distinguishable: two bundles measured in one run, with a control that must come out equal.

In every round fresh processes of A, of B and again of A are open at once and take turns in short blocks, in random
order, so that whatever slows the machine down hits all three alike. A round gives one ratio of medians, B to A, and one
of A's second process to its first: the interval of the first says what is known, that of the second whether the machine
can tell at all.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ..bundle import Bundle, open_bundle
from ..contracts import Progress, Quiet
from ..devices import Device, device_for
from ..devices.prepare import bring
from ..errors import UsageError
from ..json_output.compare import Compare
from ..measure.client import Worker
from ..measure.machine import not_the_device
from ..measure.opening import checked
from ..measure.sampling import Because, Plan, Stopped
from ..measure.statistics import Estimate, Series, Summary, mean_interval, percentile, ratio_by_clock, summarize
from .same_model import different_models

Outcome = Literal["faster", "slower", "indistinguishable"]

BLOCK_S = 0.05
REWARM_S = 0.01
"""Untimed runs at the start of a turn: caches and clocks come back from the others' turns."""
ROUNDS = 6
"""The fewest, before the ratio's interval may count as narrow."""
DECISION = 0.975
"""Confidence of the ratio's interval, and of the control's: looking after every round costs some of it, so that at most
one comparison of equals in twenty finds a difference (`benchmarks/intervals.py`)."""
_SLICE_S = 0.5  # timed runs of each side in a round
_MIN_BLOCKS = 3
_SIDES = ("a", "b", "control")


@dataclass(frozen=True, slots=True)
class CompareResult:
    """What is known of B's median latency relative to A's."""

    a: Path
    b: Path
    device: dict[str, Any]
    ratio: Estimate  # B's p50 ÷ A's: below 1, B is faster
    control: Estimate  # A's second process ÷ its first: holds 1 where the machine can tell
    verdict: Outcome  # of B, against A
    reasons: tuple[str, ...]
    rounds: int
    stopped: Stopped
    samples: Mapping[str, list[list[Series]]] = field(repr=False)  # "a", "b", "control" → [round][block][run], seconds
    clock_s: float = 0.0  # the step of the engines' own clock; 0: it has none
    different_models: str | None = None  # why these are not two forms of one model

    def to_json(self) -> Compare:
        """The object of ``compare --json`` (schema 1)."""
        value = {
            "schema": 1,
            "a": str(self.a),
            "b": str(self.b),
            "different_models": self.different_models,
            "device": self.device,
            "ratio": self.ratio.to_json(),
            "control": self.control.to_json(),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "confidence": DECISION,
            "rounds": self.rounds,
            "stopped": self.stopped.to_json(),
            "latency": {side: _latency(summarize(self.samples[side]), self.clock_s) for side in ("a", "b")},
            "samples": None,
            "not_measured": {"samples": "not kept"},
        }
        return cast("Compare", value)


def compare(
    a: str | Path | Bundle,
    b: str | Path | Bundle,
    device: str = "local",
    *,
    precision: float | None = 0.01,
    max_time_s: float = 60.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CompareResult:
    """Whether bundle ``b`` is faster than bundle ``a``, each with the session options it was exported with.

    Args:
        a: what to compare with: a bundle's folder or zip, or an open one.
        b: what is compared.
        device: where.
        precision: stop when the ratio is known to ± this share; None: use all the time.
        max_time_s: stop after so much time.
        threads: instead of both bundles' session option.
        progress: told the seconds spent.

    Raises:
        BundleError: a bundle is damaged, or is none.
        EngineError: the device or an engine is missing, or it crashed.
        UsageError: an option that cannot be, or a bundle without golden inputs.
    """
    plan = Plan(precision=precision, max_time_s=max_time_s)
    progress = progress or Quiet()
    with contextlib.ExitStack() as stack:
        bundles = [item if isinstance(item, Bundle) else stack.enter_context(open_bundle(item)) for item in (a, b)]
        unlike = different_models(*bundles)
        place = stack.enter_context(device_for(device))
        for bundle in bundles:
            bring(bundle, place, progress)
        openers = [_opener(bundle, place, threads) for bundle in bundles]
        with progress.stage("compare"):
            turns = measure_in_turns(openers[0], openers[1], plan, progress)
        described = place.describe()
    ratio, control = turns.ratio("b"), turns.ratio("control")
    outcome, reasons = conclude(ratio, control)
    if turns.by_clock_alone and outcome == "indistinguishable":
        step = f"{turns.clock_s * 1e6:g} µs"
        reasons = [*reasons, f"the engine's own clock goes in steps of {step}: a larger batch tells more"]
    elsewhere = [why for bundle in bundles for why in not_the_device(described, bundle.manifest.arch)]
    if elsewhere:
        outcome, reasons = "indistinguishable", [*dict.fromkeys(elsewhere), *reasons]
    if turns.stopped.because == "time" and outcome == "indistinguishable":
        reasons = [*reasons, f"the time was spent after {turns.rounds} rounds: more --max-time may tell"]
    first, second = (bundle.path for bundle in bundles)
    return CompareResult(
        first,
        second,
        described,
        ratio,
        control,
        outcome,
        tuple(reasons),
        turns.rounds,
        turns.stopped,
        turns.samples,
        turns.clock_s,
        unlike,
    )


@dataclass(frozen=True, slots=True)
class Turns:
    """What the rounds brought."""

    samples: dict[str, list[list[Series]]]  # of ``a``, ``b`` and ``control``: [round][block][run], seconds
    clock_s: float  # the step of the engines' own clock; 0: it has none
    stopped: Stopped

    @property
    def rounds(self) -> int:
        """How many there were."""
        return len(self.samples["a"])

    @property
    def by_clock_alone(self) -> bool:
        """Whether the ratio is as uncertain as it is for the clock's step more than for the runs themselves."""
        return self.ratio("b").relative_error > 2 * paired_ratio(self.samples["a"], self.samples["b"]).relative_error

    def ratio(self, side: str) -> Estimate:
        """p50 of ``side`` ÷ p50 of ``a``, as well as the clock that both were read from tells it."""
        return by_clock(paired_ratio(self.samples["a"], self.samples[side]), self.samples, side, self.clock_s)


def by_clock(ratio: Estimate, samples: Mapping[str, Sequence[Sequence[Series]]], side: str, clock_s: float) -> Estimate:
    """The ratio of all rounds, as well as the clock that ``a`` and ``side`` were read from tells it."""
    medians = (percentile(_joined([run for blocks in samples[name] for run in blocks]), 0.5) for name in ("a", side))
    return ratio_by_clock(ratio, medians, clock_s)


def measure_in_turns(
    open_a: Callable[[], Worker], open_b: Callable[[], Worker], plan: Plan, progress: Progress
) -> Turns:
    """Rounds of fresh processes that take turns, until the ratio is precise or the time is spent; at least two."""
    samples: dict[str, list[list[Series]]] = {side: [] for side in _SIDES}
    clock_s = 0.0
    shuffle, start = random.Random(20240229), time.monotonic()
    slice_s = min(_SLICE_S, plan.max_time_s / (6 * ROUNDS))
    while True:
        began, rounds = time.monotonic(), len(samples["a"])
        with contextlib.ExitStack() as stack:
            workers = [(side, stack.enter_context(open_b() if side == "b" else open_a())) for side in _SIDES]
            clock_s = max(clock_s, *(worker.info.clock_s for _, worker in workers))
            for side in _SIDES:
                samples[side].append([])
            while _unfinished([samples[side][-1] for side in _SIDES], slice_s):
                warmup_s = REWARM_S if samples["a"][-1] else plan.warmup_s
                for side, worker in shuffle.sample(workers, len(workers)):
                    samples[side][-1].append(worker.measure(min(BLOCK_S, slice_s), warmup_s=warmup_s))
        now, rounds = time.monotonic(), rounds + 1
        progress.step(round(min(now - start, plan.max_time_s)), round(plan.max_time_s), f"{rounds} rounds")
        if rounds < 2:
            continue
        ratio, control = (paired_ratio(samples["a"], samples[side]) for side in ("b", "control"))
        reached = by_clock(ratio, samples, "b", clock_s).relative_error
        because: Because | None = None
        if stop(ratio, control, rounds, plan.precision):
            because = "precise" if plan.precision is None or reached <= plan.precision else "clock"
        elif now - start + (now - began) > plan.max_time_s:
            because = "time"
        if because is not None:
            return Turns(samples, clock_s, Stopped(because, plan.precision, reached, now - start))


def paired_ratio(base: Sequence[Sequence[Series]], other: Sequence[Sequence[Series]]) -> Estimate:
    """p50 of ``other`` ÷ p50 of ``base``, round by round: their geometric mean and Student's t interval.

    Pairing takes out what a round's two processes share: the machine's state in that half second.
    """
    return ratio_of_rounds(*([percentile(_joined(blocks), 0.5) for blocks in side] for side in (base, other)))


def ratio_of_rounds(base: Sequence[float], other: Sequence[float]) -> Estimate:
    """The same, of the medians themselves."""
    return mean_interval([max(o, 1e-9) / max(b, 1e-9) for b, o in zip(base, other, strict=True)], DECISION)


def stop(ratio: Estimate, control: Estimate, rounds: int, precision: float | None) -> bool:
    """Whether the ratio is known well enough; never because of what it says, which would make chance differences pass.

    The control must be as well known as the ratio is: a machine is not called quiet for want of looking.
    """
    if precision is None or rounds < ROUNDS:
        return False
    return max(ratio.relative_error, control.relative_error) <= precision


def conclude(ratio: Estimate, control: Estimate) -> tuple[Outcome, list[str]]:
    """What the ratio's interval and the control's allow to say of B, with every reason not to say more."""
    if not control.low <= 1 <= control.high:
        return "indistinguishable", [
            f"this machine is too noisy to tell: A differs from itself by {abs(control.value - 1):.1%}"
        ]
    if ratio.high < 1:
        return "faster", []
    if ratio.low > 1:
        return "slower", []
    return "indistinguishable", [f"the ratio lies between {ratio.low:.3f} and {ratio.high:.3f}, which holds 1"]


def _opener(bundle: Bundle, place: Device, threads: int | None) -> Callable[[], Worker]:
    feeds = [inputs for inputs, _ in bundle.golden()]
    if not feeds:
        raise UsageError(f"'{bundle.path}' holds no golden inputs to measure with")
    options = bundle.options(**({} if threads is None else {"threads": threads}))
    opened = checked(place.open, {})  # refuses what is emulated
    return lambda: opened(bundle.artifact, bundle.manifest.runtime.name, options, feeds)


def _unfinished(sides: Sequence[Sequence[Series]], slice_s: float) -> bool:
    """Whether one side has had fewer blocks, or less time, than a round gives it."""
    return any(len(blocks) < _MIN_BLOCKS or sum(float(b.sum()) for b in blocks) < slice_s for blocks in sides)


def _joined(blocks: Sequence[Series]) -> Series:
    import numpy as np

    return np.concatenate(list(blocks))


def _latency(summary: Summary, clock_s: float) -> dict[str, Any]:
    percentiles = {"p50_s": summary.p50, "p90_s": summary.p90, "p99_s": summary.p99}
    stated = {key: value and value.widened(clock_s).to_json() for key, value in percentiles.items()}
    return {**stated, "n": summary.n, "processes": summary.processes}

"""Do the intervals hold what they promise? Simulated latencies whose true percentiles are known, and a known delay.

    python benchmarks/intervals.py [--series 2000] [--seed 0] [--real 10] [--json FILE]

1. Coverage: how often the nominal 95 % interval of p50, p90 and p99 holds the truth, where the method answers at
   all. At least 0.93 is asked of every row, and that AR(1) series up to ρ = 0.9 with n = 10,000 get p50 and p90.
2. Decisions: `compare`'s rule on simulated rounds, stopped as soon as the interval is narrow enough: false alarms on
   equal sides (at most 5 %), and a true difference of 3 % found (at least 80 %).
3. The gain that `export` states for its winner, picked among equals and looked at until it is narrow: coverage.
4. The real thing: a runtime that sleeps for 2 ms, by `compare`'s own loop and fresh processes, against itself and
   against one that sleeps 3 % longer.

The true percentile is that of the process that made the samples: of its stationary distribution; for a single step, of
the mixture before and after it in that run; for processes that differ, of one process, averaged over processes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.api.compare import conclude, measure_in_turns, ratio_of_rounds, stop
from edgekit.contracts import Artifact, Quiet, TensorSpec
from edgekit.measure.client import Worker
from edgekit.measure.distributions import binomial_at_least
from edgekit.measure.sampling import Plan
from edgekit.measure.statistics import Estimate, percentile_interval
from edgekit.pipeline.race import Contender, precise, speedup

Series = NDArray[np.float64]
PERCENTILES = (0.5, 0.9, 0.99)
N = 10_000
FLOOR = 0.93
RACE_LEAST, RACE_MOST = 3, 7  # rounds of an export: what targets state, and what its extra seconds allow here
WORKER = (sys.executable, "-P", "-m", "edgekit.measure.worker")


@dataclass(frozen=True)
class Simulated:
    """One run: ``samples[process]``, and its true p50, p90 and p99."""

    samples: list[Series]
    truth: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    percentile: str
    answered: float
    coverage: float | None
    width: float | None  # the median half width of the intervals, relative to the value
    passed: bool
    reason: str | None  # why it was refused, where it ever was


Model = Callable[[np.random.Generator], Simulated]


def autoregressive(rho: float, n: int, random: np.random.Generator) -> Series:
    """AR(1) with mean 0 and variance 1, started in its stationary state: x_t = ρ·x_(t−1) + √(1 − ρ²)·ε_t."""
    shocks = random.standard_normal(n)
    if rho == 0:
        return shocks
    shocks[1:] *= np.sqrt(1 - rho**2)
    # Doubling: after step k an element holds the sum over its last 2^k shocks.
    step, factor = 1, rho
    while step < n and factor > 1e-17:
        shocks[step:] += factor * shocks[:-step].copy()
        step, factor = 2 * step, factor**2
    return shocks


def split(series: Series, processes: int) -> list[Series]:
    return np.array_split(series, processes)


def ar1(rho: float, processes: int) -> Model:
    truth = tuple(10 + NormalDist().inv_cdf(q) for q in PERCENTILES)

    def make(random: np.random.Generator) -> Simulated:
        return Simulated([10 + autoregressive(rho, N // processes, random) for _ in range(processes)], truth)

    return make


def telegraph(dwells: tuple[float, float], n: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Two states in turn, each for a geometric number of runs with these means; True: the second."""
    state = np.zeros(n, bool)
    now, at = bool(random.random() < dwells[1] / sum(dwells)), 0
    while at < n:
        length = int(random.geometric(1 / dwells[now]))
        state[at : at + length] = now
        at, now = at + length, not now
    return state


def mixture_truth(parts: Sequence[tuple[float, NormalDist]]) -> tuple[float, ...]:
    """The percentiles of a mixture of normal distributions, by bisection."""
    found = []
    for q in PERCENTILES:
        low, high = min(part.mean - 9 * part.stdev for _, part in parts), max(p.mean + 9 * p.stdev for _, p in parts)
        for _ in range(100):
            middle = (low + high) / 2
            below = sum(weight * part.cdf(middle) for weight, part in parts)
            low, high = (middle, high) if below < q else (low, middle)
        found.append(low)
    return tuple(found)


def throttling(processes: int) -> Model:
    """One step: from a moment on, anywhere in the run, everything takes 1.3 times as long."""

    def make(random: np.random.Generator) -> Simulated:
        at = random.uniform(0.1, 0.9)
        series = 10 + 0.3 * autoregressive(0.5, N, random)
        series[int(at * N) :] *= 1.3
        truth = mixture_truth([(at, NormalDist(10, 0.3)), (1 - at, NormalDist(13, 0.39))])
        return Simulated(split(series, processes), truth)

    return make


def clocks(processes: int, dwells: tuple[float, float] = (140.0, 60.0)) -> Model:
    """Two clock rates in turn, the second 1.15 times as slow and in force for 30 % of the time."""
    share = dwells[1] / sum(dwells)
    truth = mixture_truth([(1 - share, NormalDist(10, 0.3)), (share, NormalDist(11.5, 0.345))])

    def make(random: np.random.Generator) -> Simulated:
        slow = telegraph(dwells, N, random)
        series = (10 + 0.3 * random.standard_normal(N)) * np.where(slow, 1.15, 1.0)
        return Simulated(split(series, processes), truth)

    return make


def spikes(processes: int, rate: float, length: float) -> Model:
    """Bursts of runs that take ten times as long: ``rate`` of all runs, ``length`` of them together on average."""
    truth = mixture_truth([(1 - rate, NormalDist(10, 0.3)), (rate, NormalDist(100, 20))])

    def make(random: np.random.Generator) -> Simulated:
        hit = telegraph((length * (1 - rate) / rate, length), N, random)
        normal, spike = 10 + 0.3 * random.standard_normal(N), 100 + 20 * random.standard_normal(N)
        return Simulated(split(np.where(hit, np.maximum(spike, 1.0), normal), processes), truth)

    return make


def offsets(processes: int, spread: float) -> Model:
    """Processes that differ: each one's mean is off by ``spread`` standard deviations of the runs within one."""
    truth = tuple(30 + NormalDist().inv_cdf(q) for q in PERCENTILES)

    def make(random: np.random.Generator) -> Simulated:
        shifts = spread * random.standard_normal(processes)
        return Simulated([30 + s + random.standard_normal(N // processes) for s in shifts], truth)

    return make


def models() -> dict[str, Model]:
    found: dict[str, Model] = {}
    for processes in (1, 5):
        where = f"{processes} process{'es' if processes > 1 else ''}"
        found |= {f"AR(1) ρ={rho:g}, {where}": ar1(rho, processes) for rho in (0, 0.5, 0.9, 0.99)}
        found[f"one throttling step, {where}"] = throttling(processes)
        found[f"bimodal clocks, {where}"] = clocks(processes)
        found[f"single spikes 0.5 %, {where}"] = spikes(processes, 0.005, 1.0)
        found[f"spikes 2 % in bursts, {where}"] = spikes(processes, 0.02, 5.0)
    for processes in (3, 5, 10):
        for spread in (0.5, 2.0):
            found[f"offsets {spread:g} sd, {processes} processes"] = offsets(processes, spread)
    return found


def must_answer(name: str, q: float) -> bool:
    return name.startswith(("AR(1) ρ=0,", "AR(1) ρ=0.5,", "AR(1) ρ=0.9,")) and q < 0.95


def coverage(name: str, model: Model, count: int, seed: int) -> Iterator[Row]:
    random = np.random.default_rng([seed, *name.encode()])
    hits: dict[float, list[bool]] = {q: [] for q in PERCENTILES}
    widths: dict[float, list[float]] = {q: [] for q in PERCENTILES}
    reasons: dict[float, str] = {}
    for _ in range(count):
        run = model(random)
        for q, truth in zip(PERCENTILES, run.truth, strict=True):
            found = percentile_interval([[series] for series in run.samples], q)
            if isinstance(found, Estimate):
                hits[q].append(found.low <= truth <= found.high)
                widths[q].append((found.high - found.low) / 2 / found.value)
            else:
                reasons[q] = found.reason
    for q in PERCENTILES:
        answered = len(hits[q]) / count
        share = float(np.mean(hits[q])) if hits[q] else None
        enough = answered == 1 or not must_answer(name, q)
        passed = enough and (share is None or share >= FLOOR)
        width = float(np.median(widths[q])) if widths[q] else None
        yield Row(name, f"p{100 * q:g}", answered, share, width, passed, reasons.get(q))


@dataclass(frozen=True)
class Decision:
    """How often simulated comparisons say what they should."""

    name: str
    share: float  # of comparisons that called a difference
    rounds: float  # median number until it stopped
    needed: str
    passed: bool


def decide(noise: float, ratio: float, random: np.random.Generator) -> tuple[str, int]:
    """`compare`'s loop on simulated medians, each off by ``noise``, and a round's by 5 % in common."""
    limit, precision = 30, 0.01
    sides: list[list[float]] = [[], [], []]
    for rounds in range(1, limit + 1):
        common = np.exp(0.05 * random.standard_normal())
        for side, factor in zip(sides, (1.0, ratio, 1.0), strict=True):
            side.append(factor * common * np.exp(noise * random.standard_normal()))
        if rounds < 2:
            continue
        found, control = (ratio_of_rounds(sides[0], side) for side in sides[1:])
        if stop(found, control, rounds, precision) or rounds == limit:
            return conclude(found, control)[0], rounds
    raise AssertionError("the loop ends")


def decisions(count: int, seed: int) -> Iterator[Decision]:
    # Medians of half a second differ by 0.2 % from process to process on a quiet machine, by 3 % on a bad one.
    for noise in (0.002, 0.005, 0.01, 0.03):
        random = np.random.default_rng([seed, round(1e4 * noise)])
        outcomes = [decide(noise, 1.0, random) for _ in range(count)]
        share = float(np.mean([said != "indistinguishable" for said, _ in outcomes]))
        rounds = float(np.median([n for _, n in outcomes]))
        yield Decision(f"A/A, medians differ by {noise:.1%}", share, rounds, "at most 5 %", share <= 0.05)
    for noise in (0.002, 0.005, 0.01):
        random = np.random.default_rng([seed, 1, round(1e4 * noise)])
        outcomes = [decide(noise, 1.03, random) for _ in range(count)]
        share = float(np.mean([said == "slower" for said, _ in outcomes]))
        rounds = float(np.median([n for _, n in outcomes]))
        yield Decision(f"3 % slower, medians differ by {noise:.1%}", share, rounds, "at least 80 %", share >= 0.8)


def race_of(finalists: int, noise: float, random: np.random.Generator) -> tuple[bool, int]:
    """The race of `export` on simulated medians: whether its winner's stated gain holds the true one, and the rounds.

    Every finalist is 2.7 times as fast as fp32; each median is off by ``noise``, a round's by 15 % in common.
    """
    built = cast(Any, SimpleNamespace(candidate=SimpleNamespace(precision="simulated")))
    racing, gain = [Contender(built, {}) for _ in range(finalists + 1)], 2.7
    for rounds in range(1, RACE_MOST + 1):
        common = np.exp(0.15 * random.standard_normal())
        for variant, factor in zip(racing, [1.0, *[1 / gain] * finalists], strict=True):
            variant.blocks.append([np.array([factor * common * np.exp(noise * random.standard_normal())])])
        winner = min(racing[1:], key=lambda variant: variant.p50_s)
        if rounds >= RACE_LEAST and (precise(winner, racing[0]) or rounds == RACE_MOST):
            found = speedup(winner, racing[0])
            assert found is not None
            return found.low <= gain <= found.high, rounds
    raise AssertionError("the loop ends")


def gains(count: int, seed: int) -> Iterator[Decision]:
    for finalists in (1, 4):
        for noise in (0.005, 0.02, 0.05, 0.2):
            random = np.random.default_rng([seed, 2, finalists, round(1e4 * noise)])
            outcomes = [race_of(finalists, noise, random) for _ in range(count)]
            share = float(np.mean([held for held, _ in outcomes]))
            rounds = float(np.median([n for _, n in outcomes]))
            name = f"gain holds, {finalists} finalist{'s' * (finalists > 1)}, off by {noise:.1%}"
            yield Decision(name, share, rounds, "at least 93 %", share >= FLOOR)


def show(row: Row) -> str:
    covered = "   —  " if row.coverage is None else f"{row.coverage:6.3f}"
    width = "" if row.width is None else f"±{100 * row.width:.2f} %"
    reason = row.reason if row.reason and row.answered < 0.5 else ""
    return f"{row.name:<36}{row.percentile:<5}{row.answered:>8.0%}  {covered}  {width:>10}  " + (
        f"{'pass' if row.passed else 'FAIL'}  {reason}".rstrip()
    )


def sleeping(count: int, delay_s: float = 0.002) -> Iterator[Decision]:
    """`compare`'s own loop, with fresh processes of a runtime that sleeps: steady, on whatever machine this is."""
    here, spec = str(Path(__file__).parent), TensorSpec("x", "float32", (1,))
    artifact = Artifact(Path("none"), "onnx", "fp32", (spec,), (spec,))
    feeds = [{"x": np.zeros(1, np.float32)}]

    def opener(factor: float) -> Callable[[], Worker]:
        options = {"delay_s": factor * delay_s}
        return lambda: Worker(WORKER, artifact, "_sleeping:Sleeping", options, feeds)

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    cases = (("A/A", 1.0, "indistinguishable"), ("3 % slower", 1.03, "slower"), ("3 % faster", 0.97, "faster"))
    for name, factor, expected in cases:
        said, rounds = [], []
        for _ in range(count):
            turns = measure_in_turns(opener(1.0), opener(factor), Plan(0.01, 60.0), Quiet())
            said.append(conclude(turns.ratio("b"), turns.ratio("control"))[0])
            rounds.append(turns.rounds)
        right = float(np.mean([item == expected for item in said]))
        called = float(np.mean([item != "indistinguishable" for item in said]))
        needed = "at most 5 %" if factor == 1 else "at least 80 %"
        # Few comparisons: more than 5 % of them must be more than chance would have it.
        alarms = round(called * count)
        passed = binomial_at_least(alarms, count, 0.05) > 0.05 if factor == 1 else right >= 0.8
        share = called if factor == 1 else right
        yield Decision(f"sleeps 2 ms: {name}, {count} times", share, float(np.median(rounds)), needed, passed)


def verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def tell(made: Decision) -> str:
    return f"{made.name:<41}{made.share:>8.1%}  {made.rounds:>6.0f}  {made.needed:<14}{verdict(made.passed)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=int, default=10, help="comparisons of the sleeping runtime a case; 0: none")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    start, rows = time.monotonic(), []
    print(f"{'model':<36}{'':<5}{'answered':>8}  {'covers':>6}  {'half width':>10}")
    for name, model in models().items():
        for row in coverage(name, model, arguments.series, arguments.seed):
            rows.append(row)
            print(show(row), flush=True)
    print(f"{time.monotonic() - start:.0f} s")
    print(f"\n{'decision':<41}{'called':>8}  {'rounds':>6}")
    made = []
    real = iter(()) if arguments.real == 0 else sleeping(arguments.real)
    count, seed = arguments.series, arguments.seed
    for decision in chain(decisions(count, seed), gains(count, seed), real):
        made.append(decision)
        print(tell(decision), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in [*rows, *made]], indent=1))
    return int(not all(row.passed for row in [*rows, *made]))


if __name__ == "__main__":
    sys.exit(main())

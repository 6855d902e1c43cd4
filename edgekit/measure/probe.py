"""How fast this machine is now: fixed work that no model and no engine has a part in.

A cloud's core or a warm board runs at 84 µs a run, then at 125 µs, each steady for minutes: without a yardstick nobody
can say whether a bundle or its machine changed. Three kinds of work, in turns, each timed piece by piece:

    integer   a loop of the interpreter (branches, small integers)
    float     the product of two float32 matrices of 96 x 96 by numpy (vector units; too small for several threads)
    memory    a copy of 1 MB (larger ones say more of what others do to the memory than of this core)

and of each the median of its pieces, in seconds, as latencies are told by their medians: what others take from the
machine counts in both. Of two of them, a and b, on one kind of machine

    change = exp(mean over the kinds of ln(b / a))          above 1: slower at b

On two shared, busy cores the p50s of 28 processes with a small convolution were apart by up to 48 % (95 % of all pairs;
sd of the logarithms 0.14), and by up to 23 % when each was divided by the change (sd 0.06): hence `SAME`.

Device floor: the standard library and numpy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

PROBE_S = 0.09
"""Seconds in each process that measures."""
SAME = 1.25
"""A change below this factor, either way, is none: the probe cannot tell it from chance."""
_LOOP, _SIZE, _COPY_BYTES = 2000, 96, 2**20
_TURNS = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds for one piece of each kind of work."""

    integer_s: float
    float_s: float
    memory_s: float

    def to_json(self) -> dict[str, float]:
        """``speed`` of ``bench --json``."""
        return asdict(self)


def probe(seconds: float = PROBE_S) -> Speed:
    """Measure for about so many seconds, in this process."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((_SIZE, _SIZE)).astype(np.float32) for _ in range(2))
    c = np.empty_like(a)
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.ones_like(source)
    works: tuple[Callable[[], object], ...] = (
        _count,
        lambda: np.matmul(a, b, out=c),
        lambda: np.copyto(target, source),
    )
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(_TURNS):
        for work, times in zip(works, taken, strict=True):
            _time(work, seconds / (_TURNS * len(works)), times)
    return Speed(*map(median, taken))


def change(a: Speed, b: Speed) -> float:
    """How many times slower the machine is at ``b`` than at ``a``, by the formula above."""
    logs = [math.log(getattr(b, key) / getattr(a, key)) for key in Speed.__slots__]
    return math.exp(sum(logs) / len(logs))


def middle(speeds: Sequence[Speed]) -> Speed:
    """The median of several processes', kind by kind."""
    return Speed(*(median(getattr(item, key) for item in speeds) for key in Speed.__slots__))


def from_json(value: object) -> Speed | None:
    """The reverse of `Speed.to_json`; None where it is something else."""
    if not isinstance(value, Mapping):
        return None
    found: list[Any] = [value.get(key) for key in Speed.__slots__]
    whole = all(isinstance(item, (int, float)) and math.isfinite(item) and item > 0 for item in found)
    return Speed(*map(float, found)) if whole else None


def _count() -> int:
    total = 0
    for number in range(_LOOP):
        total = (total * 5 + number) & 0xFFFF
    return total


def _time(work: Callable[[], object], seconds: float, times: list[float]) -> None:
    """Add the times of the pieces that fit into ``seconds``, one at least, after one that warms the caches."""
    clock = time.perf_counter
    work()
    end = clock() + seconds
    while True:
        start = clock()
        work()
        times.append(clock() - start)
        if clock() >= end:
            return

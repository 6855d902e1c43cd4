"""What ``run`` costs beside ``bind``: a model is measured by its bound call, and most apps call ``run``.

``run`` checks names and dtypes at every call and hands out fresh arrays; a bound call does neither. In one process the
two take turns in short blocks, so that a slow moment hits both, and

    adds = median over the turns of (p50 of run − p50 of bind)

which is never below 0: what ``run`` saves is chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ..contracts import Feeds, Session

TURNS = 10
MIN_RUNS = 3
"""In a turn, however long a run is."""


@dataclass(frozen=True, slots=True)
class CallPrice:
    """In seconds."""

    run_p50_s: float
    bind_p50_s: float
    adds_s: float

    def to_json(self) -> dict[str, Any]:
        """``run`` of ``bench --json``."""
        return asdict(self)


def call_price(session: Session, feeds: Feeds, seconds: float) -> CallPrice:
    """Time ``session.run(feeds)`` beside what ``session.bind(feeds)`` returns, in about so many seconds."""
    bound = session.bind(feeds)
    slice_s = seconds / (2 * TURNS)

    def run() -> object:
        return session.run(feeds)

    for call in (bound, run):
        _p50(call, slice_s)  # warm
    turns = [(_p50(bound, slice_s), _p50(run, slice_s)) for _ in range(TURNS)]
    adds = median(theirs - ours for ours, theirs in turns)
    return CallPrice(median(theirs for _, theirs in turns), median(ours for ours, _ in turns), max(adds, 0.0))


def _p50(call: Callable[[], object], seconds: float) -> float:
    clock = time.perf_counter
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < MIN_RUNS or clock() < end:
        start = clock()
        call()
        taken.append(clock() - start)
    return median(taken)

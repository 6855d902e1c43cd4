"""Whether a candidate fits into its target's memory, by the peak of a process that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import units
from ..errors import BudgetError
from .check import open_worker
from .job import Built

RUN_S = 0.25
"""Seconds of runs before the peak is read; engines take memory at the first runs that they do not take at opening."""
RUNS = 4


def peak_memory(built: Built, options: Mapping[str, Any]) -> int | None:
    """The most main memory, in bytes, that a process held which opened the candidate and ran it, engine and all.

    A process of its own: the one that checks also holds the samples. None: the system does not tell.

    Raises:
        EngineError: the engine fails.
    """
    with open_worker(built, options) as worker:
        worker.measure(seconds=RUN_S, min_runs=RUNS)
        return worker.memory().peak_rss_bytes


def too_large(peak_bytes: int | None, built: Built) -> BudgetError | None:
    """The error for a peak above the target's limit; None: it fits, or there is no limit, or no number."""
    target = built.variant.job.target
    limit_bytes = target.limits.memory_bytes
    if limit_bytes is None or peak_bytes is None or peak_bytes <= limit_bytes:
        return None
    return BudgetError(
        f"{units.size(peak_bytes)} of memory at its peak, and target '{target.name}' has {units.size(limit_bytes)}"
    )

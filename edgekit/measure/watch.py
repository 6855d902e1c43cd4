"""Keeps the machine's state around a measurement, from what the workers tell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Protocol

from .state import DeviceState, Snapshot

BEFORE_S = 0.3
"""How long the machine is looked at before the first run, with nothing of ours running."""
AFTER_S = 0.1
"""How long at the end of each group of workers."""


class Watched(Protocol):
    """What a worker tells of its machine."""

    snapshots: list[Snapshot]
    snapshot_costs_s: list[float]
    unread: dict[str, str]

    def observe(self, seconds: float) -> Snapshot:
        """Wait, then read."""
        ...


class StateWatch:
    """`begin` before the first timed run, `end` after the last, for every group of workers; then ask for `state`."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None
        self._during: list[Snapshot] = []
        self._costs_s: list[float] = []
        self._unread: dict[str, str] = {}

    def begin(self, workers: Sequence[Watched]) -> None:
        """Look at the machine before a group of workers is measured."""
        if self._before is None:
            self._before = workers[0].observe(BEFORE_S)

    def end(self, workers: Sequence[Watched]) -> None:
        """Look at it again, and take over what the workers saw while measuring."""
        self._after = workers[0].observe(AFTER_S)
        for worker in workers:
            self._during += worker.snapshots
            self._costs_s += worker.snapshot_costs_s
            self._unread |= worker.unread

    def state(self) -> DeviceState | None:
        """All of it, in the order of time; None where nothing was measured."""
        if self._before is None or self._after is None:
            return None
        return DeviceState(
            before=self._before,
            during=tuple(sorted(self._during, key=lambda item: item.time_s)),
            after=self._after,
            unread=self._unread,
            cost_s=statistics.median(self._costs_s) if self._costs_s else None,
        )

"""A runtime that does nothing for a known time. A worker loads it as ``_sleeping:Sleeping``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.contracts import Artifact, Feeds
from edgekit.runtimes.null import Null, NullSession


class Sleeping(Null):
    """The null runtime, which sleeps for ``delay_s`` at each run."""

    name = "sleeping"

    @dataclass(frozen=True, slots=True)
    class Options:
        threads: int = 0
        delay_s: float = 0.0

    def open(self, artifact: Artifact, options: Options) -> SleepingSession:  # type: ignore[override]
        return SleepingSession(artifact, options.delay_s)


class SleepingSession(NullSession):
    def __init__(self, artifact: Artifact, delay_s: float) -> None:
        super().__init__(artifact, 0)
        self._delay_s = delay_s

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return lambda: time.sleep(self._delay_s)

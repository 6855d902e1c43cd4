"""The one sampler of latencies, for every runtime."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns, sleep

import numpy as np
from numpy.typing import NDArray

from ..contracts import Feeds, Session
from .stream import Stream

MAX_RUNS = 1_000_000
"""A block ends after so many runs whatever its time: 8 MB of samples."""
PATIENCE = 3.0
_SPIN_S = 1e-3


class Sampler:
    """Times a session's hot call, in blocks, with several inputs in rotation.

    Inputs are bound beforehand, so a sample holds the engine's work and the call into it, and nothing of copying feeds
    or allocating results. The rotation goes on from block to block.

    Args:
        session: an open session; stays the caller's to close. Or a stream in one: then each run is its next step.
        feeds: at least one set of inputs, real ones: some kernels are faster on zeros, and caches on one input alone.
    """

    def __init__(self, session: Session | Stream, feeds: Sequence[Feeds]) -> None:
        if not feeds:
            raise ValueError("a sampler needs at least one set of inputs")
        self._feeds = list(feeds)  # a bound call is valid only while its arrays live
        self._calls = [session.bind(item) for item in self._feeds]
        self._next = 0

    def warm_up(self, seconds: float) -> int:
        """Run for ``seconds`` and at least once over every input, untimed. Returns the number of runs."""
        runs = 0
        end = perf_counter_ns() + int(seconds * 1e9)
        while runs < len(self._calls) or perf_counter_ns() < end:
            self._calls[runs % len(self._calls)]()
            runs += 1
        return runs

    def block(self, seconds: float = 0.0, *, min_runs: int = 1, max_runs: int = MAX_RUNS) -> NDArray[np.float64]:
        """Run back to back and time each run with ``perf_counter_ns``.

        Stops once ``seconds`` have passed and ``min_runs`` are done, at the latest after ``max_runs``. Python's garbage
        collector rests meanwhile: its pauses belong to the harness, not to the engine.

        Returns:
            The latencies in seconds, in the order they were taken, shape [n], 1 <= n <= max_runs.
        """
        if not 1 <= min_runs <= max_runs:
            raise ValueError(f"`1 <= min_runs <= max_runs` must hold, got min_runs={min_runs}, max_runs={max_runs}")
        calls, count, index = self._calls, len(self._calls), self._next
        clock = perf_counter_ns
        samples = array("q")
        keep = samples.append
        with _no_garbage_collection():
            end = clock() + int(seconds * 1e9)
            for run in range(1, max_runs + 1):
                call = calls[index]
                index = index + 1 if index + 1 < count else 0
                start = clock()
                call()
                stop = clock()
                keep(stop - start)
                if stop >= end and run >= min_runs:
                    break
        self._next = index
        return np.frombuffer(samples, dtype=np.int64) / 1e9

    def serve(self, rate_per_s: float, seconds: float, *, seed: int = 0) -> NDArray[np.float64]:
        """Run at the arrivals of a Poisson process, one request at a time in the order in which they came.

        The gaps between arrivals are exponential with the mean 1/``rate_per_s``. While nothing has arrived, it sleeps,
        and spins for the last `_SPIN_S`, since a sleep ends late. Requests that arrive while one runs wait.

        Returns:
            From each arrival to its result in seconds, the wait included, in order; of all that arrived within
            ``seconds``, at least one and at most `MAX_RUNS`. Where more arrive than can be served, it stops
            `PATIENCE` times that time after the start; what still waits then is left out.
        """
        arrivals = (poisson_arrivals(rate_per_s, seconds, seed) * 1e9).astype(np.int64).tolist()
        calls, index, clock, spin_ns = self._calls, self._next, perf_counter_ns, int(_SPIN_S * 1e9)
        samples = array("q")
        with _no_garbage_collection():
            start = clock()
            end = start + int(PATIENCE * seconds * 1e9)
            for offset in arrivals:
                arrival = start + offset
                wait_ns = arrival - clock()
                if wait_ns > spin_ns:
                    sleep((wait_ns - spin_ns) / 1e9)
                while clock() < arrival:
                    pass
                calls[index]()
                index = index + 1 if index + 1 < len(calls) else 0
                done = clock()
                samples.append(done - arrival)
                if done > end:
                    break
        self._next = index
        return np.frombuffer(samples, dtype=np.int64) / 1e9


def poisson_arrivals(rate_per_s: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """The moments at which requests of a Poisson process arrive within ``seconds``, in order, 1 to `MAX_RUNS` of them.

    Given how many arrive, their moments are independent and uniform.
    """
    random = np.random.default_rng(seed)
    count = min(max(int(random.poisson(rate_per_s * seconds)), 1), MAX_RUNS)
    return np.sort(random.random(count)) * seconds


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

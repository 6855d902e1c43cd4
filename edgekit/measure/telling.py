"""How far long work has come, told from deep inside an engine's adapter: to a worker's host, or on standard error.

An adapter that may take minutes to open a model (it builds something) calls `tell`. A worker sends that to its host;
in an app, where nobody listens, it goes to standard error, a line now and then. Engines call from threads of their
own, so whoever listens is known to the whole process.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float | None], None]
"""Called with what is being done, and the share of it that is done (0 to 1; None: not known)."""

EVERY_S = 5.0
"""A line on standard error at most this often; what has no share is said at once."""


class _Teller:
    def __init__(self) -> None:
        self.listener: Listener | None = None
        self._lock = threading.Lock()
        self._line_s = float("-inf")

    def tell(self, doing: str, share: float | None) -> None:
        with self._lock:
            if self.listener is not None:
                self.listener(doing, share)
                return
            now = time.monotonic()
            if share is None or share == 1 or now - self._line_s >= EVERY_S:
                self._line_s = now
                print(doing if share is None else f"{doing}: {share:.0%}", file=sys.stderr, flush=True)


_teller = _Teller()


def tell(doing: str, share: float | None = None) -> None:
    """Say that ``doing`` is going on, and how much of it is done. From any thread."""
    _teller.tell(doing, share)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let ``listener`` have what is told inside the with, one call at a time."""
    before, _teller.listener = _teller.listener, listener
    try:
        yield
    finally:
        _teller.listener = before

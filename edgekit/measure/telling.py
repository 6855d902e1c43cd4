"""How far long work has come, told from deep inside an engine's adapter: to a worker's host, or on standard error.

An adapter that may take minutes to open a model (it builds something) calls `tell`. A worker sends that to its host;
in an app, where nobody listens, it goes to standard error, a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, float | None], None]
"""Called with what is being done, and the share of it that is done (0 to 1; None: not known)."""

EVERY_S = 5.0
"""A line on standard error at most this often."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_last_line_s = 0.0


def tell(doing: str, share: float | None = None) -> None:
    """Say that ``doing`` is going on, and how much of it is done."""
    listener = _listener.get()
    if listener is not None:
        listener(doing, share)
        return
    global _last_line_s
    now = time.monotonic()
    if now - _last_line_s >= EVERY_S or share == 1:
        _last_line_s = now
        print(doing if share is None else f"{doing}: {share:.0%}", file=sys.stderr, flush=True)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let ``listener`` have what is told inside the with."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)

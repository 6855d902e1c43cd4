"""How long a worker may be silent before its engine counts as hung."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping

from ..errors import UsageError

OPEN_S, ANSWER_S = 1800.0, 600.0
"""Opening a model may build it, for half an hour on a small board; a run of it is nothing that takes ten minutes."""
VARIABLE = "EDGEKIT_ENGINE_TIMEOUT"
"""The environment variable with another limit for both, in seconds; 0: none."""
_OPENING = ("open", "reopen")
_LOOK_S = 1.0
_SAY_S = 30.0


def limit_s(command: str, asked: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> float | None:
    """How long the answer to ``command`` may take without a sign of life; None: for ever.

    Args:
        command: what the worker is asked to do.
        asked: its arguments: the times in them (``seconds``, ``warmup_s``, ``idle_s``) come on top.
        environment: may hold `VARIABLE`.

    Raises:
        UsageError: the variable is no number of seconds.
    """
    allowed = OPEN_S if command in _OPENING else ANSWER_S
    text = environment.get(VARIABLE, "").strip()
    if text:
        try:
            allowed = float(text)
        except ValueError:
            allowed = -1.0
        if not 0 <= allowed < float("inf"):
            raise UsageError(f"{VARIABLE} must be a number of seconds, or 0 for no limit, got '{text}'")
        if allowed == 0:
            return None
    spent = [asked.get(key) for key in ("seconds", "warmup_s", "idle_s")]
    return allowed + sum(value for value in spent if isinstance(value, (int, float)))


class Watchdog:
    """Calls ``give_up`` once a limit has passed since the last sign of life. One thread, that looks every second.

    Args:
        give_up: called from that thread.
        say: called now and then while there is silence, with the seconds of it and of the limit.
    """

    def __init__(self, give_up: Callable[[], None], say: Callable[[float, float], None]) -> None:
        self.gave_up: float | None = None  # the limit that passed
        self._give_up, self._say = give_up, say
        self._limit_s: float | None = None
        self._sign_s = self._said_s = 0.0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edgekit-watchdog", daemon=True)
        self._thread.start()

    def expect(self, limit_s: float | None) -> None:
        """An answer is due from now on, or (None) no longer."""
        with self._lock:
            self._limit_s = limit_s
            self._sign_s = self._said_s = time.monotonic()

    def sign(self) -> None:
        """The other side is alive."""
        with self._lock:
            self._sign_s = self._said_s = time.monotonic()

    def close(self) -> None:
        """Stop looking; a second call does nothing."""
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_S):
            with self._lock:
                limit, now = self._limit_s, time.monotonic()
                silent_s = now - self._sign_s
                say = limit is not None and now - self._said_s >= _SAY_S
                if say:
                    self._said_s = now
                if limit is not None and silent_s > limit:
                    self.gave_up = limit
            if limit is not None and self.gave_up is not None:
                self._give_up()
                return
            if say and limit is not None:
                self._say(silent_s, limit)

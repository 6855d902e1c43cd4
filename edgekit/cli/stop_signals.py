"""A signal that asks to stop ends the command, whoever it finds at work."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

STOPPED = 128
"""A command that a signal stopped exits with this and the signal's number, as a shell reports it."""
_AGAIN_S = 0.5
_EXIT_S = 3.0


class Terminated(BaseException):
    """Another process asked this one to stop. Raised in the main thread, so that every ``finally`` runs.

    Not an ``Exception``: nothing that handles errors should catch it on the way.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class StopSignals:
    """While it is open, SIGINT raises KeyboardInterrupt and SIGTERM and SIGHUP raise `Terminated`, until it leaves.

    An exception raised out of nowhere can get lost: the C++ part of an engine that is being imported (ONNX Runtime's
    and OpenVINO's do that), a destructor, a library's bare ``except``. So it is raised again every half second, as
    long as nothing on the stack is handling it: a clean-up that takes its time is not cut short.

    A context manager; does nothing outside the main thread, and leaves alone a signal that was ignored when we were
    started (nohup).

    Attributes:
        asked: what was raised first, None if nobody asked.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | Terminated | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.asked and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        stop = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
        if self.asked is None:
            self.asked = stop
            self._raise_again_later()
        elif number != signal.SIGINT:
            return  # once is enough: a second one must not cut the clean-up short; who presses Ctrl-C twice means it
        raise stop

    def _raise_again_later(self) -> None:
        if not hasattr(signal, "setitimer"):  # Windows
            return
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)

    def _again(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and not _handling_a_stop():
            raise KeyboardInterrupt if isinstance(self.asked, KeyboardInterrupt) else Terminated(self.asked.number)


def exit_soon(code: int, within_s: float = _EXIT_S) -> None:
    """End the process in a few seconds, however far its exit has come by then.

    A stop can hit ``concurrent.futures`` (openvino has a pool of its own) between the start of a thread and the note
    that it has to be woken at exit: Python would wait for that thread for ever.
    """

    def end() -> None:
        time.sleep(within_s)
        os._exit(code)

    threading.Thread(target=end, name="edgekit-exit", daemon=True).start()


def _handling_a_stop() -> bool:
    """Whether an ``except``, ``finally`` or ``__exit__`` on the main thread's stack is busy with one."""
    error = sys.exc_info()[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, (KeyboardInterrupt, Terminated)):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False

"""How far long work is, told on a terminal: nothing for what is quick, one rewritten line for what is not."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

SHOW_AFTER_S = 2.0
"""A stage shorter than this says nothing."""
_REDRAW_S = 0.5
_LINE_EVERY_S = 10.0


class TerminalProgress:
    """A `contracts.Progress` on stderr.

    On a terminal it rewrites one line, which disappears when the stage ends; elsewhere (a log file, CI) it adds a line
    every ten seconds. Stages may nest: the innermost one is told.

    Args:
        stream: where to print.
        quiet: print nothing; stages are timed all the same.
        clock: seconds, for tests.

    Attributes:
        stages: (name, wall seconds) of every finished stage, in the order in which they ended.
    """

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stages: list[tuple[str, float]] = []
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock = clock
        self._live = self._stream.isatty()
        self._lock = threading.Lock()
        self._open: list[_Stage] = []
        self._ticker: _Ticker | None = None
        self._last_line_s = float("-inf")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Enter a stage called ``name``; a ticker redraws while it lasts, as some stages never report a step."""
        stage = _Stage(name, self._clock())
        with self._lock:
            self._open.append(stage)
            if self._ticker is None and not self._quiet:
                self._ticker = _Ticker(self._tick)
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(stage)
                self.stages.append((name, self._clock() - stage.start_s))
                self._clear()
                ticker = None if self._open else self._ticker
                if ticker:
                    self._ticker = None
            if ticker:
                ticker.stop()

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        """``done`` of ``total`` units of the innermost stage are finished. Cheap: the ticker draws."""
        with self._lock:
            if self._open:
                stage = self._open[-1]
                stage.done, stage.total, stage.note, stage.step_s = done, total, note, self._clock()

    def line(self) -> str | None:
        """What there is to say now, or None while the stage is still quick."""
        with self._lock:
            return self._line()

    def _line(self) -> str | None:
        if not self._open:
            return None
        stage, now_s = self._open[-1], self._clock()
        elapsed_s = now_s - stage.start_s
        return stage.describe(now_s) if elapsed_s >= SHOW_AFTER_S else None

    def _tick(self) -> None:
        with self._lock:
            text = self._line()
            if text is None:
                return
            if self._live:
                width = shutil.get_terminal_size().columns
                self._write(f"\r{text[: width - 1]}\x1b[K")
            elif self._clock() - self._last_line_s >= _LINE_EVERY_S:
                self._last_line_s = self._clock()
                self._write(f"{text}\n")

    def _clear(self) -> None:
        if self._live and not self._quiet:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        # Nobody may be reading any more (a closed pipe): that must not stop the work.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


class _Stage:
    """An open stage and the last step it reported."""

    def __init__(self, name: str, start_s: float) -> None:
        self.name = name
        self.start_s = start_s
        self.step_s = start_s  # when the last step was reported
        self.done = 0
        self.total: int | None = None
        self.note = ""

    def describe(self, now_s: float) -> str:
        """``candidate openvino int8   40 %   calibrating   12 s, about 18 s left``."""
        from ..units import duration  # brings numpy along, which `--help` does without

        parts = [self.name]
        if self.total:
            parts.append(f"{100 * min(self.done / self.total, 1.0):.0f} %")
        elif self.done:
            parts.append(str(self.done))
        if self.note:
            parts.append(self.note)
        left_s = self._left_s(now_s)
        parts.append(duration(now_s - self.start_s) + (f", about {duration(left_s)} left" if left_s > 0 else ""))
        return "   ".join(parts)

    def _left_s(self, now_s: float) -> float:
        """Linear: a unit that is left takes as long as one that was done when the last step came. 0: not known."""
        if not self.total or not 0 < self.done < self.total:
            return 0.0
        per_unit_s = (self.step_s - self.start_s) / self.done
        return per_unit_s * (self.total - self.done) - (now_s - self.step_s)


class _Ticker:
    """Calls ``tick`` every half second in a daemon thread, until stopped."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(tick,), name="edgekit-progress", daemon=True)
        self._thread.start()

    def _run(self, tick: Callable[[], None]) -> None:
        while not self._stopped.wait(_REDRAW_S):
            tick()

    def stop(self) -> None:
        """Return when no further tick will come."""
        self._stopped.set()
        self._thread.join()

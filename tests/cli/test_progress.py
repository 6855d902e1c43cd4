from __future__ import annotations

import io
import time

import pytest

from edgekit.cli.progress import TerminalProgress
from edgekit.contracts import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_is_a_progress() -> None:
    assert isinstance(TerminalProgress(io.StringIO()), Progress)


def test_quick_stages_say_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    progress = TerminalProgress(stream, clock=clock)
    with progress.stage("load"):
        clock.now_s = 1.9
        progress._tick()
        assert progress.line() is None
    assert stream.getvalue() == ""


def test_a_slow_stage_tells_share_note_and_time_left(clock: Clock) -> None:
    progress = TerminalProgress(io.StringIO(), clock=clock)
    with progress.stage("calibrate"):
        clock.now_s = 8.0
        assert progress.line() == "calibrate   8.0 s"
        progress.step(3)
        assert progress.line() == "calibrate   3   8.0 s"
        progress.step(20, 100, "batch 20")
        assert progress.line() == "calibrate   20 %   batch 20   8.0 s, about 32 s left"
        clock.now_s = 18.0
        assert progress.line() == "calibrate   20 %   batch 20   18 s, about 22 s left"
        clock.now_s = 80.0
        assert progress.line() == "calibrate   20 %   batch 20   1 min 20 s"
        clock.now_s = 8.0
        progress.step(100, 100)
        assert progress.line() == "calibrate   100 %   8.0 s"
    assert progress.line() is None


def test_the_innermost_stage_is_told(clock: Clock) -> None:
    progress = TerminalProgress(io.StringIO(), clock=clock)
    with progress.stage("outer"):
        clock.now_s = 5.0
        with progress.stage("inner"):
            clock.now_s = 8.0
            assert progress.line() == "inner   3.0 s"
        assert progress.line() == "outer   8.0 s"
    assert progress.stages == [("inner", 3.0), ("outer", 8.0)]


def test_a_terminal_has_one_line_rewritten_and_cleared(clock: Clock) -> None:
    stream = Terminal()
    progress = TerminalProgress(stream, clock=clock)
    with progress.stage("measure"):
        clock.now_s = 3.0
        progress._tick()
        clock.now_s = 4.0
        progress._tick()
    text = stream.getvalue()
    assert "\n" not in text
    assert "\rmeasure   3.0 s\x1b[K" in text
    assert text.endswith("\r\x1b[K")


def test_a_log_gets_a_line_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    progress = TerminalProgress(stream, clock=clock)
    with progress.stage("measure"):
        for second in range(30):
            clock.now_s = float(second)
            progress._tick()
    assert stream.getvalue().splitlines() == ["measure   2.0 s", "measure   12 s", "measure   22 s"]


def test_quiet_times_and_says_nothing(clock: Clock) -> None:
    stream = Terminal()
    progress = TerminalProgress(stream, quiet=True, clock=clock)
    with progress.stage("measure"):
        clock.now_s = 60.0
    assert progress.stages == [("measure", 60.0)]
    assert stream.getvalue() == ""


def test_a_stage_that_fails_is_timed_and_cleared(clock: Clock) -> None:
    stream = Terminal()
    progress = TerminalProgress(stream, clock=clock)
    with pytest.raises(ValueError, match="x"), progress.stage("measure"):
        clock.now_s = 3.0
        raise ValueError("x")
    assert progress.stages == [("measure", 3.0)]
    assert progress.line() is None


def test_the_ticker_draws_by_itself_and_stops() -> None:
    stream = Terminal()
    begun = time.monotonic()
    progress = TerminalProgress(stream, clock=lambda: time.monotonic() + 10.0 * (time.monotonic() > begun + 0.1))
    with progress.stage("export"):
        time.sleep(0.8)
    assert "export   1" in stream.getvalue()
    size = len(stream.getvalue())
    time.sleep(0.7)
    assert len(stream.getvalue()) == size


def test_a_closed_stream_does_not_stop_the_work(clock: Clock) -> None:
    stream = Terminal()
    progress = TerminalProgress(stream, clock=clock)
    with progress.stage("measure"):
        clock.now_s = 3.0
        stream.close()
        progress._tick()
    assert progress.stages == [("measure", 3.0)]

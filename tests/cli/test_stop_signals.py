"""A signal that asks to stop ends a command with its documented code, whatever it hits, and lets it clean up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.cli.boundary import run_guarded
from edgekit.cli.stop_signals import StopSignals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")

_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
_LINES = {"SIGINT": "interrupted", "SIGTERM": "stopped by SIGTERM", "SIGHUP": "stopped by SIGHUP"}

_STOPPED = """
import sys, time
from edgekit.cli.boundary import run_guarded

def call():
    try:
        print("started", flush=True)
        time.sleep(30)
    finally:
        print("cleaned up", flush=True)

sys.exit(run_guarded(call, []))
"""


@pytest.fixture(autouse=True, params=_CODES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_runs_the_clean_up(name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (_CODES[name], "cleaned up\n", f"edgekit: {_LINES[name]}\n")


_HALF_STARTED = """
import threading, time

def build():
    threading.Thread(target=threading.Event().wait).start()  # nobody will ever wake it
    print("started", flush=True)
    time.sleep(30)
"""


def test_a_thread_that_nobody_wakes_does_not_keep_the_process(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(_HALF_STARTED)
    command = [sys.executable, "-m", "edgekit", "inspect", "net.py:build", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (_CODES[name], f"edgekit: {_LINES[name]}\n")


def swallowed(name: str) -> None:
    try:
        signal.raise_signal(getattr(signal, name))
        time.sleep(5)
    except BaseException:  # noqa: BLE001, S110 - as libraries do it
        pass


def lost_in_a_destructor(name: str) -> None:
    class Handle:
        def __del__(self) -> None:
            signal.raise_signal(getattr(signal, name))
            time.sleep(5)

    Handle()


def lost_in_a_helper(name: str) -> None:
    """An exception of the stop's own that is handled there, after it came back from a generator's clean-up."""

    def work():
        try:
            yield 1
        finally:
            swallowed(name)

    for _ in work():
        break


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("lose", [swallowed, lost_in_a_destructor, lost_in_a_helper])
def test_a_library_that_swallows_it_stops_nobody(
    name: str, lose: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    went_on = threading.Event()
    ended = threading.Event()

    def call() -> None:
        try:
            lose(name)
            went_on.set()
            time.sleep(30)
        finally:
            ended.set()

    started = time.monotonic()
    assert run_guarded(call, ["--json"]) == _CODES[name]
    assert time.monotonic() - started < 5
    assert went_on.is_set() and ended.is_set()
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == {
        "message": _LINES[name],
        "details": [],
        "fix": "",
        "exit_code": _CODES[name],
    }
    assert f"edgekit: {_LINES[name]}\n" in err


def test_a_long_clean_up_is_not_cut_short(name: str) -> None:
    steps: list[str] = []

    class Handle:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            time.sleep(0.7)
            steps.append("exit")

    def call() -> None:
        try:
            with Handle():
                signal.raise_signal(getattr(signal, name))
                time.sleep(30)
        finally:
            try:
                raise ValueError("one of the clean-up's own")
            except ValueError:
                time.sleep(0.7)
                steps.append("except")
            time.sleep(0.7)
            steps.append("finally")

    assert run_guarded(call, []) == _CODES[name]
    assert steps == ["exit", "except", "finally"]


def test_what_a_library_makes_of_it_is_still_the_stop(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        try:
            signal.raise_signal(getattr(signal, name))
            time.sleep(5)
        except BaseException:  # noqa: BLE001
            raise RuntimeError("initialization failed") from None

    assert run_guarded(call, []) == _CODES[name]
    assert capsys.readouterr().err == f"edgekit: {_LINES[name]}\n"


def test_handlers_and_the_timer_are_put_back(name: str) -> None:
    number = getattr(signal, name)
    before = [signal.getsignal(item) for item in (number, signal.SIGALRM)]
    assert run_guarded(lambda: swallowed(name), []) == 0  # done before it could be raised again
    assert [signal.getsignal(item) for item in (number, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_second_one_cuts_the_clean_up_short_for_who_is_at_the_keyboard_alone(name: str) -> None:
    number = getattr(signal, name)
    steps: list[str] = []

    def call() -> None:
        try:
            signal.raise_signal(number)
            time.sleep(30)
        finally:
            signal.raise_signal(number)
            time.sleep(0.2)
            steps.append("cleaned up")

    assert run_guarded(call, []) == _CODES[name]
    assert steps == ([] if name == "SIGINT" else ["cleaned up"])


def test_what_was_ignored_stays_ignored(name: str) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert run_guarded(lambda: signal.raise_signal(number), []) == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_nothing_is_touched(name: str) -> None:
    number = getattr(signal, name)
    found: list[object] = []

    def elsewhere() -> None:
        with StopSignals():
            found.append(signal.getsignal(number))

    before = signal.getsignal(number)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before]

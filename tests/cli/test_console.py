"""stdout is for the result alone, whatever libraries print."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import logging, os, subprocess, sys, warnings
from edgekit.cli.console import open_console

with open_console(json="json" in sys.argv, quiet="quiet" in sys.argv, debug="debug" in sys.argv) as console:
    print("a library's print")
    os.write(1, b"an engine's printf\\n")
    subprocess.run([sys.executable, "-c", "print('a child')"])
    warnings.warn("a warning")
    logging.getLogger("onnx").warning("a log line")
    console.hint("a hint")
    console.show({"value": float("nan")}, lambda: "the result → ◀")
print("after")
"""


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **env},
    )


def test_only_the_result_is_on_stdout() -> None:
    done = run()
    assert done.stdout == "the result → ◀\nafter\n"
    for text in ("a library's print", "an engine's printf", "a child", "a hint"):
        assert text in done.stderr


def test_json() -> None:
    done = run("json")
    assert done.stdout == '{\n  "value": null\n}\nafter\n'
    assert "a hint" not in done.stderr


def test_quiet_has_no_hints() -> None:
    assert "a hint" not in run("quiet").stderr


def test_libraries_warn_only_with_debug() -> None:
    assert "a warning" not in run().stderr
    assert "a log line" not in run().stderr
    assert "a warning" in run("debug").stderr
    assert "a log line" in run("debug").stderr


def test_a_terminal_that_cannot_show_a_character_gets_plain_words() -> None:
    done = run(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout == "the result -> <-\nafter\n"


_COLOUR = """
from edgekit.cli.console import open_console
with open_console(json=False, quiet=True, debug=False) as console:
    console.show({}, lambda: f"colour={console.colour}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal there")
@pytest.mark.parametrize(("env", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_only_on_a_terminal(env: dict[str, str], colour: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    try:
        subprocess.run(
            [sys.executable, "-c", _COLOUR], stdout=theirs, check=True, env={**clean, "TERM": "xterm", **env}
        )
        assert f"colour={colour}" in os.read(ours, 1000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_no_colour_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", _COLOUR], capture_output=True, text=True, check=True)
    assert done.stdout == "colour=False\n"

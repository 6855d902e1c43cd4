"""Every error becomes one line and the documented exit code."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgekit import errors
from edgekit.cli.boundary import failure_of, run_guarded
from edgekit.cli.stop_signals import Terminated


def ends(error: BaseException, *words: str) -> int:
    def call() -> None:
        raise error

    return run_guarded(call, words)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.OutputError("x"), 2),
        (errors.SourceError("x"), 3),
        (errors.DataError("x"), 3),
        (errors.ParityError("x"), 4),
        (errors.AccuracyError("x"), 4),
        (errors.PlacementError("x"), 5),
        (errors.EngineError("x"), 6),
        (errors.BundleError("x"), 7),
        (errors.BudgetError("x"), 8),
        (KeyboardInterrupt(), 130),
        (Terminated(15), 143),
        (Terminated(1), 129),
        (ValueError("x"), 1),
        (click.exceptions.Exit(6), 6),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert ends(error) == code


def test_message_goes_to_stderr_with_details_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    ends(errors.PlacementError("2 of 58 nodes would run on the CPU", details=["Erf (a)", "Erf (b)"], fix="Allow it."))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "edgekit: 2 of 58 nodes would run on the CPU:\n  Erf (a)\n  Erf (b)\nAllow it.\n"


def test_json_error_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    ends(errors.UsageError("target 'jetsen' is not known", fix="Did you mean 'jetson'?"), "--json")
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema": 1,
        "error": {
            "message": "target 'jetsen' is not known",
            "details": [],
            "fix": "Did you mean 'jetson'?",
            "exit_code": 2,
        },
    }
    assert err.startswith("edgekit: target 'jetsen' is not known")


def test_json_after_the_double_dash_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    ends(errors.UsageError("x"), "--", "--json")
    assert capsys.readouterr().out == ""


def test_unexpected_error_is_called_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(ZeroDivisionError("division by zero\nsecond line")) == 1
    line = "edgekit: unexpected ZeroDivisionError: division by zero (this is a bug in edgekit; --debug shows where)\n"
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    ends(errors.SourceError("x"), "--debug")
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("edgekit: x\n")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space left on the device: '/x/model.onnx'"),
        (errno.EROFS, "the file system is read-only: '/x/model.onnx'"),
        (errno.EACCES, "permission denied: '/x/model.onnx'"),
    ],
)
def test_disk_errors_are_the_users_to_mend(number: int, text: str) -> None:
    error = OSError(number, os.strerror(number), "/x/model.onnx")
    failure = failure_of(error)
    assert (failure.message, failure.exit_code) == (text, 2)


def test_a_full_disk_is_found_behind_a_librarys_own_error() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed writing file") from error
    except RuntimeError as error:
        assert failure_of(error).message == "no space left on the device"


def test_any_other_oserror_is_unexpected() -> None:
    assert failure_of(OSError(errno.EIO, "I/O error", "/x")).exit_code == 1


def test_out_of_memory_is_told_plainly() -> None:
    failure = failure_of(MemoryError())
    assert failure.message == "out of memory"
    assert "smaller batch" in failure.fix


def test_an_interrupt_inside_exec_ends_with_the_documented_code(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from edgekit.cli.boundary import run_guarded\n"
        "sys.exit(run_guarded(lambda: exec('raise KeyboardInterrupt'), []))\n"
    )
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "edgekit: interrupted\n")


_CHATTY = """
import sys
from edgekit.cli.boundary import run_guarded
sys.exit(run_guarded(lambda: [print("x" * 1000) for _ in range(1000)], []))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe closes differently there")
def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen([sys.executable, "-c", _CHATTY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_a_broken_pipe_elsewhere_is_not_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(BrokenPipeError(errno.EPIPE, "Broken pipe")) == 1
    assert "unexpected BrokenPipeError" in capsys.readouterr().err


def test_a_write_to_a_full_device_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def call() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x")

    assert run_guarded(call, []) == 2

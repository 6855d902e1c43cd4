"""Commands where the environment is poor: closed streams, full disks, an ASCII locale, names that are not UTF-8."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import Bundle

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX's streams and limits")
EDGEKIT = (sys.executable, "-m", "edgekit")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PASSED = "self-test passed"


def call(
    *words: str | Path, environment: Mapping[str, str] | None = None, shell: str = "", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command; ``shell``: redirections that only a shell makes."""
    command = [os.fsencode(word) for word in words]
    if shell:
        command = [b"sh", b"-c", b'"$@" ' + shell.encode(), b"sh", *command]
    return subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, timeout=120, check=False, **options
    )


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Path:
    return make_bundle().path


@pytest.mark.parametrize("shell", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams(bundle: Path, shell: str) -> None:
    done = call(*EDGEKIT, "bundle", "run", bundle, shell=shell)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (PASSED in done.stdout.decode()) is (shell == "2>&-")
    done = call(sys.executable, bundle / "run.py", shell=shell)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_streams_are_not_given_to_the_next_file(bundle: Path, tmp_path: Path) -> None:
    """What the engine prints to descriptor 1 must not end up in the file that happens to have its number."""
    out = tmp_path / "out.npz"
    done = call(*EDGEKIT, "bundle", "run", bundle, "--data", data(tmp_path), "-o", out, shell="<&- >&- 2>&-")
    assert done.returncode == 0
    import numpy as np

    assert np.load(out)["y"].shape == (2, 3)


def data(folder: Path) -> Path:
    import numpy as np

    np.savez(folder / "data.npz", x=np.ones((2, 8), np.float32))
    return folder / "data.npz"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [("bundle", "run"), ("--help",), ("bundle", "verify", "--json")])
def test_a_full_disk_behind_stdout_is_one_line(bundle: Path, words: tuple[str, ...]) -> None:
    path = () if words == ("--help",) else (bundle,)
    done = call(*EDGEKIT, *words, *path, shell="> /dev/full")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1].startswith("edgekit: ")
    assert "No space left on device" in done.stderr.decode() or "no space left on the device" in done.stderr.decode()
    assert b"Exception ignored" not in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_a_stream_of_run_py(bundle: Path) -> None:
    done = call(sys.executable, bundle / "run.py", shell="> /dev/full")
    assert (done.returncode, done.stderr) == (
        1, b"run.py: cannot write to standard output: No space left on device\n"
    )  # fmt: skip
    assert call(*EDGEKIT, "bundle", "run", "nothing", shell="2> /dev/full").returncode == 7


def test_an_ascii_locale_and_names_that_are_not_ascii(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "modèle 模型"
    shutil.copytree(bundle, place)
    done = call(sys.executable, place / "run.py", environment=ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    done = call(*EDGEKIT, "bundle", "run", place, environment=ASCII)
    assert done.returncode == 0 and done.stdout.isascii(), "the stream's encoding is still the locale's"
    assert "<= 0.0001" in done.stdout.decode(), "the tolerance's sign, in plain words"
    done = call(*EDGEKIT, "bundle", "verify", place, environment={**ASCII, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    packed = tmp_path / "ö.edgekit.zip"
    assert call(*EDGEKIT, "bundle", "pack", place, "-o", packed, environment=ASCII).returncode == 0
    assert packed.is_file(), "the name is the one that was asked for"


def test_a_path_that_is_not_utf8_is_one_line(bundle: Path, tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xe8"))
    try:
        shutil.copytree(bundle, place)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    said = rf"the path '{tmp_path}/m\xe8/model/model.onnx' is not UTF-8, and this engine opens no other."
    for words, name in (
        ((sys.executable, place / "run.py"), "run.py"),
        ((*EDGEKIT, "bundle", "run", place), "edgekit"),
    ):
        done = call(*words)
        assert done.returncode == 6
        assert done.stderr.decode().startswith(f"{name}: {said}")
    done = call(*EDGEKIT, "export", "net.onnx", "--target", "cpu", "-o", place / "x.edgekit")
    assert done.returncode == 2 and b"is not UTF-8" in done.stderr, "before anything else is looked at"


def test_nowhere_to_write(bundle: Path, tmp_path: Path) -> None:
    """No file may grow: no temporary files, no results, as in a container whose root is read-only."""

    def nothing_grows() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    brief = ("--seconds", "0.2", "--processes", "1")
    done = call(sys.executable, bundle / "run.py", "bench", *brief, cwd=tmp_path, preexec_fn=nothing_grows)
    assert done.returncode == 0, done.stderr
    done = call(*EDGEKIT, "bench", bundle, *brief, cwd=tmp_path, preexec_fn=nothing_grows)
    assert done.returncode == 0, done.stderr
    assert b"note: the result was not kept: " in done.stderr
    packed = call(*EDGEKIT, "bundle", "pack", bundle, cwd=tmp_path, preexec_fn=nothing_grows)
    assert packed.returncode == 2 and b"cannot write" in packed.stderr and packed.stderr.count(b"\n") == 1


def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [*EDGEKIT, "results", "list"]
    done = call("sh", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$@"', "sh", *command)
    assert done.returncode == 2
    assert done.stderr == b"edgekit: the current folder does not exist any more. Change to one that does.\n"

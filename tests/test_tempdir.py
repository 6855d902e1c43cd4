from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit import tempdir
from edgekit.errors import OutputError
from edgekit.tempdir import replace_folder, work_folder, writing


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def wait_until_gone(folder: Path, *allowed: str) -> None:
    end = time.monotonic() + 10
    while names(folder) != sorted(allowed) and time.monotonic() < end:
        time.sleep(0.02)
    assert names(folder) == sorted(allowed)


def test_gone_afterwards(tmp_path: Path) -> None:
    with work_folder(beside=tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".out.tmp-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_gone_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), work_folder(beside=tmp_path / "out"):
        raise error
    assert names(tmp_path) == []


def test_in_the_systems_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder() as folder:
        assert folder.parent == tmp_path
    assert names(tmp_path) == []


def test_folders_nest(tmp_path: Path) -> None:
    with work_folder(beside=tmp_path / "a") as one, work_folder(beside=tmp_path / "a") as two:
        assert one != two
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == []


VICTIM = """
import sys, time
from pathlib import Path
from edgekit.tempdir import work_folder
place = Path(sys.argv[1])
print("ready", flush=True)
while True:
    with work_folder(beside=place) as folder:
        for index in range(30):
            (folder / str(index)).write_bytes(b"x" * 1000)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_gone_after_a_signal_at_any_moment(tmp_path: Path, how: signal.Signals) -> None:
    for seed in range(4):
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(tmp_path / "out")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.05))
        os.killpg(victim.pid, how)  # the whole group, as a terminal or a supervisor does
        victim.wait()
        victim.stdout.close()
        wait_until_gone(tmp_path)


SWAPPER = """
import sys
from pathlib import Path
from edgekit.tempdir import replace_folder, work_folder
place = Path(sys.argv[1])
number = 0
while True:
    number += 1
    if number == 2:
        print("ready", flush=True)
    with work_folder(beside=place) as folder:
        new = folder / "new"
        new.mkdir()
        (new / "a").write_text(str(number))
        (new / "b").write_text(str(number))
        replace_folder(new, place)
"""


def test_a_kill_while_replacing_leaves_one_whole_folder(tmp_path: Path) -> None:
    place = tmp_path / "out"
    for seed in range(12):
        shutil.rmtree(place, ignore_errors=True)
        victim = subprocess.Popen([sys.executable, "-c", SWAPPER, str(place)], stdout=subprocess.PIPE)
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.05))
        victim.kill()
        victim.wait()
        victim.stdout.close()
        wait_until_gone(tmp_path, "out")
        assert (place / "a").read_text() == (place / "b").read_text()


def test_replacing(tmp_path: Path) -> None:
    place = tmp_path / "out"
    for text in ("one", "two"):
        with work_folder(beside=place) as folder:
            (folder / "new").mkdir()
            (folder / "new" / "file").write_text(text)
            replace_folder(folder / "new", place)
        assert (place / "file").read_text() == text
    assert names(tmp_path) == ["out"]


def test_what_was_there_is_back_when_replacing_fails(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "file").write_text("old")
    with work_folder(beside=place) as folder, pytest.raises(OutputError, match="its folder does not exist"):
        replace_folder(folder / "nothing", place)
    assert (place / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_lost_folder_is_deleted_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = tmp_path / ".out.tmp-0123456789abcdef"
    lost.mkdir()
    (lost / ".lock").touch()
    with work_folder(beside=tmp_path / "out"):
        assert lost.exists()  # too young: its owner may be about to lock it
    old = time.time() - 3600
    os.utime(lost, (old, old))
    with work_folder(beside=tmp_path / "out"):
        assert not lost.exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with work_folder(beside=tmp_path / "out") as folder:
        old = time.time() - 3600
        os.utime(folder, (old, old))
        with work_folder(beside=tmp_path / "out"):
            assert folder.exists()


def test_without_the_helper_folders_still_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempdir, "_reaper", None)
    monkeypatch.setattr(sys, "executable", "/no/python")
    with work_folder(beside=tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_a_helper_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with work_folder(beside=tmp_path / "out"):
        assert tempdir._reaper is not None
        tempdir._reaper._process.kill()
        tempdir._reaper._process.wait()
    with work_folder(beside=tmp_path / "out"), work_folder(beside=tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_a_missing_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write '.*/none/out': its folder does not exist. Create it"),
        work_folder(beside=tmp_path / "none" / "out"),
    ):
        pass


def test_a_folder_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="its folder is not a folder"), work_folder(beside=tmp_path / "file" / "out"):
        pass


def test_other_errors_pass_through() -> None:
    with pytest.raises(OSError, match="Interrupted"), writing(Path("x")):
        raise InterruptedError(4, "Interrupted")


@pytest.mark.parametrize(
    ("number", "text"),
    [(28, "no space left on the device"), (122, "the disk quota is used up"), (30, "the file system is read-only")],
)
def test_refusals_of_the_system_become_one_line(number: int, text: str) -> None:
    with pytest.raises(OutputError) as caught, writing(Path("place")):
        raise OSError(number, "…")
    assert str(caught.value).startswith(f"cannot write 'place': {text}.")
    assert caught.value.exit_code == 2

"""Work folders that are gone afterwards: after an exception, Ctrl-C, SIGTERM, and SIGKILL too.

The last cannot be caught, so a small helper process (`_reaper`) holds a pipe to this one and deletes what is left when
the pipe ends. A folder that outlives even that (the power went) is deleted by the next run that works in the same
place: it holds a lock file that nobody locks any more.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

_LOCK = ".lock"
_STALE_S = 60.0  # younger folders are left alone: their owner may not have come to lock them yet


@contextmanager
def work_folder(beside: Path | None = None) -> Iterator[Path]:
    """A private empty folder for the time of the ``with`` block.

    Args:
        beside: make it a hidden sibling of this path, on the same file system, so that a result can be renamed into
            place; default: in the system's folder for temporary files (``TMPDIR``).

    Raises:
        OutputError: it cannot be written there.
    """
    parent = beside.absolute().parent if beside else temporary_folder()
    prefix = f".{beside.name}.tmp-" if beside else "edgekit-"
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    _delete_stale(parent, prefix)
    _tell_reaper("watch", folder)  # before it exists: no moment in which it could be left behind
    try:
        with writing(beside or folder):
            folder.mkdir(mode=0o700)
        with _locked(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _tell_reaper("forget", folder)


def temporary_folder() -> Path:
    """The system's folder for temporary files.

    Raises:
        OutputError: there is none that can be written to.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(
            "there is no folder for temporary files that can be written to, /tmp and /var/tmp among them",
            fix="Name one: TMPDIR=/path/to/a/folder",
        ) from error


def replace_folder(new: Path, place: Path) -> None:
    """Rename ``new`` to ``place``. A folder that is there goes, and is back if anything fails or this is killed.

    Both must be on one file system, and ``new`` in a `work_folder`. Nobody ever sees half a folder at ``place``.

    Raises:
        OutputError: it cannot be renamed.
    """
    with writing(place):
        if not os.path.lexists(place):
            new.rename(place)
            return
        backup = new.with_name(f"{new.name}.replaced")
        _tell_reaper("moved", backup, place)
        place.rename(backup)
        try:
            new.rename(place)
        except BaseException:
            backup.rename(place)
            raise
        finally:
            _tell_reaper("kept", backup)


def move_beside(new: Path, place: Path, suffix: str) -> Path:
    """Rename ``new`` to the first of ``NAME-2SUFFIX``, ``NAME-3SUFFIX``, … that is free, and return that path.

    Args:
        new: a file or a folder that is not empty, on the same file system.
        place: the name that is taken.
        suffix: what stays at the end of the name.

    Raises:
        OutputError: it cannot be renamed.
    """
    stem, number = place.name.removesuffix(suffix), 2
    while True:
        free = place.with_name(f"{stem}-{number}{suffix if place.name.endswith(suffix) else ''}")
        with writing(free):
            if put_new(new, free):
                return free
        number += 1


def put_new(new: Path, place: Path) -> bool:
    """Give ``new`` the name ``place`` if nothing has it; False where something has, whoever was quicker.

    Args:
        new: a file, or a folder that is not empty (the system replaces an empty one), on the same file system.
        place: the name.
    """
    if os.path.lexists(place):
        return False
    try:
        if new.is_dir():
            new.rename(place)
        else:
            os.link(new, place)  # a rename would replace another file in silence
            new.unlink()
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR) and os.path.lexists(place):
            return False
        if new.is_dir() or error.errno not in _NO_LINKS:
            raise
        new.rename(place)  # a file system without hard links: the best there is
    return True


_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears whole, replacing one that is there.

    Raises:
        OutputError: it cannot be written.
    """
    with work_folder(beside=path) as work, writing(path):
        new = work / "new"
        new.write_bytes(data)
        new.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing to ``path`` into one clear line.

    Raises:
        OutputError: the disk is full, the place is read-only or not allowed, a file grows too large.
    """
    try:
        yield
    except OSError as error:
        said = _REFUSALS.get(error.errno or 0)
        if said is None:
            raise
        what, fix = said
        raise OutputError(f"cannot write '{path}': {what}", fix=fix) from error


_ELSEWHERE = "Choose another place."
_REFUSALS = {
    errno.ENOSPC: ("no space left on the device", "Free some space, or choose another place."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another place."),
    errno.EFBIG: ("the file is larger than allowed here", _ELSEWHERE),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("permission denied", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.ENOENT: ("its folder does not exist", "Create it, or choose another place."),
    errno.EISDIR: ("it is a folder", _ELSEWHERE),
    errno.ENOTDIR: ("its folder is not a folder", _ELSEWHERE),
}


class _Reaper:
    """The helper process of this process, started when first needed."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        script = Path(__file__).with_name("_reaper.py")
        self._process = subprocess.Popen(
            # -I -S: nothing of the user's environment or site-packages, and a start of about 15 ms.
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # it must not hold this process's own streams open
            stderr=subprocess.DEVNULL,
            cwd="/" if os.name == "posix" else None,
            start_new_session=True,  # Ctrl-C and a kill of the process group must not reach it
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()

    def tell(self, line: bytes) -> None:
        os.write(self._pipe, line)

    def forget(self) -> None:
        """Close this end of the pipe of a helper that is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()


_reaper: _Reaper | None = None


def _tell_reaper(command: str, *paths: Path) -> None:
    """Send a command. Without the helper (it cannot be started, or was killed) folders still go in the normal way."""
    global _reaper
    line = json.dumps([command, *map(str, paths)]).encode() + b"\n"
    try:
        if _reaper is None or _reaper.owner != os.getpid():  # a forked child has its own folders
            _reaper = _Reaper()
        _reaper.tell(line)
    except OSError:
        if _reaper is not None:
            _reaper.forget()
        _reaper = None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a new file; the system frees it when this process dies."""
    with path.open("wb") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _delete_stale(parent: Path, prefix: str) -> None:
    """Delete folders of this kind whose owner is dead."""
    if sys.platform == "win32":  # no flock: a lost folder stays
        return
    import fcntl

    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        try:
            if time.time() - folder.stat().st_mtime < _STALE_S:
                continue
            with (folder / _LOCK).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, somebody else's, or being deleted just now
            continue
        shutil.rmtree(folder, ignore_errors=True)

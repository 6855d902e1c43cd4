"""Read the small files with which Linux tells about its hardware. What is not there, or not for us to read, is None."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def text(path: Path) -> str | None:
    """The file's content without white space and NULs around it; None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """The file's content as a number; None where there is none."""
    found = text(path)
    try:
        return None if found is None else int(found)
    except ValueError:
        return None


def entries(folder: Path, pattern: str) -> Iterator[Path]:
    """What matches ``pattern`` in a folder, in the order of the numbers in the names; nothing if it is not there."""
    if folder.is_dir():
        yield from sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))

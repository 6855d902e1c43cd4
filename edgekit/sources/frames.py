"""Which lines of a traceback are the user's own."""

from __future__ import annotations

import functools
import site
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

_PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def _foreign_roots() -> tuple[Path, ...]:
    """Folders whose files are libraries: the standard library, site-packages, edgekit itself."""
    paths = sysconfig.get_paths()
    roots = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    beside = [_PACKAGE.parent / name for name in ("exporters", "runtimes")]  # in a clone they lie beside the package
    return (*(Path(root).resolve() for root in roots), _PACKAGE, *beside)


def is_users(filename: str) -> bool:
    """Whether ``filename`` is code that is neither a library's nor edgekit's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    return not any(path.is_relative_to(root) for root in _foreign_roots())


def user_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames of a traceback that run the user's code, outermost first."""
    return [frame for frame in traceback.extract_tb(trace) if is_users(frame.filename)]


def short(filename: str) -> str:
    """``filename`` relative to the current folder where it lies in it."""
    path = Path(filename).resolve()
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def place(trace: TracebackType | None) -> str:
    """``net.py:12``, the innermost line of the user's code, or '' where there is none."""
    frames = user_frames(trace)
    return f"{short(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def lines(trace: TracebackType | None) -> list[str]:
    """The user's frames for an error's details: ``net.py:12 in build: raise ValueError(…)``."""
    return [f"{short(f.filename)}:{f.lineno} in {f.name}: {f.line or '?'}" for f in user_frames(trace)]


def raised(error: BaseException) -> str:
    """``raised ValueError at net.py:12: expected 3 channels``, on one line."""
    where = place(error.__traceback__)
    message = " ".join(str(error).split()) or "(no message)"
    if len(message) > 300:
        message = message[:297] + "…"
    return f"raised {type(error).__name__}{f' at {where}' if where else ''}: {message}"

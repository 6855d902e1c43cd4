"""What nobody foresaw in one candidate: a row of the table like any other outcome, and a file that holds the trace."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from ..errors import EdgekitError

_EVERYBODYS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What an OSError may say that the next candidate would meet as well: no space, no quota, a read-only disk."""
_SHOWN = 300  # characters of a message


def is_everybodys(error: Exception) -> bool:
    """Whether the other candidates would fail of the same."""
    return isinstance(error, OSError) and error.errno in _EVERYBODYS


def unexpected(error: Exception, name: str, folder: Path) -> EdgekitError:
    """The error of a candidate in which something else than an `EdgekitError` was raised.

    Args:
        error: as caught.
        name: the model's and the candidate's; names the file.
        folder: where the trace goes; made if it is not there. Where it cannot be written, the error says that.
    """
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return EdgekitError(
        f"unexpected {type(error).__name__}: {first[:_SHOWN].rstrip('.')}", fix=_traced(error, name, folder)
    )


def not_shipped(error: Exception, name: str, folder: Path) -> EdgekitError:
    """The error of a candidate that held all it was asked for, and whose bundle failed its self-test.

    Args:
        error: as caught; its details are what the self-test printed.
        name: see `unexpected`.
        folder: see `unexpected`.
    """
    if not isinstance(error, EdgekitError):
        return unexpected(error, name, folder)
    last = f": {error.details[-1].strip()[:_SHOWN].rstrip('.')}" if error.details else ""
    return type(error)(f"{error.what}{last}", fix=_traced(error, name, folder))


def _traced(error: Exception, name: str, folder: Path) -> str:
    """Write the trace to a file; the sentence that says where it is, or why it is not."""
    path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-trace.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), "utf-8")
    except OSError as refused:
        return f"Its trace could not be written to {path} ({refused.strerror}); --debug shows more."
    return f"Its trace: {path}"

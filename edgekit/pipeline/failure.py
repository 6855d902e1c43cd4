"""What nobody foresaw in one candidate: a row of the table like any other outcome, and a file that holds the trace."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from ..errors import EdgekitError

_EVERYBODYS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What an OSError may say that the next candidate would meet as well: no space, no quota, a read-only disk."""


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
    path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-trace.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), "utf-8")
        where = f"Its trace: {path}"
    except OSError as refused:
        where = f"Its trace could not be written to {path} ({refused.strerror}); --debug shows more."
    return EdgekitError(f"unexpected {type(error).__name__}: {first[:300].rstrip('.')}", fix=where)

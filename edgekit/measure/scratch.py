"""A file without a name, also where no folder can be written to (a container's read-only root)."""

from __future__ import annotations

import os
import tempfile
from typing import IO


def scratch_file() -> IO[bytes]:
    """An empty file, open for reading and writing, that is gone when it is closed.

    It lies in the folder for temporary files, else in memory, else nowhere: what is written then is lost.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError:
        if hasattr(os, "memfd_create"):
            return os.fdopen(os.memfd_create("edgekit"), "w+b")
        return open(os.devnull, "w+b")  # noqa: PTH123 - as the two above

"""What native code prints, caught: Python's own redirection sees only what Python writes."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..measure.scratch import scratch_file


class Caught:
    """What was caught; complete when the context is left."""

    text = ""


@contextmanager
def caught_output() -> Iterator[Caught]:
    """Point the file descriptors 1 and 2 at a file inside the context; ``text`` holds its content afterwards.

    They belong to the whole process: what other threads print meanwhile is caught with it.
    """
    caught = Caught()
    with scratch_file() as file:
        _flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
            yield caught
        finally:
            _flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            caught.text = file.read().decode(errors="replace")


def _flush() -> None:
    """Empty Python's buffers and the C library's: what is in them belongs to before, or to inside."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)

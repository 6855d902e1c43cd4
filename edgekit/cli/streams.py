"""Standard streams that can always be written to: closed ones, and encodings that lack what edgekit prints."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from ..errors import OutputError

PLAIN = "edgekit-plain"
"""The error handler of what edgekit prints: see `_in_plain_words`."""

_PLAIN_WORDS = {
    "µ": "u", "±": "+/-", "→": "->", "←": "<-", "◀": "<-", "≤": "<=", "≥": ">=", "×": "x", "÷": "/", "·": "-",
    "–": "-", "—": "-", "−": "-", "…": "...", "√": "sqrt", "Σ": "sum", "∞": "inf", "°": "deg ", "Δ": "delta ",
}  # fmt: skip


def prepare_streams() -> None:
    """Make the three standard streams usable, whatever this process was started with.

    One that is closed (``>&-``, a daemon) becomes the null device, its file descriptor too: else the next file that is
    opened would take its number, and get what is printed. Where the encoding lacks a character it is printed in plain
    words, not an error after all the work.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def speak_utf8() -> None:
    """Start again in Python's UTF-8 mode (PEP 540) where the locale knows no UTF-8; return where it does.

    In an ASCII locale (cron, systemd, a bare container) names of files are not what they are to the engines, and
    libraries fail to read their own files. What is printed stays in the locale's encoding.
    """
    if os.name != "posix" or sys.flags.utf8_mode or sys.getfilesystemencoding().lower() == "utf-8":
        return
    encoding = sys.stdout.encoding if sys.stdout is not None else "ascii"
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.environ.setdefault("PYTHONIOENCODING", encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def give_up(stream: TextIO | None) -> None:
    """Point a stream that cannot be written (a full disk) at nothing, so that the exit does not fail once more."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)


@contextlib.contextmanager
def writing(stream: TextIO) -> Iterator[None]:
    """Around what writes the result.

    Raises:
        OutputError: it cannot be written (a full disk).
    """
    try:
        yield
    except BrokenPipeError:  # whoever read it has seen enough
        raise
    except OSError as error:
        give_up(stream)
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def _in_plain_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """Plain words for a character that the encoding lacks; for half a surrogate pair, its byte of a path (PEP 383)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = b""
    for character in error.object[error.start : error.end]:
        if "\udc80" <= character <= "\udcff":
            found += bytes([ord(character) - 0xDC00])
        else:
            word = _PLAIN_WORDS.get(character, character)
            found += word.encode("ascii", "backslashreplace")
    return found, error.end


codecs.register_error(PLAIN, _in_plain_words)

"""What a command prints: its result on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ..progress import TerminalProgress

DEFAULT_WIDTH = 110
"""Columns where stdout is no terminal."""


@dataclass(frozen=True, slots=True)
class Console:
    """A command's output, as ``--json`` and ``-q`` ask for it."""

    out: TextIO
    json: bool
    quiet: bool
    colour: bool
    width: int
    progress: TerminalProgress

    def show(self, value: Mapping[str, Any], text: Callable[[], str]) -> None:
        """Print the result: ``value`` with ``--json``, else ``text()``."""
        from ..report.plain import to_json

        self.out.write((to_json(value) if self.json else text()) + "\n")
        self.out.flush()

    def hint(self, text: str) -> None:
        """Say on stderr what a person may want to know; not with ``-q`` or ``--json``."""
        if not self.quiet and not self.json:
            print(text, file=sys.stderr)

    def complain(self, text: str) -> None:
        """Say on stderr why the exit code will not be 0, beside a result that is told all the same."""
        print(f"edgekit: {text}", file=sys.stderr)


@contextlib.contextmanager
def open_console(*, json: bool, quiet: bool, debug: bool) -> Iterator[Console]:
    """Keep stdout for the result alone, and libraries quiet (unless ``debug``), while a command runs."""
    from ..progress import TerminalProgress

    with _result_stream() as out, _quiet_libraries(active=not debug):
        terminal = out.isatty()
        yield Console(
            out=out,
            json=json,
            quiet=quiet,
            colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            width=shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns if terminal else DEFAULT_WIDTH,
            progress=TerminalProgress(quiet=quiet),
        )


@contextlib.contextmanager
def _result_stream() -> Iterator[TextIO]:
    """Yield the real stdout; meanwhile whatever else is printed there goes to stderr.

    The file descriptor itself is redirected, because engines print from C++ and child processes inherit it.
    """
    stdout = sys.stdout
    stdout.flush()
    try:
        fd, err = stdout.fileno(), sys.stderr.fileno()
    except (io.UnsupportedOperation, OSError, ValueError):  # not a file: a test, a notebook
        with contextlib.redirect_stdout(sys.stderr):
            yield stdout
        return
    saved = os.dup(fd)
    try:
        # A character that the terminal's encoding lacks is printed as "?", not an error after all the work.
        with open(saved, "w", encoding=stdout.encoding, errors="replace", closefd=False) as out:
            os.dup2(err, fd)
            yield out
    finally:
        stdout.flush()
        os.dup2(saved, fd)
        os.close(saved)


@contextlib.contextmanager
def _quiet_libraries(*, active: bool) -> Iterator[None]:
    """Silence the warnings and log lines of libraries, which are addressed to their programmers."""
    if not active:
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

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

from .streams import PLAIN, writing

if TYPE_CHECKING:
    from ..measure.statistics import Samples
    from .progress import TerminalProgress

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
    mlflow: str | None = None  # a tracking URI, "" for MLflow's default; None: not asked for

    def keep(self, kind: str, value: Mapping[str, Any], series: Mapping[str, Samples]) -> dict[str, Any]:
        """Keep a result in the project's store, and log it to MLflow where asked for.

        Args:
            kind: the command.
            value: the object of its ``--json``.
            series: what was timed → its raw latencies.

        Returns:
            ``value`` with ``result``, the id it was kept under, and of what was timed ``samples``, the path or paths of
            the raw latencies; both null where it could not be kept, which a line on stderr explains.

        Raises:
            UsageError: MLflow refuses the tracking URI.
            EngineError: MLflow is asked for and not installed, or cannot be reached.
        """
        from ..results_store import keep

        kept = keep(kind, value, series, command=_command_line())
        if kept.note:
            print(f"edgekit: note: {kept.note}", file=sys.stderr)
        if self.mlflow is not None:
            from ..results_store.to_mlflow import log_to_mlflow

            self.hint(log_to_mlflow(kept.record, self.mlflow))
        record, told = kept.record, {**value, "result": None}
        if record.folder is None:
            return told
        told["result"] = record.id
        if series:
            paths = [str(record.folder / file) for file in record.series.values()]
            told["samples"] = paths[0] if len(paths) == 1 else paths
            told["not_measured"] = {key: why for key, why in value.get("not_measured", {}).items() if key != "samples"}
        return told

    def show(self, value: Mapping[str, Any], text: Callable[[], str]) -> None:
        """Print the result: ``value`` with ``--json``, else ``text()``."""
        from ..plain import to_json

        shown = to_json(value) if self.json else text()
        with writing(self.out):
            self.out.write(shown + "\n")
            self.out.flush()

    def hint(self, text: str) -> None:
        """Say on stderr what a person may want to know; not with ``-q`` or ``--json``."""
        if not self.quiet and not self.json:
            print(text, file=sys.stderr)

    def complain(self, text: str) -> None:
        """Say on stderr why the exit code will not be 0, beside a result that is told all the same."""
        print(f"edgekit: {text}", file=sys.stderr)


def _command_line() -> list[str]:
    """The words of the running command that decide on its result: those that only say how to print it are left out."""
    import click
    from click.core import ParameterSource

    context = click.get_current_context(silent=True)
    if context is None:
        return []
    words = context.command_path.split()
    for item in context.command.get_params(context):
        value = context.params.get(item.name or "")
        given = context.get_parameter_source(item.name or "") is ParameterSource.COMMANDLINE
        if not given or item.name in ("as_json", "quiet", "debug", "mlflow", "overwrite"):
            continue
        values = value if isinstance(value, tuple) else (value,)
        if isinstance(item, click.Argument):
            words += map(str, values)
        elif isinstance(value, bool):
            words.append((item.opts if value else item.secondary_opts)[-1])
        else:
            words += [word for each in values for word in (max(item.opts, key=len), str(each))]
    return words


@contextlib.contextmanager
def open_console(*, json: bool, quiet: bool, debug: bool, mlflow: str | None = None) -> Iterator[Console]:
    """Keep stdout for the result alone, and libraries quiet (unless ``debug``), while a command runs."""
    from .progress import TerminalProgress

    with _result_stream() as out, _quiet_libraries(active=not debug):
        terminal = out.isatty()
        yield Console(
            out=out,
            json=json,
            quiet=quiet,
            colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            width=shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns if terminal else DEFAULT_WIDTH,
            progress=TerminalProgress(quiet=quiet),
            mlflow=mlflow,
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
        with open(saved, "w", encoding=stdout.encoding, errors=PLAIN, closefd=False) as out:
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

"""What can go wrong, one class a stage, each with the exit code that scripts rely on.

A message says what is wrong, what was got, what is allowed and how to fix it. ``what`` is one clause without a full
stop, since it is put together with others ("target 'x': …", a table's row), and so are details, notes and reasons.
``fix`` is whole sentences, each with its full stop or question mark; it may end with what is to be copied (a command
line, an option, code, an address) after a colon or in brackets, which has no full stop. `tests/test_messages.py` holds
it. Printed, they are one line:

>>> str(UsageError("target 'jetsen' is not known", fix="Did you mean 'jetson'? (edgekit targets list)"))
"target 'jetsen' is not known. Did you mean 'jetson'? (edgekit targets list)"
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class EdgekitError(Exception):
    """Root of every error edgekit raises on purpose.

    Args:
        what: one line: what is wrong, with the values that made it so. No full stop.
        details: further lines, one fact each (nodes, layers, samples). No full stop.
        fix: one line: what the user can do about it. Whole sentences, or a command after a colon.
    """

    exit_code = 1

    def __init__(self, what: str, *, details: Sequence[str] = (), fix: str = "") -> None:
        self.what = what
        self.details = tuple(details)
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        if self.details:
            lines = [f"{self.what}:", *(f"  {line}" for line in self.details)]
            return "\n".join([*lines, self.fix] if self.fix else lines)
        return f"{self.what}. {self.fix}" if self.fix else self.what


class UsageError(EdgekitError):
    """A wrong option, an unknown name, a malformed target profile."""

    exit_code = 2


class OutputError(UsageError):
    """The place to write to cannot be written: read-only, taken, or full."""


class TakenError(OutputError):
    """The place to write to was free when the work began and is taken at its end; nothing is lost.

    Attributes:
        kept: where the work's result lies instead.
        result: what the caller would have got.
    """

    def __init__(self, what: str, *, kept: Path, details: Sequence[str] = (), fix: str = "") -> None:
        super().__init__(what, details=details, fix=fix)
        self.kept = kept
        self.result: Any = None


class SourceError(EdgekitError):
    """The model cannot be loaded or exported."""

    exit_code = 3


class UnusableSourceError(SourceError):
    """The source itself is at fault, whatever its inputs are."""


class DataError(EdgekitError):
    """The data does not fit the model, or holds what no model should get."""

    exit_code = 3


class ParityError(EdgekitError):
    """The engine does not compute what PyTorch computes, within the stated tolerance."""

    exit_code = 4


class AccuracyError(EdgekitError):
    """No candidate holds the accuracy that was asked for."""

    exit_code = 4


class PlacementError(EdgekitError):
    """A node would run on a device that the target does not allow."""

    exit_code = 5


class EngineError(EdgekitError):
    """An engine or a device is missing, unreachable, or refuses the model."""

    exit_code = 6


class BundleError(EdgekitError):
    """The bundle is damaged or untrusted, or is no bundle."""

    exit_code = 7


class BudgetError(EdgekitError):
    """No candidate meets the budget."""

    exit_code = 8


def signal_name(number: int) -> str:
    """What a process was killed by: ``SIGKILL``; a number that has no name here as "signal 34"."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def suggestion(got: str, allowed: Iterable[str]) -> str:
    """``Did you mean 'x'?`` for the nearest of ``allowed``, else all of them, else nothing to choose from."""
    names = sorted(allowed)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Allowed: {', '.join(names)}." if names else "There are none to choose from."

"""The command ``edgekit``: the table of its commands, and when each one's module is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from ..errors import OutputError
from ..version import __version__
from .boundary import run_guarded
from .group import Group
from .stop_signals import STOPPED, exit_soon
from .streams import prepare_streams, speak_utf8

COMMANDS = {
    "demo": "The whole job on a small real model and real data, in about a minute.",
    "export": "The main job: a PyTorch model → a checked, measured bundle for a device.",
    "build": "Build on the device what a bundle's engine runs (a TensorRT plan), and keep it there.",
    "bench": "Measure a bundle's latency, memory and placement.",
    "compare": "Faster, slower, or not distinguishable: two bundles in one run.",
    "evaluate": "Measure a bundle's accuracy through the target's own engine.",
    "results": "List, show or compare the results that are kept.",
    "report": "One self-contained HTML page of results.",
    "inspect": "Operators, parameters, MACs and memory; what would not run where.",
    "targets": "List the device profiles, show one, or start a new one.",
    "bundle": "Verify, run, pack or unpack a bundle.",
    "doctor": "What is installed, what each target still needs, and how to get it.",
}
"""Command → its line in ``edgekit --help``. The module of the same name holds it as ``command``."""


class Edgekit(Group):
    """Imports a command's module when that command is called, and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Parse and run inside the error boundary, then exit with the documented code."""
        prepare_streams()
        if args is None:
            speak_utf8()
        _complete_in_shell(self)
        words = sys.argv[1:] if args is None else list(args)
        code = run_guarded(lambda: self._call(words, prog_name or "edgekit", extra), words)
        if code > STOPPED:
            exit_soon(code)
        sys.exit(code)

    def _call(self, words: list[str], prog_name: str, extra: dict[str, Any]) -> None:
        _refuse_lost_folder()
        with self.make_context(prog_name, list(words), **extra) as context:
            self.invoke(context)


def _refuse_lost_folder() -> None:
    """The current folder must exist: names are relative to it, and some libraries end the process without it."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise OutputError("the current folder does not exist any more", fix="Change to one that does.") from error


def _complete_in_shell(group: click.Group) -> None:
    """Answer a shell that asks for completions, and exit; do nothing otherwise."""
    import os

    instruction = os.environ.get("_EDGEKIT_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(group, {}, "edgekit", "_EDGEKIT_COMPLETE", instruction))


_EPILOG = """Every command takes --json, -q, --debug and --help (with an example). With --json, stdout holds one object:
the result, or {"schema": 1, "error": {"message", "details", "fix", "exit_code"}}.

\b
Exit codes: 0 done, 1 unexpected, 2 usage, 3 source or data, 4 parity or accuracy,
5 placement, 6 engine or device, 7 bundle, 8 budget; 130 interrupted, 143 terminated."""


@click.group(
    "edgekit",
    cls=Edgekit,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="edgekit", message="%(prog)s %(version)s")
def main() -> None:
    """Take a model from PyTorch to a device, and prove what it does there."""

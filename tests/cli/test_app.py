"""The command itself: help, version, mistyped names, what is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from edgekit.cli import main
from edgekit.cli.app import COMMANDS
from edgekit.version import __version__


def call(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(words), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def commands() -> list[tuple[str, click.Command]]:
    """Every command by its full name, those of groups too."""
    context = click.Context(main)
    found: list[tuple[str, click.Command]] = []
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", command.commands[sub]) for sub in command.list_commands(context)]
        else:
            found.append((name, command))
    return found


def test_version() -> None:
    assert call("--version") == (0, f"edgekit {__version__}\n", "")


def test_help_lists_every_command() -> None:
    code, out, _ = call("--help")
    assert code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0].startswith(COMMANDS[name])


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_has_the_output_options_and_an_example(name: str, command: click.Command) -> None:
    options = {option for item in command.params for option in item.opts}
    assert {"--json", "-q", "--quiet", "--debug"} <= options
    code, out, _ = call(*name.split(), "--help")
    assert code == 0
    assert "Example:" in out
    assert f"edgekit {name}" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["exprt"], "edgekit: 'edgekit' has no command 'exprt'. Did you mean 'export'?\n"),
        (["targets", "lst"], "edgekit: 'edgekit targets' has no command 'lst'. Did you mean 'list'?\n"),
        (
            ["export", "x.onnx", "--tarjet", "cpu"],
            "edgekit: 'edgekit export' has no option '--tarjet'. Did you mean '--target'? (edgekit export --help)\n",
        ),
        (["export", "x.onnx"], "edgekit: 'edgekit export' needs --target. (edgekit export --help)\n"),
        (["export", "--target", "cpu"], "edgekit: 'edgekit export' needs SOURCE. (edgekit export --help)\n"),
        (
            ["export", "x.onnx", "-t", "cpu", "--threads", "two"],
            "edgekit: --threads: 'two' is not a valid integer. (edgekit export --help)\n",
        ),
        (["doctor", "extra"], "edgekit: got unexpected extra argument (extra). (edgekit doctor --help)\n"),
        (["--bogus"], "edgekit: 'edgekit' has no option '--bogus'. (edgekit --help)\n"),
    ],
)
def test_usage_errors_speak_plainly(words: list[str], line: str) -> None:
    assert call(*words) == (2, "", line)


def test_usage_error_with_json() -> None:
    code, out, err = call("export", "--json", "x.onnx", "--bogus")
    assert code == 2
    assert json.loads(out)["error"]["message"] == "'edgekit export' has no option '--bogus'"
    assert err.startswith("edgekit: ")


def test_an_unknown_target_has_the_nearest_name() -> None:
    code, _, err = call("targets", "show", "cpuu")
    assert code == 2
    assert err == "edgekit: target 'cpuu' is not known. Did you mean 'cpu'? (edgekit targets list)\n"


def test_python_m_edgekit_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "edgekit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"edgekit {__version__}\n"


def test_completion_answers_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit"],
        capture_output=True,
        text=True,
        check=True,
        env={"_EDGEKIT_COMPLETE": "bash_complete", "COMP_WORDS": "edgekit ex", "COMP_CWORD": "1", "PATH": ""},
    )
    assert "export" in done.stdout

"""``edgekit targets``: the device profiles."""

from __future__ import annotations

from pathlib import Path

import click

from .console import Console
from .group import Group
from .options import define

LIST_EXAMPLE = """
edgekit targets list
"""
SHOW_EXAMPLE = """
edgekit targets show cpu
edgekit targets show ./my-board.toml --json
"""
NEW_EXAMPLE = """
edgekit targets new my-board --extends cpu-arm64
edgekit targets new my-board --extends raspberry-pi-5 -o profiles/
"""


@click.group("targets", cls=Group, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List the device profiles, show one, or start a new one.

    Alone: list them.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_targets, as_json=False, quiet=False, debug=False)


@define("list", example=LIST_EXAMPLE, group=command)
def list_targets(console: Console) -> None:
    """Every installed target with its description."""
    from .. import plugins
    from ..report.doctor import targets_text
    from ..target.load import load_target

    profiles = [item for item in map(load_target, sorted(plugins.target_files())) if not item.abstract]
    rows = [
        {
            "name": item.name,
            "description": item.description,
            "arch": list(item.arch),
            "candidates": [candidate.name for candidate in item.candidates],
            "file": str(item.files[0]),
        }
        for item in profiles
    ]
    console.show({"schema": 1, "targets": rows}, lambda: targets_text(rows, console.colour, console.width))


@define("show", example=SHOW_EXAMPLE, group=command)
@click.argument("name")
def show_target(console: Console, name: str) -> None:
    """A profile after inheritance, with the file each value came from.

    NAME is a target's name, or the path of its TOML file.
    """
    from ..report.doctor import profile_text
    from ..target.load import load_target, profile

    value = profile(load_target(name))
    console.show({"schema": 1, **value}, lambda: profile_text(value, console.colour, console.width))


@define("new", example=NEW_EXAMPLE, group=command)
@click.argument("name")
@click.option(
    "--extends", required=True, metavar="TARGET", help="The profile to start from: a name, or the path of its file."
)
@click.option("-o", "--output", metavar="FILE", type=Path, help="NAME.toml, or a folder for it. Default: this folder.")
def new_target(console: Console, name: str, extends: str, output: Path | None) -> None:
    """Write the profile of a device of your own: every key explained, and all of it inherited until you change it.

    NAME is the new target's: lower-case letters, digits and dashes.
    """
    from ..report.doctor import short_path
    from ..target.template import new_target as write

    target = write(name, extends, output)
    file = short_path(target.files[0])
    value = {
        "schema": 1,
        "name": target.name,
        "file": str(target.files[0]),
        "extends": extends,
        "candidates": [item.name for item in target.candidates],
    }
    console.show(value, lambda: f"{file}: target '{name}', with the {len(target.candidates)} candidates of '{extends}'")
    console.hint(f"Next: edit it, then edgekit targets show {file}, edgekit export SOURCE --target {file}")

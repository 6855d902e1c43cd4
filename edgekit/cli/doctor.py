"""``edgekit doctor``: what is installed, what each target still needs, how to get it."""

from __future__ import annotations

import click

from .console import Console
from .options import define, target_option

EXAMPLE = """
edgekit doctor
edgekit doctor --target cpu && edgekit export net.py:build --target cpu
"""


@define("doctor", example=EXAMPLE)
@target_option(required=False)
def command(console: Console, target: str | None) -> None:
    """What is installed, what each target still needs, and how to get it.

    With --target, the exit code is 6 while something that target needs is missing.
    """
    from ..doctor import examine
    from ..report.doctor import doctor_text

    with console.progress.stage("looking at the engines"):
        report = examine(target)
    console.show(report.to_json(), lambda: doctor_text(report, console.colour, console.width))
    missing = [] if target is None else [need for item in report.targets for need in item.needs]
    if missing:
        console.complain(f"target '{report.targets[0].name}' is not ready: {'; '.join(missing)}")
        raise click.exceptions.Exit(6)

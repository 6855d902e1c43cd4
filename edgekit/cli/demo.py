"""``edgekit demo``: the whole job on a small real model and real data."""

from __future__ import annotations

from pathlib import Path

import click

from .console import Console
from .options import define

EXAMPLE = """
edgekit demo
"""


@define("demo", example=EXAMPLE)
@click.option("-o", "--output", default="edgekit-demo", show_default=True, metavar="DIR", help="The folder to work in.")
@click.option("--overwrite", is_flag=True, help="Replace what else lies in that folder under the demo's names.")
def command(console: Console, output: str, overwrite: bool) -> None:
    """The whole job on a small real model and real data, in about a minute.

    Trains a small residual network on scikit-learn's handwritten digits, exports it for this machine's CPU with int8
    candidates, checks and measures each, and bundles the fastest.
    """
    from ..examples.digits.demo import COMMAND, run_demo
    from ..report.text import export_text

    result = run_demo(Path(output), progress=console.progress, overwrite=overwrite)
    value = console.keep("export", result.to_json(), result.samples)
    console.show(value, lambda: export_text(result, console.colour, console.width))
    console.hint(
        f"\nThe same by hand:      cd {output} && {COMMAND}\n"
        f"Run the bundle alone:  python {result.bundle / 'run.py'}   (needs numpy and {result.pick.runtime} only)\n"
        f"Your own model:        edgekit export your.py:factory --target cpu"
    )

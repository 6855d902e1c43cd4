"""``edgekit inspect``: operators, parameters, MACs, memory, and what would not run where."""

from __future__ import annotations

import click

from ..errors import EngineError, PlacementError
from .console import Console
from .options import define, input_options, range_option, target_option

EXAMPLE = """
edgekit inspect net.py:build
edgekit inspect model.onnx --target jetson
edgekit inspect build.edgekit
"""


@define("inspect", example=EXAMPLE)
@click.argument("source")
@target_option(required=False)
@input_options
@click.option(
    "--example", metavar="FILE.npz", help="Example inputs, as the model takes them, in place of made-up ones."
)
@range_option
@click.option("--task", metavar="T", help="The Hugging Face task, where the folder does not tell.")
def command(
    console: Console,
    source: str,
    target: str | None,
    inputs: tuple[str, ...],
    dynamic: tuple[str, ...],
    example: str | None,
    ranges: tuple[str, ...],
    task: str | None,
) -> None:
    """Operators, parameters, MACs and memory; what would not run where.

    SOURCE is what export takes, or a bundle. With --target, each of its engines is asked whether it takes the model;
    operators that one does not take are listed in its own words (exit 5 where none takes it). An engine that cannot run
    here is judged by its documented rules, as far as edgekit has them, and it says so; where none can be asked at all,
    it is exit 6.
    """
    from ..api.inspect import inspect
    from ..report.inspection import inspection_text

    found = inspect(
        source,
        target=target,
        inputs=inputs,
        dynamic=dynamic,
        example=example,
        ranges=ranges,
        task=task,
        progress=console.progress,
    )
    console.show(found.to_json(), lambda: inspection_text(found, console.colour, console.width))
    if found.missing:
        console.complain(f"no engine of target '{found.target}' could be asked whether it takes this model")
        raise click.exceptions.Exit(EngineError.exit_code)
    if found.runs is False:
        console.complain(f"no engine of target '{found.target}' takes this model")
        raise click.exceptions.Exit(PlacementError.exit_code)

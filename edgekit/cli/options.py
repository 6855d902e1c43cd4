"""What the commands' definitions share: the output options, the example in the help, the options of a source."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def define(
    name: str, *, example: str, group: click.Group | None = None, keeps: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function ``(console, **options) -> None``: adds ``--json -q --debug`` and the example.

    Args:
        name: what the user types.
        example: one command line or several, shown at the end of the help.
        group: the group it belongs to; none: `app` finds it by its module's name.
        keeps: its result is kept (`Console.keep`), so that it takes ``--mlflow`` too.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(*, as_json: bool, quiet: bool, debug: bool, mlflow: str | None = None, **options: Any) -> None:
            from .console import open_console

            with open_console(json=as_json, quiet=quiet, debug=debug, mlflow=mlflow) as console:
                function(console, **options)

        indented = "\n".join(f"  {line}" for line in example.strip().splitlines())
        make = click.command if group is None else group.command
        made: click.Command = make(name, epilog=f"\b\nExample:\n{indented}")(_output_options(run, keeps))
        return made

    return decorate


def _output_options(function: Function, keeps: bool) -> Function:
    """Add the options that every command takes, at the end of its list."""
    options = [
        click.option("--debug", is_flag=True, help="Show the traceback of an error, and what libraries print."),
        click.option("-q", "--quiet", is_flag=True, help="No progress."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object; everything else goes to stderr."),
    ]
    if keeps:
        options.append(
            click.option(
                "--mlflow",
                is_flag=False,
                flag_value="",
                metavar="[URI]",
                help="Log the result to MLflow too: to this tracking URI, or to MLflow's own default.",
            )
        )
    # click lists options in the order in which decorators stand, top first: these come last.
    params = function.__dict__.setdefault("__click_params__", [])
    for option in options:
        option(function)
    params[:] = params[-len(options) :] + params[: -len(options)]
    return function


def target_option(*, required: bool) -> Callable[[Function], Function]:
    """``--target NAME``."""
    return click.option(
        "-t", "--target", required=required, metavar="NAME", help="A target's name, or the path of its TOML file."
    )


def range_option(function: Function) -> Function:
    """``--range``, for engines that plan for the sizes of free dimensions."""
    option = click.option(
        "--range",
        "ranges",
        multiple=True,
        metavar="DIM=MIN..OPT..MAX",
        help="Sizes of a free dimension, for engines that plan for them. Repeat for several.",
    )
    return option(function)


def state_options(function: Function) -> Function:
    """``--state`` and ``--rollout``, for models with memory."""
    for option in (
        click.option(
            "--rollout",
            type=int,
            metavar="N",
            help="Steps in which a model with memory runs with its own state beside PyTorch with its own. Default: 64.",
        ),
        click.option(
            "--state",
            multiple=True,
            metavar="OUT=IN",
            help="An output that is an input of the next run, e.g. stateN=state; none: look for none. Repeatable.",
        ),
    ):
        option(function)
    return function


def reference_option(function: Function) -> Function:
    """``--reference``, for a source whose file PyTorch does not run."""
    option = click.option(
        "--reference",
        type=click.Choice(["onnx.reference", "onnxruntime", "openvino"]),
        help="What says what an .onnx file computes. Default: what two of them agree on.",
    )
    return option(function)


def input_options(function: Function) -> Function:
    """``--input`` and ``--dynamic``, for a source that does not tell its inputs."""
    for option in (
        click.option(
            "--dynamic", multiple=True, metavar="NAME:AXIS", help="A free dimension, e.g. x:0. Repeat for several."
        ),
        click.option(
            "--input",
            "inputs",
            multiple=True,
            metavar="NAME:DTYPE:SHAPE",
            help="An input, e.g. x:float32:1x3x224x224, or its value: sr=16000. Repeat for several.",
        ),
    ):
        option(function)
    return function

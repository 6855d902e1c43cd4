"""``edgekit compare``: faster, slower, or not distinguishable."""

from __future__ import annotations

import click

from .console import Console
from .options import define
from .quantities import duration, share

EXAMPLE = """
edgekit compare fp32.edgekit int8.edgekit
edgekit compare old.edgekit new.edgekit --precision 0.5% --max-time 5m --json
"""


@define("compare", example=EXAMPLE, keeps=True)
@click.argument("a")
@click.argument("b")
@click.option("--device", default="local", show_default=True, metavar="URL", help="Where to measure.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of both measured session options.")
@click.option(
    "--precision",
    type=share,
    default="1%",
    show_default=True,
    metavar="P",
    help="Stop when B ÷ A is known to ± this.",
)
@click.option(
    "--max-time", type=duration, default="60s", show_default=True, metavar="TIME", help="Stop after so much time."
)
def command(
    console: Console, a: str, b: str, device: str, threads: int | None, precision: float, max_time: float
) -> None:
    """Faster, slower, or not distinguishable: two bundles in one run.

    Fresh processes of A, of B and again of A take turns in every round. The ratio of B's median latency to
    A's comes with its interval; A against itself must come out equal, or the machine cannot tell.
    """
    from ..api.compare import compare
    from ..report.compare import compare_text

    result = compare(a, b, device, threads=threads, precision=precision, max_time_s=max_time, progress=console.progress)
    value = console.keep("compare", result.to_json(), {"a": result.samples["a"], "b": result.samples["b"]})
    console.show(value, lambda: compare_text(value, console.colour, console.width))

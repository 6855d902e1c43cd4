"""``edgekit bench``: latency, memory and placement of a bundle."""

from __future__ import annotations

import click

from .console import Console
from .options import define

EXAMPLE = """
edgekit bench build.edgekit
edgekit bench build.edgekit --threads 2 --seconds 30 --json
"""


@define("bench", example=EXAMPLE, keeps=True)
@click.argument("bundle")
@click.option("--device", default="local", show_default=True, metavar="URL", help="Where to measure.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of the measured session option.")
@click.option(
    "--seconds",
    type=float,
    default=10.0,
    show_default=True,
    metavar="S",
    help="Time for timed runs, over all processes.",
)
@click.option("--processes", type=int, default=3, show_default=True, metavar="N", help="Fresh processes to measure in.")
def command(console: Console, bundle: str, device: str, threads: int | None, seconds: float, processes: int) -> None:
    """Measure a bundle's latency, memory and placement.

    Several fresh processes take turns; percentiles come with their intervals. The result and its raw
    samples are kept in .edgekit/results.
    """
    from ..benchmarking import bench
    from ..report.bench import bench_text

    result = bench(bundle, device, threads=threads, seconds=seconds, processes=processes, progress=console.progress)
    value = console.keep("bench", result.to_json(), {"latency": result.measured.samples})
    console.show(value, lambda: bench_text(value, console.colour, console.width))

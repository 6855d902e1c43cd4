"""``edgekit bench``: latency, memory and placement of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .console import Console
from .options import define
from .quantities import duration, share

if TYPE_CHECKING:
    from ..measure.modes import Mode

EXAMPLE = """
edgekit bench build.edgekit
edgekit bench build.edgekit --precision 1% --max-time 5m
edgekit bench build.edgekit --profile
edgekit bench build.edgekit --mode throughput --streams 2 --threads 1 --batch 8
edgekit bench build.edgekit --mode sustained --duration 30m
edgekit bench build.edgekit --mode server --rate 50 --deadline 20ms --json
"""


@define("bench", example=EXAMPLE, keeps=True)
@click.argument("bundle")
@click.option("--device", default="local", show_default=True, metavar="URL", help="Where to measure.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Instead of the measured session option.")
@click.option(
    "--precision", type=share, default="2%", show_default=True, metavar="P", help="Stop when p50 is known to ± this."
)
@click.option(
    "--max-time", type=duration, default="60s", show_default=True, metavar="TIME", help="Stop after so much time."
)
@click.option(
    "--processes", type=int, default=5, show_default=True, metavar="N", help="Fresh processes to measure in, at least."
)
@click.option("--seconds", type=float, metavar="S", help="Instead: time for timed runs, in exactly so many processes.")
@click.option(
    "--mode",
    type=click.Choice(["latency", "throughput", "sustained", "server"]),
    default="latency",
    show_default=True,
    help="One run at a time, as many as it can, for long, or at the random arrivals of requests.",
)
@click.option("--streams", type=click.IntRange(min=1), metavar="N", help="throughput: processes at once. Default: 2.")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Samples in one run; needs a free first axis.")
@click.option("--duration", type=duration, metavar="TIME", help="sustained: how long. Default: 30m.")
@click.option("--rate", type=float, metavar="R", help="server: requests a second, on average.")
@click.option("--deadline", type=duration, metavar="TIME", help="server: a later result is a miss.")
@click.option("--profile", is_flag=True, help="Also time each layer, against what the machine can do.")
@click.option("--cores", metavar="LIST", help="Keep the measured processes on these cores, e.g. 0,2-3.")
@click.option("--nice", type=click.IntRange(-20, 19), metavar="N", help="Their priority: -20 comes first.")
def command(
    console: Console,
    bundle: str,
    device: str,
    threads: int | None,
    precision: float,
    max_time: float,
    processes: int,
    seconds: float | None,
    mode: str,
    batch: int | None,
    profile: bool,
    cores: str | None,
    nice: int | None,
    **load: float | None,
) -> None:
    """Measure a bundle's latency, memory and placement.

    Fresh processes, one after the other, until the interval is narrow enough or the time is spent. The
    result and its raw samples are kept in .edgekit/results.
    """
    from ..api.bench import bench
    from ..measure.affinity import parse_cores
    from ..report.bench import bench_text
    from ..report.kept import since_text
    from ..results_store import Store, default_folder
    from ..results_store.comparison import since_last

    result = bench(
        bundle,
        device,
        threads=threads,
        precision=precision,
        max_time_s=max_time,
        processes=processes,
        seconds=seconds,
        mode=_mode(mode, load),
        batch=batch,
        profile=profile,
        cores=None if cores is None else parse_cores(cores),
        nice=nice,
        progress=console.progress,
    )
    value = console.keep("bench", result.to_json(), {"latency": result.measured.samples})
    console.show(value, lambda: bench_text(value, console.colour, console.width))
    found = since_last(Store(default_folder()), value["result"]) if value["result"] else None
    said = since_text(found) if found is not None else None
    if said:
        console.hint(said)


def _mode(name: str, load: Mapping[str, Any]) -> Mode | None:
    """The mode, from its own options alone; None for plain latency.

    Raises:
        UsageError: an option of another mode, or one that is missing.
    """
    from ..errors import UsageError
    from ..measure.modes import Server, Sustained, Throughput

    own = {"latency": (), "throughput": ("streams",), "sustained": ("duration",), "server": ("rate", "deadline")}
    given = {key: value for key, value in load.items() if value is not None}
    for key in given:
        if key not in own[name]:
            owner = next(mode for mode, keys in own.items() if key in keys)
            raise UsageError(f"--{key} belongs to --mode {owner}, got --mode {name}")
    if name == "throughput":
        return Throughput(given.get("streams", 2))
    if name == "sustained":
        return Sustained(given.get("duration", 1800.0))
    if name == "server":
        missing = [f"--{key}" for key in own["server"] if key not in given]
        if missing:
            raise UsageError(
                f"--mode server needs {' and '.join(missing)}", fix="For example: --rate 50 --deadline 20ms"
            )
        return Server(given["rate"], given["deadline"])
    return None

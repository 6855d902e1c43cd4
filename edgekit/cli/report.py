"""``edgekit report``: results → one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from .console import Console
from .options import define

EXAMPLE = """
edgekit report latest -o report.html
edgekit report 3f9c 81d2 bench.json -o report.html
"""


@define("report", example=EXAMPLE)
@click.argument("results", nargs=-1, required=True, metavar="RESULT...")
@click.option("-o", "--output", default="report.html", show_default=True, metavar="FILE", help="The page to write.")
def command(console: Console, results: tuple[str, ...], output: str) -> None:
    """One self-contained HTML page of results.

    RESULT is an id or the beginning of one (edgekit results list), "latest", "latest~1", …, or the path of a saved
    --json object. The page holds its plots' data and code: it needs no network, and nothing of edgekit to read it.
    """
    import datetime

    from ..errors import DataError
    from ..report.html import report_html
    from ..results_store import find_result
    from ..tempdir import write_file
    from ..units import size

    records, unread = [], []
    for item in results:
        try:
            records.append(find_result(item))
        except DataError as error:  # one odd record hides no other
            unread.append(error)
    if not records:
        raise unread[0]
    page = report_html(records, created=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC").encode()
    write_file(Path(output), page)
    value = {"schema": 1, "report": output, "size_bytes": len(page), "results": [item.id for item in records]}
    shown = f"{len(records)} result{'s' if len(records) != 1 else ''}"
    console.show(value, lambda: f"{output}   {size(len(page))}, {shown}. Open it in any browser.")
    if unread:
        for why in unread:
            console.complain(f"not on the page: {why}")
        raise click.exceptions.Exit(DataError.exit_code)

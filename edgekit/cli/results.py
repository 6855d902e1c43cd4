"""``edgekit results``: what was measured before."""

from __future__ import annotations

import click

from .console import Console
from .group import Group
from .options import define

LIST_EXAMPLE = """
edgekit results list
edgekit results list --kind bench --bundle build.edgekit --limit 50
"""
SHOW_EXAMPLE = """
edgekit results show latest
edgekit results show 3f9c --json
"""
COMPARE_EXAMPLE = """
edgekit results compare latest~1 latest
"""


@click.group("results", cls=Group, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, show or compare the results that are kept. Alone: list them.

    They lie in .edgekit/results of this folder or of the nearest one above it that has any; the environment variable
    EDGEKIT_RESULTS names another place.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_results, as_json=False, quiet=False, debug=False, kind=None, bundle=None, limit=20)


@define("list", example=LIST_EXAMPLE, group=command)
@click.option("--kind", metavar="K", help="Only these: export, bench, compare, evaluate.")
@click.option("--bundle", metavar="TEXT", help="Only of a bundle whose path holds this, or whose hash begins with it.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="How many.")
def list_results(console: Console, kind: str | None, bundle: str | None, limit: int) -> None:
    """The results of this project, the newest first."""
    from ..report.kept import listing_text
    from ..results_store import Store, default_folder

    found = Store(default_folder()).rows(kind=kind, bundle=bundle, limit=limit)
    value = {
        "schema": 1,
        "store": str(found.store),
        "total": found.total,
        "results": [row.to_json() for row in found.rows],
    }
    console.show(value, lambda: listing_text(found, console.colour, console.width))


@define("show", example=SHOW_EXAMPLE, group=command)
@click.argument("result")
def show_result(console: Console, result: str) -> None:
    """A result as it was told when it was made, with what it was made with.

    RESULT is an id or the beginning of one, "latest", "latest~1", …, or the path of a saved --json object.
    """
    from ..report.kept import record_text
    from ..results_store import find_result

    record = find_result(result)
    console.show(record.to_json(), lambda: record_text(record, console.colour, console.width))


@define("compare", example=COMPARE_EXAMPLE, group=command)
@click.argument("a")
@click.argument("b")
def compare_results(console: Console, a: str, b: str) -> None:
    """Two kept results beside each other: their medians, their ratio with its interval, and what differed.

    They were taken at different times, so this is weaker than `edgekit compare`, which takes turns between the two.
    """
    from ..report.kept import comparison_text
    from ..results_store import find_result
    from ..results_store.comparison import compare_records

    found = compare_records(find_result(a), find_result(b))
    console.show(found.to_json(), lambda: comparison_text(found, console.colour, console.width))

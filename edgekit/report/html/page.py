"""The page around the results: head, security policy, navigation, overview, script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from ... import units
from ...plain import plain
from ...results_store import Record
from ..kept import made, p50_of
from . import figures
from .markup import Markup, el, join, table
from .sections import Article, article

_SCRIPTS = ("d3.min.js", "plot.min.js", "report.js")


def report_html(records: Sequence[Record], created: str = "") -> str:
    """A whole HTML document: an overview where there are several results, then each result.

    Args:
        records: the results, in the order to show them; at least one.
        created: when the report was made, for its footer.
    """
    articles = [article(record, f"r{number}") for number, record in enumerate(records, start=1)]
    overview, compared = _overview(articles) if len(articles) > 1 else (None, [])
    drawn = [*compared, *(figure for item in articles for figure in item.figures)]
    scripts = [_asset(name) for name in _SCRIPTS]
    title = f"{articles[0].record.kind} of {articles[0].title}" if len(articles) == 1 else f"{len(articles)} results"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title} · edgekit"),
        el("style", Markup(_asset("report.css"))),
    )
    body = el(
        "body",
        el("a", "Skip to the results", href="#results", class_="skip"),
        el("header", el("h1", f"edgekit: {title}"), _navigation(articles)),
        el("main", overview, [item.to_html() for item in articles], id="results"),
        el("footer", _footer(created)),
        # A block of data, never run: the policy allows no script but those whose hashes it names.
        el("script", Markup(_data(drawn)), type="application/json", id="figures"),
        [el("script", Markup(code)) for code in scripts],
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is loaded from anywhere, and no script runs but ours. Plot sets styles of its elements by itself."""
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _data(drawn: Sequence[figures.Figure]) -> str:
    """JSON that cannot end the element it stands in, whatever a model or a file is called."""
    value = [{"id": item.id, "kind": item.kind, "data": item.data} for item in drawn]
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _navigation(articles: Sequence[Article]) -> Markup | None:
    if len(articles) == 1:
        links = [el("li", el("a", name, href=f"#{anchor}")) for anchor, name in articles[0].anchors]
    else:
        links = [el("li", el("a", f"{item.record.kind} {item.title}", href=f"#{item.id}")) for item in articles]
    return el("nav", el("ul", links), aria_label="On this page") if links else None


def _overview(articles: Sequence[Article]) -> tuple[Markup, list[figures.Figure]]:
    rows, points = [], []
    for item in articles:
        p50 = p50_of(item.record)
        shown = units.interval(p50) if p50 else ""
        link = el("a", item.title, href=f"#{item.id}")
        rows.append([link, item.record.kind, shown, item.conclusion, made(item.record)])
        if p50 is not None:
            points.append((f"{item.title} ({item.record.id})", p50.to_json(), False))
    figure = figures.intervals("overview", points, "Median latencies")
    titles = ["result", "kind", "p50", "conclusion", "made (UTC)"]
    content = join(
        el("h2", "Overview", id="overview-title"),
        table("All results of this page", titles, rows, numeric=(2,)),
        figure.to_html() if figure else None,
    )
    return el("article", content, aria_labelledby="overview-title"), [figure] if figure else []


def _footer(created: str) -> list[Any]:
    from ...version import __version__

    when = f" on {created}" if created else ""
    return [
        el("p", f"Made by edgekit {__version__}{when}. This page loads nothing from the network."),
        el("details", el("summary", "Licences of what draws the plots"), el("pre", _asset("LICENSES.txt"))),
    ]

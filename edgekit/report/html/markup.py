"""HTML from Python values, escaped by construction: only a `Markup` is taken as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already. `el` makes them; nothing a user wrote may be wrapped in one."""

    __slots__ = ()


Child = str | Markup | None
_VOID = {"meta", "link", "br"}


def el(tag: str, *children: Child | Iterable[Child], **attributes: str | bool | None) -> Markup:
    """``<tag attribute="…">children</tag>``.

    Args:
        tag: the element's name.
        children: text, which is escaped, or `Markup`, or lists of them; None is left out.
        attributes: their values, escaped; True: without a value; None or False: left out. A trailing underscore is for
            names that are words of Python, any other stands for a hyphen.
    """
    head = "".join(
        f" {_name(name)}" if value is True else f' {_name(name)}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    inner = join(*children)
    return Markup(f"<{tag}{head}>" if tag in _VOID else f"<{tag}{head}>{inner}</{tag}>")


def join(*children: Child | Iterable[Child]) -> Markup:
    """Children one after another, escaped where they are plain text."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(html.escape(child))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def table(
    caption: str, titles: Sequence[str], rows: Sequence[Sequence[Child]], *, numeric: Iterable[int] = (), mark: int = -1
) -> Markup:
    """A table in a box that scrolls sideways alone, so that the page never does.

    Args:
        caption: what it shows.
        titles: of the columns. The first column names the row.
        rows: cells.
        numeric: columns aligned at their end.
        mark: the row that stands out, or -1.
    """
    right = set(numeric)
    kept = [index for index, _ in enumerate(titles) if index == 0 or any(row[index] for row in rows)]
    head = el("tr", [el("th", titles[i], scope="col", class_="num" if i in right else None) for i in kept])
    body = [
        el(
            "tr",
            [
                el("th", row[i], scope="row") if i == 0 else el("td", row[i], class_="num" if i in right else None)
                for i in kept
            ],
            class_="picked" if number == mark else None,
        )
        for number, row in enumerate(rows)
    ]
    content = el("table", el("caption", caption), el("thead", head), el("tbody", body))
    # A box that scrolls must be reachable by keyboard, and then it needs a name.
    return el("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """A list of names and values; pairs without a value are left out."""
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in pairs if value])


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")

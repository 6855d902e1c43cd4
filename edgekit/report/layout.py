"""Columns and colour for text on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours text, or leaves it alone."""

    colour: bool

    def __call__(self, text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
        """``text`` in the style asked for."""
        if not self.colour or not text:
            return text
        return click.style(text, fg=fg, bold=bold or None, dim=dim or None)

    def label(self, text: str) -> str:
        """The word a line begins with."""
        return self(text, bold=True)

    def faint(self, text: str) -> str:
        """What matters less."""
        return self(text, dim=True)

    def good(self, text: str) -> str:
        """What was picked, what passed."""
        return self(text, fg="green", bold=True)

    def bad(self, text: str) -> str:
        """What was rejected, what failed."""
        return self(text, fg="red")


def columns(rows: Sequence[Sequence[str]], align: str) -> list[list[str]]:
    """Pad the cells so that columns line up; ``align`` has ``<`` or ``>`` for each. An empty column takes no room."""
    widths = [max((len(row[index]) for row in rows), default=0) for index in range(len(align))]
    kept = [index for index, width in enumerate(widths) if width]
    return [[f"{row[index]:{align[index]}{widths[index]}}" for index in kept] for row in rows]


def table(rows: Sequence[Sequence[str]], align: str, gap: str = "   ") -> list[str]:
    """``columns`` joined into lines, without spaces at the end."""
    return [gap.join(row).rstrip() for row in columns(rows, align)]


def labelled(label: str, text: str, ink: Ink, width: int, indent: int = 12) -> list[str]:
    """``label       text``, wrapped to ``width`` with the text's lines under each other."""
    lines = wrap(text, max(width - indent, 20))
    return [
        (ink.label(f"{label:<{indent}}") if index == 0 else " " * indent) + line for index, line in enumerate(lines)
    ]


def cores_text(device: Mapping[str, Any], word: str = "") -> str:
    """``2 of 4 cores``, the ``word``, and the CPU quota where a container has one."""
    quota = device.get("cpu_quota")
    limit = f", CPU quota {quota:g}" if quota is not None else ""
    return f"{device['usable_cores']} of {device['cores']} cores{word}{limit}"


def wrap(text: str, width: int) -> list[str]:
    """Break at spaces, keeping runs of them; a word longer than a line is left whole (paths must stay copyable)."""
    if len(text) <= width:
        return [text]
    wrapped = textwrap.wrap(
        text, width, break_long_words=False, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )
    return wrapped or [""]


def shorten(text: str, width: int) -> str:
    """``text``, its middle left out where it is longer than ``width``: names differ at their ends."""
    if len(text) <= width or width < 5:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"

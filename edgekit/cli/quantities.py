"""Times and shares as people write them: ``60s``, ``1h30m``, ``2%``. Given to click as an option's ``type``."""

from __future__ import annotations

import math
import re

import click

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h)\s*"


def duration(value: str | float) -> float:
    """``90``, ``90s``, ``1.5m``, ``1h30m``, ``50ms`` → seconds, more than 0.

    Raises:
        click.BadParameter: it is not a time, or none.
    """
    seconds = _plain(value)
    if seconds is None:
        text = str(value).strip().lower()
        if not re.fullmatch(f"(?:{_PART})+", text):
            raise click.BadParameter(f"'{value}' is not a time. Allowed: 90, 90s, 30m, 1h30m, 50ms.")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    if not (seconds > 0 and math.isfinite(seconds)):
        raise click.BadParameter(f"a time must be more than 0, got '{value}'.")
    return seconds


def share(value: str | float) -> float:
    """``2%`` or ``0.02`` → 0.02, between 0 and 1, both excluded.

    Raises:
        click.BadParameter: it is not a share.
    """
    text = str(value).strip()
    number = _plain(text.removesuffix("%"))
    if number is None:
        raise click.BadParameter(f"'{value}' is not a share. Allowed: 2%, 0.02.")
    found = number / 100 if text.endswith("%") else number
    if not 0 < found < 1:
        raise click.BadParameter(f"a share must lie between 0% and 100%, got '{value}'.")
    return found


def _plain(value: str | float) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None

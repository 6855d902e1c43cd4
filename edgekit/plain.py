"""Values → JSON that every reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np


def to_json(value: Any) -> str:
    """One JSON object, indented. A number that is not finite becomes null, because JSON has none."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def finite(value: float | None) -> float | None:
    """``value``, or None where it is not finite: equal outputs have an infinite signal-to-noise ratio."""
    return value if value is not None and math.isfinite(value) else None


def readable(text: str) -> str:
    r"""``text`` as every reader of UTF-8 accepts it.

    A path whose bytes are not in the locale's encoding comes from the system with lone surrogates in it (PEP 383).
    Bytes that are UTF-8 are read as that, whatever the locale says; others are written out: ``mod\xe8le``.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no byte: only a file's "\\ud800" makes one
            return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def plain(value: Any) -> Any:
    """``value`` made of dicts, lists, strings, numbers, booleans and None only; text is `readable`.

    Raises:
        TypeError: something in it has no JSON form.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {readable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, PurePath):
        return readable(str(value))
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")

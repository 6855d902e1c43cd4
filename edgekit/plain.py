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


def plain(value: Any) -> Any:
    """``value`` made of dicts, lists, strings, numbers, booleans and None only.

    Raises:
        TypeError: something in it has no JSON form.
    """
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")

"""What an app passes to a model → what every adapter can read: names with arrays of this machine's byte order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contracts import Feeds
from ..errors import EngineError


def readable(feeds: Any) -> Feeds:
    """The same feeds where they are so already, which costs 0.1 µs an input.

    Another byte order is turned into the machine's; a tensor of another library is read as it says (``__array__``).
    Names, dtypes and shapes are the adapter's to check.

    Raises:
        EngineError: not a mapping, masked values, or a tensor that cannot be read.
    """
    if type(feeds) is not dict and not isinstance(feeds, Mapping):  # the first is the fast way
        raise EngineError(f"inputs are given by name, in a dict, got {type(feeds).__name__}")
    for value in feeds.values():
        if type(value) is not np.ndarray or not value.dtype.isnative:
            return {name: _readable(name, value) for name, value in feeds.items()}
    return feeds


def _readable(name: str, value: Any) -> Any:
    if isinstance(value, list):  # a sequence: engines read its arrays as they lie in memory, whatever their byte order
        return [_readable(name, item) for item in value]
    if not isinstance(value, (np.ndarray, np.generic)) and hasattr(value, "__array__"):
        try:
            value = value.__array__()  # numpy.asarray would drop a mask
        except Exception as error:  # a tensor on a GPU, one that requires its gradient: each library has its own
            words = str(error).strip().partition("\n")[0].rstrip(".")
            raise EngineError(f"input '{name}' cannot be read as an array: {words}") from error
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise EngineError(f"input '{name}' has masked values", fix="Fill them: array.filled(0)")
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value

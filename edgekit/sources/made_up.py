"""What is said of example inputs that nobody gave: ``images 1x3x32x32``, ``inputs ids 1x32, mask 1x32``."""

from __future__ import annotations

from collections.abc import Mapping

from ..contracts import Array

_NAMED = 3
_CHANNELS = (1, 3, 4)


def made_up(arrays: Mapping[str, Array]) -> str | None:
    """The words for those of the example inputs that were made up; None: there are none."""
    if not arrays:
        return None
    if len(arrays) == 1:
        (only,) = arrays.values()
        if _is_image(only):
            return f"images {_shape(only)}"
    shown = [f"{name} {_shape(array)}" for name, array in list(arrays.items())[:_NAMED]]
    more = len(arrays) - len(shown)
    return f"inputs {', '.join(shown)}{f' and {more} more' if more else ''}"


def _is_image(array: Array) -> bool:
    """[B, C, H, W] or [B, H, W, C] of numbers, with as many channels as pictures have."""
    return array.ndim == 4 and array.dtype.kind in "fu" and (array.shape[1] in _CHANNELS or array.shape[3] in _CHANNELS)


def _shape(array: Array) -> str:
    return "x".join(map(str, array.shape)) or "scalar"

"""One sample at another size of a free dimension: its own values again from the start, or the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..contracts import Array, Feeds, TensorSpec
from ..sources.flags import BATCH_NAMES


def resized(feeds: Feeds, inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> dict[str, Array]:
    """``feeds`` with the dimensions of ``sizes`` at those sizes: [2, 3] at batch = 5 is rows 0 1 0 1 0."""
    found = {}
    for spec in inputs:
        array = feeds[spec.name]
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim in sizes and sizes[dim] != array.shape[axis]:
                array = np.take(array, range(sizes[dim]), axis=axis, mode="wrap")
        found[spec.name] = np.asarray(array, order="C")  # ascontiguousarray makes a scalar an array of one axis
    return found


def other_sizes(size: int) -> tuple[int, ...]:
    """What to try beside ``size``, the likeliest first: twice, for strides and halves divide that too."""
    return (2, 3, 4) if size == 1 else tuple(dict.fromkeys((2 * size, size // 2, size + 1, 1)))


def is_batch(dim: str, inputs: Sequence[TensorSpec]) -> bool:
    """Whether a free dimension counts items: it stands first in an input, or is called so."""
    return dim in BATCH_NAMES or any(spec.shape and spec.shape[0] == dim for spec in inputs)

"""Frames for a rollout where there are no data: one frame again and again lets a model settle, and shows no drift.

Frame 0 is the example input. In frame t every input that is a signal holds new numbers like the example's:

    x_t = clip( mean + std · n_t, min, max ),  n_t standard normal, the same on every machine

with the example's mean, standard deviation and bounds over all elements, so that a picture stays in 0..1 and a
logarithm below 0. A signal is floating-point, has more than one element, and is neither constant nor a mask of zeros
and ones. What is none (token ids, lengths, a mask, ``sr``) stays what it is in every frame. Where nothing else is left,
an example of zeros, which says nothing of its range, stands for normal numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence

import numpy as np

from ..contracts import Array, Feeds, Outputs


def signals(example: Feeds, state: Collection[str]) -> tuple[str, ...]:
    """The inputs that vary from frame to frame: those that are signals, else those that are all zeros."""
    candidates = {
        name: np.asarray(array)
        for name, array in example.items()
        if name not in state and np.asarray(array).dtype.kind == "f" and np.size(array) > 1
    }
    found = tuple(name for name, array in candidates.items() if not np.isin(array, (0, 1)).all() and np.ptp(array) > 0)
    return found or tuple(name for name, array in candidates.items() if not array.any())


def frame(example: Feeds, names: Sequence[str], step: int) -> Outputs:
    """Frame ``step`` of the stream, from 0: ``example`` with new numbers for ``names``."""
    if step == 0:
        return dict(example)
    return {**example, **{name: _noise(name, np.asarray(example[name]), step) for name in names}}


def _noise(name: str, example: Array, step: int) -> Array:
    noise = np.random.default_rng((zlib.crc32(name.encode()), step)).standard_normal(example.shape)
    if not example.any():
        return noise.astype(example.dtype)
    values = example.astype(np.float64)
    ranged: Array = np.clip(values.mean() + values.std() * noise, values.min(), values.max())
    return ranged.astype(example.dtype)

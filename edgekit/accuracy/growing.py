"""A state that is longer after every run: a cache of keys and values. A stream begins with none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..contracts import Feeds, Outputs
from ..errors import EdgekitError

if TYPE_CHECKING:
    from ..sources.source import Source
    from .reference import Reference


def begin_empty(source: Source, reference: Reference, feeds: Feeds) -> None:
    """Let what grows begin at size 0 on the axis on which it grows, where the reference takes that.

    Args:
        source: the model; its ``initial`` and ``notes`` are added to.
        reference: what runs it.
        feeds: one sample, with state.
    """
    free = [
        pair
        for pair in source.state
        if any(isinstance(size, str) for spec in source.inputs if spec.name == pair.input for size in spec.shape)
    ]
    if not free:
        return
    outputs = reference.run(feeds)
    empty: Outputs = {}
    for pair in free:
        before, after = np.shape(feeds[pair.input]), np.shape(outputs[pair.output])
        if len(before) == len(after) and before != after:
            shape = [0 if now > was else was for was, now in zip(before, after, strict=True)]
            empty[pair.input] = np.zeros(shape, np.asarray(feeds[pair.input]).dtype)
    if not empty:
        return
    names = ", ".join(f"'{name}'" for name in empty) + (" grows" if len(empty) == 1 else " grow")
    try:
        reference.run({**feeds, **empty})
    except EdgekitError:
        source.notes += (f"{names} with every step, and cannot begin empty: a stream begins with zeros of size 1",)
        return
    source.initial |= empty
    source.notes += (f"{names} with every step: a stream begins with none of it, and its steps take ever longer",)


def with_content(samples: Sequence[Feeds]) -> Feeds:
    """The first of some samples that holds no empty array, else the first."""
    return next((feeds for feeds in samples if all(np.size(array) for array in feeds.values())), samples[0])

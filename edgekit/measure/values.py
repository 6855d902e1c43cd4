"""Class maps and masks: which value is gone, however rare it is.

A class that covers half a percent of the pixels can be lost as a whole inside "0.5 % of the values differ". So for
each value of the reference the share of its elements that have another value in the answer is counted. That of small
objects is large at their edges in any other engine: what is asked is only that no value is mostly lost (`GONE`).

Device floor: the standard library and numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..contracts import Array

GONE = 0.5
"""A value is gone where more than this share of its elements differs."""
FEWEST = 32
"""Values of fewer elements say too little."""
MANY = 256
"""Where there are more values than this they are indices or numbers, no classes."""


@dataclass(slots=True)
class ValueCounts:
    """Adds up one output's samples; memory does not grow with their number."""

    _counts: dict[int, list[int]] | None = field(default_factory=dict)  # value → elements, of these how many differ

    def add(self, want: Array, got: Array) -> None:
        """One sample: integers or booleans of one shape."""
        if self._counts is None:
            return
        values, counts = np.unique(want, return_counts=True)
        if len(values) > MANY:
            self._counts = None
            return
        wrong, differing = np.unique(want[want != got], return_counts=True)
        lost = dict(zip(wrong.tolist(), differing.tolist(), strict=True))
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            known = self._counts.setdefault(int(value), [0, 0])
            known[0] += count
            known[1] += lost.get(value, 0)
        if len(self._counts) > MANY:
            self._counts = None

    def worst(self) -> tuple[int, float] | None:
        """The value that is lost most, and the share of its elements that differ; None: no value has enough."""
        shares = [(n and lost / n, value) for value, (n, lost) in (self._counts or {}).items() if n >= FEWEST]
        if not shares:
            return None
        share, value = max(shares)
        return value, share

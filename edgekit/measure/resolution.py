"""What float32 resolves near 1: errors of an output that was computed there, and is itself near 0, say nothing.

A sigmoid far from its bend, 1 − p, 1 − cos, a tanh made of a sigmoid: each is the difference of two numbers near 1, and
those lie 2⁻²⁴ or more apart. ONNX Runtime computes a sigmoid as p/q + ½, with an absolute error of 1.2e-7: of a text
detector's map on pictures without text, 1e-6 everywhere, that is a tenth, in an engine that is right. PyTorch's and
OpenVINO's are exact there, so neither the graph nor the operator tells which it is; the numbers do:

    an array was computed near 1 where each of its values is a multiple of `GRID`, and `FEWEST` of those below ¼ have
    more digits than float16 (of which small numbers lie on such a grid by themselves, as those of 8 bits do)

Numbers that are small by their unit (an ampere's billionths, a mass fraction) fill all of float32's digits, and one in
a thousand is such a multiple. So of an output, or of a part of one,

    where |r| ≤ 1 for all of the reference r, and r or the answer y was computed near 1 (or r is 0 throughout),
    errors of at most `RESOLUTION` do not count.

A part of zeros and of too few digits to tell is taken for computed near 1 where another part of its answer was: an
engine gives 0 for a sigmoid of −20. An answer of zeros alone tells nothing, and excuses nothing. Scores of 1e-3 that
are gone are an error two thousand times that large; nor is there such a floor for coarser formats (2⁻¹⁰ near 1 in
float16): that would hide such scores, and what was not seen above it was not shown.

In any output of up to 32 bits an error of at most 2⁻¹²⁶ is none, as most engines flush what is smaller to 0; nor are,
of an output in float16, two of the steps that its smallest numbers are apart.

Memory: eight numbers a part. Device floor: the standard library and numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

GRID = 2.0**-25
"""Half of float32's step below 1: ½·(1 + tanh) and p/q + ½ end on it."""
SMALL = 0.25
"""From here on each float32 is a multiple of `GRID` anyway."""
RESOLUTION = 4 * 2.0**-23
"""Four of float32's steps at 1: that of either side, and those of what led there."""
FEWEST = 8
"""As many values as a part must have to be told apart."""
FLUSHED = 2.0**-126
HALF_STEPS = 2 * 2.0**-24


def least_error(dtype: np.dtype[np.generic]) -> float:
    """Errors of an output of that type that are no larger than this are none, whatever its values."""
    if dtype == np.float16:
        return HALF_STEPS
    return 0.0 if dtype in (np.float64, np.complex128) else FLUSHED


class Marks:
    """What one sample tells, element by element.

    Args:
        reference: any shape; 0 where it does not count.
        answer: of that shape; 0 where it does not count.
        squared: the errors' squares; of that shape.
        grown: whether there are enough digits already.
    """

    def __init__(self, reference: Numbers, answer: Numbers, squared: Numbers, *, grown: bool) -> None:
        self.large = np.abs(reference) > 1.0
        self.nonzero = reference != 0.0
        self.off_grid = [_off_grid(values) for values in (reference, answer)]
        self.fine = None if grown else [_fine(values) for values in (reference, answer)]
        self.beyond = np.where(squared > RESOLUTION**2, squared, 0.0)


def _off_grid(values: Numbers) -> Flags:
    steps = values * (1.0 / GRID)
    return np.asarray(steps != np.rint(steps))


def _fine(values: Numbers) -> Flags:
    """Small ones with more digits than float16."""
    small = np.where(np.abs(values) < SMALL, values, 0.0)
    return np.asarray(small.astype(np.float16) != small)


class Resolution:
    """Adds up what tells, for each of some parts, and the errors that are left.

    Args:
        length: the number of parts.
    """

    def __init__(self, length: int) -> None:
        self.beyond = np.zeros(length)  # Σ of the squared errors above `RESOLUTION`
        self._bounded = np.ones(length, bool)  # |r| ≤ 1 so far
        self._zero = np.ones(length, bool)  # r = 0 so far
        self._on_grid = np.ones((2, length), bool)  # the reference's, the answer's
        self._fine = np.zeros((2, length))

    @property
    def possible(self) -> bool:
        """Whether `holds` can still be true for a part."""
        return bool((self._zero | (self._bounded & self._on_grid.any(axis=0))).any())

    @property
    def grown(self) -> bool:
        """Whether every part that can still hold has shown its digits."""
        return bool((self._fine >= FEWEST)[self._on_grid & self._bounded].all())

    def add(self, marks: Marks, others: tuple[int, ...] | None) -> None:
        """One sample; ``others``: the axes to sum over; None: all, into the only part."""
        if not self.possible:
            return
        self._bounded &= ~marks.large.any(axis=others)
        self._zero &= ~marks.nonzero.any(axis=others)
        for side in (0, 1):
            self._on_grid[side] &= ~marks.off_grid[side].any(axis=others)
            if marks.fine is not None:
                self._fine[side] += np.count_nonzero(marks.fine[side], axis=others)
        self.beyond += marks.beyond.sum(axis=others)

    def holds(self) -> Flags:
        """For which parts, [length], only the errors in ``beyond`` count."""
        found = self._zero.copy()
        for on_grid, fine in zip(self._on_grid, self._fine, strict=True):
            plain = self._bounded & on_grid
            shown = plain & (fine >= FEWEST)
            found |= plain if shown.any() else shown
        return found

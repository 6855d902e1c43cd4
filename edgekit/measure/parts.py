"""The worst part of an output: what a ratio over the whole tensor does not see.

A detector's one output holds boxes in pixels and scores in 0 to 1. With all scores gone it is still within 29 dB of
the reference, as the pixels hold nearly all of the energy; and a regression that answers 101,325 ± 400 is within 36
dB when it answers 101,325 to everything. So each index of an axis that has a meaning is a *part*, judged by itself,
and against what varies in it. With r the reference and y the answer, over the n values of part i (all samples, all
other axes):

    σᵢ² = mean (r − mean r)²        what the part tells
    eᵢ² = mean (y − r)²             what is wrong with it
    dBᵢ = 10 · log10( sᵢ² / eᵢ² )   where sᵢ is σᵢ, but never less than the floors below
    part_db = min dBᵢ over the parts of these axes, and over the whole output, centred, as one more part

Columns, channels and classes have a meaning; rows of pixels, anchors and time steps are positions, where a blank
one would be held against nothing. The meaning is where the means differ most: of all axes but the batch (of a
picture, the second and the last), the one with the largest variance of its indices' means, less what chance gives
them, mean σᵢ²/nᵢ; a channel that is alone has it all. Every axis of at most `FEW` indices is judged beside it.

Not every small number matters, and a check that refuses what is right is switched off. Hence the floors of sᵢ:

- **Siblings**, κ·Uᵢ, where Uᵢ is the largest σ within `SIBLINGS` times of σᵢ. Classes, channels and features of one
  unit differ in how much they vary; an error that is small beside what its siblings tell is small. Parts further
  apart share no unit: at a ratio of `SIBLINGS`, a scale of 8 bits for both leaves the smaller one about eight
  steps.
- **Stragglers**, κ times the σ that 1 in `STRAGGLERS` parts stays below. Of hundreds of features a few are all but
  dead. Where there are fewer than `STRAGGLERS` parts, each is one that somebody named.
- **Probabilities**, `PROBABILITY_STEP`, for parts that lie within 0 to 1 where one of these gets to 0.5: a class
  that no sample shows has scores of 1e-5, and nobody reads their sixth digit.
- **Log-probabilities**, whose exponentials add up to 1 along the axis: as probabilities, where one gets to log ½. An
  error of 1/255 in log p is at most one of 1/255 in p; the class that always wins has −1e-7 ± 1e-7.
- **Constant parts** tell nothing: they are held against their own size, or κ times the median σ of the others.

Errors within `ROUNDING` of a part's own size are float32's own and do not count, nor do those that float32 cannot
resolve near 1, where the part was computed there (`resolution`). And a variance of few values is
itself uncertain, so σᵢ² and eᵢ² are averaged with those of the siblings as if these were `PRIOR` values more
(shrinkage, as of James and Stein); parts of fewer than `FEWEST` values are not told apart at all.

The constants were chosen by `benchmarks/parts.py`, which runs right and damaged candidates of real models past
this. Memory: some numbers a part, whatever the number of samples. Device floor: the standard library and numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .resolution import Marks, Resolution

Numbers = NDArray[np.float64]

SIBLINGS = 30.0
STRAGGLERS = 32
KAPPA = 0.1
PROBABILITY_STEP = 1 / 255
"""One step of 8 bits over 0 to 1."""
LOG_SLACK = 0.01
"""How far the sum of a reference's probabilities may be from 1: it may be rounded to bfloat16."""
ROUNDING = 8 * 2.0**-24
"""Eight roundings of float32."""
PRIOR = 16
FEWEST = 8
FEW = 8
LARGEST_AXIS = 2**17
"""Longer axes are positions (samples of a sound), and five numbers each would be many."""
TOGETHER_DB = 6.0
"""Neighbours of the worst part that are this near to it are named with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The worst part of an output.

    Args:
        index: ``[:, 4:8]``; '' for the whole output, centred.
        sqnr_db: dB of the worst index in it, as the module says; ∞ where all is equal.
    """

    index: str
    sqnr_db: float


class PartSums:
    """Adds up one output's samples by their parts: arrays of one rank; an axis whose length changes drops out."""

    def __init__(self) -> None:
        self._axes: dict[int, _Axis] | None = None
        self._whole = _Axis(1)
        self._rank = 0
        self._log_axes: set[int] = set()  # along which the reference holds log-probabilities, so far

    def add(self, reference: Numbers, answer: Numbers, error: Numbers, counts: NDArray[np.bool_]) -> None:
        """One sample.

        Args:
            reference: any shape, finite where it counts.
            answer: of that shape.
            error: answer − reference, or 0 where that is none; of that shape.
            counts: which elements do; of that shape.
        """
        if not counts.all():
            reference, error, answer = (np.where(counts, values, 0.0) for values in (reference, error, answer))
        if self._axes is None:
            self._rank = reference.ndim
            first = 0 if reference.ndim == 1 else 1  # a lone axis may be anything; of several the first is the batch
            lengths = enumerate(reference.shape[first:], start=first)
            self._axes = {axis: _Axis(length) for axis, length in lengths if 0 < length <= LARGEST_AXIS}
            self._log_axes = {axis for axis, sums in self._axes.items() if sums.length > 1}
        if reference.ndim != self._rank:
            self._axes = {}
        self._axes = {a: sums for a, sums in self._axes.items() if reference.shape[a] == sums.length}
        squared = np.square(error)
        self._log_axes = _log_probabilities(reference, counts, self._log_axes & self._axes.keys())
        others = {axis: tuple(a for a in range(self._rank) if a != axis) for axis in self._axes}
        self._whole.add(reference.reshape(1, -1), squared.reshape(1, -1), counts.reshape(1, -1), others=(1,))
        for axis, sums in self._axes.items():
            sums.add(reference, squared, counts, others=others[axis])
        resolutions = [item.resolution for item in (self._whole, *self._axes.values()) if item.resolution.possible]
        if resolutions:
            marks = Marks(reference, answer, squared, grown=all(item.grown for item in resolutions))
            self._whole.resolution.add(marks, None)
            for axis, sums in self._axes.items():
                sums.resolution.add(marks, others[axis])

    def whole_noise(self) -> float | None:
        """Σ (y − r)² of the errors that float32 can resolve, where the whole was computed near 1; None: it was not."""
        resolution = self._whole.resolution
        return float(resolution.beyond[0]) if resolution.holds()[0] else None

    def worst(self) -> Part | None:
        """Of all added so far; None: too few values to tell."""
        found = []
        if (whole := self._whole.decibels()) is not None:
            found.append(Part("", float(whole[0])))
        axes = self._axes or {}
        telling = self._telling(axes)
        for axis, sums in axes.items():
            if axis != telling and sums.length > FEW:
                continue
            if (each := sums.decibels(axis in self._log_axes)) is not None:
                found.append(Part(_named(each, axis, self._rank), float(each.min())))
        # The first of equals: the whole says as much with fewer words.
        return min(found, key=lambda part: part.sqnr_db, default=None)

    def _telling(self, axes: dict[int, _Axis]) -> int | None:
        """The axis that has a meaning; None: there is none."""
        channels = axes.keys() & ({1, self._rank - 1} if self._rank > 3 else axes.keys())
        if self._rank > 2:  # a lone channel has the meaning, and its rows or steps have none
            lone = {1, self._rank - 1} if self._rank > 3 else {2}
            if single := [axis for axis in channels & lone if axes[axis].length == 1]:
                return single[0]
        return max(sorted(channels), key=lambda axis: axes[axis].between(), default=None)


def _log_probabilities(reference: Numbers, counts: NDArray[np.bool_], axes: set[int]) -> set[int]:
    """Those of the axes along which the exponentials add up to 1 everywhere."""
    if not axes or not reference.size:
        return axes
    if reference.max() > ROUNDING:
        return set()
    powers = np.where(counts, np.exp(reference), 0.0)
    return {axis for axis in axes if np.abs(powers.sum(axis=axis) - 1.0).max(initial=0.0) <= LOG_SLACK}


def _named(each: Numbers, axis: int, rank: int) -> str:
    """Numpy's index of the worst part, with its neighbours that are about as bad; '' where that is all of them."""
    worst = int(each.argmin())
    near = each <= each[worst] + TOGETHER_DB
    start, stop = worst, worst + 1
    while start > 0 and near[start - 1]:
        start -= 1
    while stop < len(each) and near[stop]:
        stop += 1
    if stop - start == len(each):
        return ""
    one = str(start) if stop - start == 1 else f"{start}:{stop}"
    after = ", ..." if axis < rank - 1 else ""
    return f"[{':, ' * axis}{one}{after}]" if axis < 3 else f"[..., {one}{', :' * (rank - 1 - axis)}]"


class _Axis:
    """The sums of each index of one axis."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.n = np.zeros(length)
        self.shift: Numbers | None = None  # near the mean, so that squares do not cancel
        self.linear, self.square, self.error = np.zeros(length), np.zeros(length), np.zeros(length)
        self.low, self.high = np.full(length, math.inf), np.full(length, -math.inf)
        self.resolution = Resolution(length)

    def add(self, reference: Numbers, error: Numbers, counts: NDArray[np.bool_], *, others: tuple[int, ...]) -> None:
        """``error``: squared. ``others``: the axes to sum over."""
        n = counts.sum(axis=others)
        if self.shift is None:
            self.shift = reference.sum(axis=others) / np.maximum(n, 1)
        kept = tuple(1 if a in others else self.length for a in range(reference.ndim))
        shifted = np.where(counts, reference - self.shift.reshape(kept), 0.0)
        self.n += n
        self.linear += shifted.sum(axis=others)
        self.square += np.square(shifted).sum(axis=others)
        self.error += error.sum(axis=others)
        shifted = shifted + self.shift.reshape(kept)
        self.low = np.minimum(self.low, shifted.min(axis=others, initial=math.inf))
        self.high = np.maximum(self.high, shifted.max(axis=others, initial=-math.inf))

    def between(self) -> float:
        """The variance of the indices' means, less what chance gives them."""
        if self.n.min() < 1 or self.shift is None:
            return 0.0
        mean = self.linear / self.n
        variance = np.maximum(self.square / self.n - np.square(mean), 0.0)
        return float(np.var(mean + self.shift) - np.mean(variance / self.n))

    def decibels(self, log_probabilities: bool = False) -> Numbers | None:
        """DB of each part, [length]; None: too few values."""
        if self.n.min() < FEWEST or self.shift is None:
            return None
        mean = self.linear / self.n
        variance = np.maximum(self.square / self.n - np.square(mean), 0.0)
        size = np.sqrt(np.square(mean + self.shift) + variance)
        error = np.where(self.resolution.holds(), self.resolution.beyond, self.error) / self.n
        sigma = np.sqrt(variance)
        constant = sigma <= ROUNDING * size
        sigma[constant] = 0.0
        probable = (self.low >= 0.0) & (self.high <= 1.0) & ~constant
        half = 0.5
        if log_probabilities:
            probable, half = ~constant, math.log(0.5)
        if self.high[probable].max(initial=-math.inf) < half:
            probable[:] = False
        floors = _floors(sigma, constant, size, probable)
        variance, error = _shrunk(sigma, error, self.n, probable, constant)
        signal = np.maximum(variance, np.square(floors))
        noise = np.where(error <= np.square(ROUNDING * size), 0.0, error)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 10.0 * (np.log10(signal) - np.log10(noise))
        return np.asarray(np.where(noise == 0.0, math.inf, found), np.float64)


def _floors(sigma: Numbers, constant: NDArray[np.bool_], size: Numbers, probable: NDArray[np.bool_]) -> Numbers:
    """The least that each part's signal is taken to be, in the output's unit."""
    telling = np.sort(sigma[~constant])
    if not len(telling):
        return size
    siblings = telling[np.searchsorted(telling, SIBLINGS * sigma, side="right") - 1]
    stragglers = telling[(len(telling) - 1) // STRAGGLERS]
    floors: Numbers = KAPPA * np.maximum(siblings, stragglers)
    if probable.any():
        floors[probable] = np.maximum(floors[probable], PROBABILITY_STEP)
        floors[probable] = np.maximum(floors[probable], KAPPA * sigma[probable].max())
    floors[constant] = np.maximum(size[constant], KAPPA * float(np.median(telling)))
    return floors


def _shrunk(
    sigma: Numbers, error: Numbers, n: Numbers, probable: NDArray[np.bool_], constant: NDArray[np.bool_]
) -> tuple[Numbers, Numbers]:
    """Variance and squared error of each part, averaged with those of its siblings as if these were `PRIOR` values."""
    order = np.argsort(sigma, kind="stable")
    ranked = sigma[order]
    first = np.searchsorted(ranked, sigma / SIBLINGS, side="left")
    last = np.searchsorted(ranked, sigma * SIBLINGS, side="right")
    own = n / (n + PRIOR)
    shrunk = []
    for values in (np.square(sigma), error):
        running = np.concatenate([[0.0], np.cumsum(values[order])])
        siblings = (running[last] - running[first]) / (last - first)
        if probable.any():
            siblings[probable] = values[probable].mean()
        shrunk.append(np.where(constant, values, own * values + (1.0 - own) * siblings))
    return shrunk[0], shrunk[1]

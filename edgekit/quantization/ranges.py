"""From the distribution of a tensor's values to the range that its integers cover.

All methods see a `Histogram` of fixed bins, so a value is known to within one bin: 1/8192 of the tensor's full range,
which is 1/32 of an 8-bit step over that range. Every range that is returned holds 0, which must be exactly
representable (zero padding, the zeros of a Relu).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Method: TypeAlias = Literal["minmax", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse", "entropy")
BINS = 8192
_MERGED = 4  # bins that entropy takes for one: 2048 are left
_CHUNK = 1 << 20  # values counted at a time: bounds the temporaries

# How much of the full range a search tries to keep. Geometric: an outlier can be a hundred times the rest.
_FRACTIONS: NDArray[np.float64] = np.geomspace(1.0, 0.02, 48)


@dataclass(slots=True)
class Histogram:
    """Counts of values in ``BINS`` equal bins from ``low`` to ``high``, which are the exact minimum and maximum."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, low: float, high: float) -> Histogram:
        """No values yet, all of which will lie within ``low`` and ``high``."""
        return cls(low, high, np.zeros(BINS, np.int64))

    def add(self, values: NDArray[Any]) -> None:
        """Count ``values``, an array of any shape."""
        flat = values.reshape(-1)
        width = self.high - self.low
        # Below the smallest width that float32 can divide by, all values are one.
        scale = np.float32(BINS / width) if width > 1e-30 else np.float32(0)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            index = np.clip((part - np.float32(self.low)) * scale, 0, BINS - 1).astype(np.int32)
            self.counts += np.bincount(index, minlength=BINS)

    def centers(self) -> NDArray[np.float64]:
        """The value that stands for each bin."""
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * ((self.high - self.low) / BINS), np.float64)


def choose(histogram: Histogram, method: Method, levels: int = 256, percentile: float = 99.999) -> tuple[float, float]:
    """The range ``(low, high)``, with ``low <= 0 <= high``, that ``levels`` integers should cover.

    - ``minmax``: every value that was seen.
    - ``percentile``: cuts ``100 - percentile`` % of the values at each end.
    - ``mse``: least mean squared error of quantizing and dequantizing.
    - ``entropy``: least Kullback–Leibler divergence between the distribution and its quantized form (Migacz, "8-bit
      inference with TensorRT", 2017), both ends scaled together.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if method == "minmax" or not low < high or not histogram.counts.any():
        return low, high
    if method == "percentile":
        return _percentile(histogram, percentile)
    if method == "entropy":
        # Coarser bins, as in the paper: in fine ones a small sample is mostly noise, which would count as information.
        counts = histogram.counts.reshape(-1, _MERGED).sum(axis=1).astype(np.float64)
        values = histogram.centers().reshape(-1, _MERGED).mean(axis=1)
        # Zeros are exact whatever the range is: what a Relu piles up there must not decide.
        zero = int(np.argmin(np.abs(values)))
        beside = counts[max(zero - 1, 0) : zero + 2 : 2] if zero else counts[1:2]
        counts[zero] = min(counts[zero], beside.max())
        return _least_divergence(values[counts > 0], counts[counts > 0], low, high, levels)
    seen = histogram.counts > 0
    return _least_mse(histogram.centers()[seen], histogram.counts[seen].astype(np.float64), low, high, levels)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    below = np.cumsum(histogram.counts)
    cut = below[-1] * (1 - percentile / 100)
    centers = histogram.centers()
    # The outermost bins that hold more than the cut; a value there stands for its bin, at most one bin from the truth.
    low = float(centers[np.searchsorted(below, cut, side="right")])
    high = float(centers[np.searchsorted(below, below[-1] - cut, side="left")])
    # Nothing to cut on a side means its exact end.
    first, last = np.flatnonzero(histogram.counts)[[0, -1]]
    low = histogram.low if low <= centers[first] else low
    high = histogram.high if high >= centers[last] else high
    return min(low, 0.0), max(high, 0.0)


def _least_mse(
    values: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float, levels: int
) -> tuple[float, float]:
    """Search one end at a time, twice: the ends hardly depend on each other."""
    best_low, best_high = low, high
    for _ in range(2):
        if high > 0:
            highs = high * _FRACTIONS
            best_high = float(highs[np.argmin([_squared_error(values, counts, best_low, h, levels) for h in highs])])
        if low < 0:
            lows = low * _FRACTIONS
            best_low = float(lows[np.argmin([_squared_error(values, counts, x, best_high, levels) for x in lows])])
        if low == 0 or high == 0:
            break
    return best_low, best_high


def _squared_error(
    values: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float, levels: int
) -> float:
    step = (high - low) / (levels - 1)
    zero = np.round(-low / step)
    integers = np.clip(np.round(values / step) + zero, 0, levels - 1)
    return float(counts @ np.square((integers - zero) * step - values))


def _least_divergence(
    values: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float, levels: int
) -> tuple[float, float]:
    """Minimise KL(P ‖ Q) over the clipped ranges.

    P is the distribution with what lies outside moved to the ends. Q is what ``levels`` integers can tell of what lies
    inside: within one integer's bins the mass is spread evenly over the bins that hold anything.
    """
    total = counts.sum()
    best, chosen = np.inf, (low, high)
    for fraction in _FRACTIONS:
        bottom, top = low * fraction, high * fraction
        inside = (values >= bottom) & (values <= top)
        if inside.sum() < 2:
            break
        kept = counts[inside]
        reference = kept.copy()
        reference[0] += counts[values < bottom].sum()
        reference[-1] += counts[values > top].sum()
        level = np.minimum(((values[inside] - bottom) * (levels / (top - bottom))).astype(np.int64), levels - 1)
        mass, width = np.bincount(level, kept, levels), np.bincount(level, minlength=levels)
        quantized = (mass / np.maximum(width, 1))[level]
        reference, quantized = reference / total, quantized / quantized.sum()
        divergence = float(np.sum(reference * np.log(reference / quantized)))
        if divergence < best:
            best, chosen = divergence, (float(bottom), float(top))
    return chosen

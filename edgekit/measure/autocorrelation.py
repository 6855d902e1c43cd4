"""How much correlated samples are worth: n of them as much as n / τ independent ones, τ the autocorrelation time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .distributions import student_t_quantile

_WINDOW = 5.0
"""Sokal's c: the sum of autocorrelations stops at the first lag that is so many autocorrelation times away."""
_BATCHES = (20, 50)
"""Batch means look at so many pieces: at correlation too weak to be seen lag by lag, and too long to be small."""
_SEEN = 1.645
"""Standard errors by which a batch estimate must exceed what independent samples give before it counts (5 %)."""


def autocorrelation_time(groups: Sequence[NDArray[np.float64]]) -> float:
    """An upper estimate of the integrated autocorrelation time τ = 1 + 2·Σ ρ_k, in samples; at least 1.

    The larger of the lag-by-lag and the batch-mean estimates below, each raised by its own uncertainty: an effective
    sample size that is too large would make intervals too narrow. Samples in which no correlation is seen count as
    independent: exactly 1.

    Args:
        groups: series in the order in which they were taken (one a process), each of shape [n_i], each centred on its
            own mean: what differs between processes is not correlation in time.
    """
    centred = [group - group.mean() for group in groups]
    if sum(float(group @ group) for group in centred) <= 1e-12:  # all alike: nothing to correlate
        return 1.0
    return max(_by_lags(centred), *(_by_batches(centred, count) for count in _BATCHES))


def _by_lags(centred: Sequence[NDArray[np.float64]]) -> float:
    """τ(M) at the smallest lag M >= c·τ(M), plus one standard error τ·√(2·(2·M + 1)/n).

    Source: Sokal, "Monte Carlo Methods in Statistical Mechanics" (1997), section 3; Madras and Sokal, J. Stat. Phys. 50
    (1988), equations C.20 and C.21.
    """
    longest, n = max(group.size for group in centred), sum(group.size for group in centred)
    size = 1 << (2 * longest - 1).bit_length()  # zero padding: no wrapping around
    power = np.zeros(size // 2 + 1)
    for group in centred:
        power += np.abs(np.fft.rfft(group, size)) ** 2
    covariance = np.fft.irfft(power, size)[:longest]
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    reached = np.nonzero(np.arange(longest) >= _WINDOW * times)[0]
    window = int(reached[0]) if reached.size else longest - 1
    time = float(times[window])
    error = math.sqrt(2 * (2 * window + 1) / n)
    return time * (1 + error) if time > 1 + _SEEN * error else 1.0


def _by_batches(centred: Sequence[NDArray[np.float64]], count: int) -> float:
    """τ = b·Var(batch mean) / Var(sample), from ``count`` batches of b samples in all, where that is beyond chance.

    The variance of ``count`` means has the relative standard error √(2/df). It enters an interval with Student's
    quantile in the normal one's place, which is to raise it by (t/z)².

    Source: Flegal and Jones, "Batch means and spectral variance estimators in MCMC", Ann. Statist. 38 (2010).
    """
    n = sum(group.size for group in centred)
    length = n // count
    if length < 2:
        return 1.0
    means = [
        group[: group.size // length * length].reshape(-1, length).mean(axis=1)
        for group in centred
        if group.size >= length
    ]
    # Each process's mean is known to be 0 here, which costs one degree of freedom a process.
    degrees = sum(item.size for item in means) - len(means)
    if degrees < 2:
        return 1.0
    variance = sum(float(group @ group) for group in centred) / n
    time = length * sum(float(item @ item) for item in means) / degrees / variance
    if time <= 1 + _SEEN * math.sqrt(2 / degrees):
        return 1.0
    return float(time * (student_t_quantile(0.975, degrees) / student_t_quantile(0.975, 1e6)) ** 2)

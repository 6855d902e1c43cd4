"""MLPerf LoadGen's early stopping: how many queries a percentile needs, and the bound that may then be stated.

It assumes independent samples. On an AR(1) series with ρ = 0.9 its 0.99 bound covers the true p90 in 0.77 of runs only;
`statistics` states intervals that hold there, and takes from here the number of *effective* samples that it needs.

Source: MLPerf Inference policies, "early stopping"; github.com/mlcommons/inference, loadgen/early_stopping.cc.
"""

from __future__ import annotations

from functools import lru_cache

from .distributions import incomplete_beta

CONFIDENCE = 0.99
"""LoadGen's."""


@lru_cache(maxsize=16_384)
def queries_under(t: int, q: float, confidence: float = CONFIDENCE, tolerance: float = 0.0) -> int:
    """The fewest queries h that must meet a latency, for ``t`` that exceed it, to state it as percentile ``q``.

    The smallest h with I_{q−d}(h, t + 1) <= 1 − c, d: the tolerance, c: the confidence.
    """
    if not (t >= 0 and 0 < q - tolerance < 1 and 0 < confidence < 1):
        raise ValueError(f"`t >= 0, 0 < q - d < 1, 0 < c < 1` must hold, got t={t}, q={q}, d={tolerance}")
    limit, share = 1 - confidence, q - tolerance
    low, high = 1, 2
    while incomplete_beta(high, t + 1, share) > limit:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if incomplete_beta(middle, t + 1, share) <= limit else (middle + 1, high)
    return low


def minimum_samples(q: float, confidence: float = CONFIDENCE) -> int:
    """The fewest independent samples from which percentile ``q`` is stated: h(1) + 1, 11 for p50, 64, 662 for p99."""
    return queries_under(1, q, confidence) + 1

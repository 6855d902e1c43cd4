from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from edgekit.measure.autocorrelation import autocorrelation_time


def ar1(rho: float, n: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    series: np.ndarray[tuple[int], np.dtype[np.float64]] = lfilter(
        [1], [1, -rho], np.random.default_rng(seed).standard_normal(n)
    )
    return series


def test_independent_samples_are_worth_what_they_are() -> None:
    times = [autocorrelation_time([np.random.default_rng(seed).standard_normal(5000)]) for seed in range(40)]
    assert np.median(times) == 1.0
    assert max(times) < 2.5


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_a_known_autocorrelation_time(rho: float) -> None:
    """AR(1): τ = (1 + ρ)/(1 − ρ). An upper estimate: seldom below, not far above."""
    true = (1 + rho) / (1 - rho)
    ratios = [autocorrelation_time([ar1(rho, 50_000, seed)]) / true for seed in range(20)]
    assert 0.95 < np.median(ratios) < 1.6
    assert min(ratios) > 0.7


def test_weak_correlation_over_long_times_is_seen() -> None:
    """ρ_k = 0.05·0.99^k is lost in the noise lag by lag, yet τ = 1 + 2·Σ ρ_k is 11."""
    random = np.random.default_rng(3)
    slow = lfilter([1], [1, -0.99], random.standard_normal(40_000)) * np.sqrt(1 - 0.99**2)
    series = np.sqrt(0.05) * slow + np.sqrt(0.95) * random.standard_normal(40_000)
    assert autocorrelation_time([series]) > 4


def test_differences_between_processes_are_no_correlation() -> None:
    groups = [np.random.default_rng(seed).standard_normal(2000) + 100 * seed for seed in range(5)]
    assert autocorrelation_time(groups) < 2


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_samples_that_are_all_alike(n: int) -> None:
    assert autocorrelation_time([np.ones(n), np.ones(n)]) == 1.0


def test_a_series_in_two_halves_is_worth_little() -> None:
    assert autocorrelation_time([np.repeat([0.0, 1.0], 500)]) > 100

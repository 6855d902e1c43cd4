"""The few distributions that intervals are made of: Student's t and the binomial, from one incomplete beta function.

Device floor, so without scipy; the tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

_TERMS = 10_000
_TINY = 1e-300
_EPSILON = 1e-15


@lru_cache(maxsize=65_536)
def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a, b > 0 and 0 <= x <= 1.

    Source: NIST DLMF 8.17.22, the continued fraction, evaluated by Lentz's method as modified by Thompson and Barnett
    (Press et al., "Numerical Recipes", section 6.4); I_x(a, b) = 1 − I_{1−x}(b, a) where that converges faster.
    """
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise ValueError(f"`a > 0, b > 0, 0 <= x <= 1` must hold, got a={a}, b={b}, x={x}")
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_fraction(b, a, 1 - x)
    return _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1 / _away_from_zero(1 + coefficient * d)
            c = _away_from_zero(1 + coefficient / c)
            value *= c * d
        if abs(c * d - 1) < _EPSILON:
            return math.exp(front) * value / a
    raise ArithmeticError(f"I_{x}({a}, {b}) did not converge")  # pragma: no cover - for a, b beyond any number of runs


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@lru_cache(maxsize=4096)
def student_t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T <= t) = probability, T of Student's distribution with ``degrees`` > 0 degrees of freedom.

    P(|T| > t) = I_x(ν/2, 1/2) at x = ν/(ν + t²) (DLMF 8.17; Abramowitz and Stegun 26.7.1), solved by bisection.
    """
    if not (0 < probability < 1 and degrees > 0):
        raise ValueError(f"`0 < p < 1, degrees > 0` must hold, got p={probability}, degrees={degrees}")
    if probability < 0.5:
        return -student_t_quantile(1 - probability, degrees)
    tails = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while _two_tails(high, degrees) > tails:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _two_tails(middle, degrees) > tails else (low, middle)
    return (low + high) / 2


def _two_tails(t: float, degrees: float) -> float:
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def binomial_at_least(k: int, n: int, q: float) -> float:
    """P(X >= k) for X ~ Binomial(n, q): I_q(k, n − k + 1) (DLMF 8.17.5)."""
    if k <= 0:
        return 1.0
    return 0.0 if k > n else incomplete_beta(k, n - k + 1, q)


@lru_cache(maxsize=65_536)
def percentile_ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """Ranks (lower, upper), from 1 to n, of the order statistics between which the q-quantile lies.

    Of n independent samples, the number that do not exceed the true quantile is Binomial(n, q), so that
    P(X_(lower) <= x_q <= X_(upper)) >= confidence without any assumption about the shape. None where n is too small.

    Source: David and Nagaraja, "Order Statistics" (2003), section 7.1; Hahn and Meeker, "Statistical Intervals"
    (1991), section 5.2.
    """
    tail = (1 - confidence) / 2
    lower = _first(lambda k: binomial_at_least(k, n, q) < 1 - tail, 0, n + 1) - 1
    upper = _first(lambda k: binomial_at_least(k, n, q) <= tail, 0, n + 1)
    return None if lower < 1 or upper > n else (lower, upper)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest of low..high for which ``holds``, which stays true once it is (and is taken to be at ``high``)."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low

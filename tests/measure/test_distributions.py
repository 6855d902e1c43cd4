from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from edgekit.measure.distributions import binomial_at_least, incomplete_beta, percentile_ranks, student_t_quantile

POSITIVE = st.floats(0.05, 20_000)


@settings(max_examples=300, deadline=None)
@given(POSITIVE, POSITIVE, st.floats(0, 1))
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("a", "b", "x"), [(0, 1, 0.5), (1, -1, 0.5), (1, 1, 1.5), (1, 1, float("nan"))])
def test_incomplete_beta_is_not_defined_there(a: float, b: float, x: float) -> None:
    with pytest.raises(ValueError, match="`a > 0, b > 0, 0 <= x <= 1` must hold"):
        incomplete_beta(a, b, x)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(1, 1e5))
def test_student_quantile_is_scipys(probability: float, degrees: float) -> None:
    assert student_t_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-6, abs=1e-6
    )


def test_student_quantile_of_the_tables() -> None:
    assert [round(student_t_quantile(0.975, df), 3) for df in (1, 2, 4, 30)] == [12.706, 4.303, 2.776, 2.042]


@pytest.mark.parametrize(("p", "df"), [(0.0, 1), (1.0, 1), (0.5, 0)])
def test_student_quantile_is_not_defined_there(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="`0 < p < 1, degrees > 0` must hold"):
        student_t_quantile(p, df)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.floats(0.01, 0.99), st.data())
def test_binomial_is_scipys(n: int, q: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(-1, n + 1))
    assert binomial_at_least(k, n, q) == pytest.approx(stats.binom.sf(k - 1, n, q), rel=1e-8, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.99]), st.sampled_from([0.9, 0.95, 0.99]))
def test_percentile_ranks_are_the_closest_that_hold(n: int, q: float, confidence: float) -> None:
    ranks, tail = percentile_ranks(n, q, confidence), (1 - confidence) / 2
    below = stats.binom(n, q)
    if ranks is None:
        assert below.cdf(0) > tail or below.sf(n - 1) > tail
        return
    lower, upper = ranks
    assert below.cdf(lower - 1) <= tail + 1e-12 and below.sf(upper - 1) <= tail + 1e-12
    assert below.cdf(lower) > tail - 1e-12 and below.sf(upper - 2) > tail - 1e-12


def test_percentile_ranks_of_the_tables() -> None:
    # Hahn and Meeker (1991), table A.15 has (2, 10) for n = 11, p = 0.5 at 95 %.
    assert percentile_ranks(11, 0.5, 0.95) == (2, 10)
    assert percentile_ranks(5, 0.5, 0.95) is None

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from edgekit.measure.early_stopping import minimum_samples, queries_under


@pytest.mark.parametrize(("q", "n"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)])
def test_minimum_samples_are_loadgens(q: float, n: int) -> None:
    # Published by MLPerf and obtained from LoadGen's own early_stopping.cc.
    assert minimum_samples(q) == n


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.9, 0.99]))
def test_queries_under_is_the_smallest_that_holds(t: int, q: float, confidence: float) -> None:
    h = queries_under(t, q, confidence)
    assert betainc(h, t + 1, q) <= 1 - confidence + 1e-12
    assert h == 1 or betainc(h - 1, t + 1, q) > 1 - confidence - 1e-12

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.measure.probe import Speed, change, from_json, middle, probe

TIMES = st.floats(1e-7, 1e-1)
SPEEDS = st.builds(Speed, TIMES, TIMES, TIMES)


@given(SPEEDS, SPEEDS)
def test_there_and_back_is_no_change(a: Speed, b: Speed) -> None:
    assert change(a, b) * change(b, a) == pytest.approx(1)


@given(SPEEDS, st.floats(0.1, 10))
def test_a_machine_that_is_slower_in_all_is_slower_by_that(a: Speed, factor: float) -> None:
    b = Speed(a.integer_s * factor, a.float_s * factor, a.memory_s * factor)
    assert change(a, b) == pytest.approx(factor)


def test_it_is_short_and_comes_back_from_json() -> None:
    start = time.perf_counter()
    found = probe(0.03)
    assert time.perf_counter() - start < 2.0
    assert from_json(found.to_json()) == found
    assert min(found.to_json().values()) > 0
    assert middle([found, Speed(9, 9, 9), Speed(1e-9, 1e-9, 1e-9)]) == found


@pytest.mark.parametrize("odd", [None, 3, {}, {"integer_s": 1}, {**Speed(1, 1, 1).to_json(), "float_s": 0}])
def test_what_is_no_speed(odd: object) -> None:
    assert from_json(odd) is None

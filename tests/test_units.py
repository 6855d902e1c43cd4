from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import units
from edgekit.measure.statistics import Estimate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.12e-4, "0.21 ms"),
        (0.0123, "12.3 ms"),
        (0.2, "0.20 s"),
        (1.5, "1.50 s"),
        (3.4e-5, "34.0 µs"),
        (9e-8, "90.0 ns"),
    ],
)
def test_latency(seconds: float, text: str) -> None:
    assert units.latency(seconds) == text


def test_interval_tells_the_larger_half_rounded_up() -> None:
    assert units.interval(Estimate(2.12e-4, 2.11e-4, 2.131e-4)) == "0.21 ms ±0.01"
    assert units.interval(Estimate(0.0100, 0.0095, 0.0101)) == "10.0 ms ±0.5"


def test_an_interval_that_is_not_known_is_not_told() -> None:
    nan = float("nan")
    assert units.interval(Estimate(0.0123, nan, nan)) == "12.3 ms"


def test_an_interval_wider_than_its_value_says_no_more_than_that() -> None:
    assert units.interval(Estimate(1.064e-5, 7e-8, 1.38e-3)) == "10.6 µs ±>100 %"
    assert units.interval(Estimate(1e-5, 1e-7, 1.9e-5)) == "10.0 µs ±9.9"
    assert units.ratio_interval(Estimate(0.91, 0.1, 6.0)) == "0.91x ±>100 %"
    assert units.ratio_interval(Estimate(0.91, 0.1, 1.0)) == "0.91x ±0.81"


@given(st.floats(1e-7, 1e3), st.floats(1e-4, 0.5))
def test_interval_is_never_told_smaller_than_it_is(value: float, share: float) -> None:
    text = units.interval(Estimate(value, value * (1 - share), value * (1 + share)))
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[text.split()[1]]
    assert float(text.split("±")[1]) * scale >= value * share * (1 - 1e-6)


@given(st.floats(1e-7, 1e3))
def test_a_latency_is_told_to_three_percent(value: float) -> None:
    number, unit = units.latency(value).split()
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert math.isclose(float(number) * scale, value, rel_tol=0.051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.42, "3.4 s"), (9.96, "10 s"), (48.2, "48 s"), (59.7, "1 min 00 s"), (125, "2 min 05 s"), (3780, "1 h 03 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12, "12 B"), (419_430, "0.42 MB"), (1_240_000, "1.24 MB"), (25_276_502_016, "25.3 GB"), (4_200, "4.2 kB")],
)
def test_size(value: int, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(58, "58"), (309_000, "309 k"), (41_200_000, "41.2 M"), (7.612e9, "7.61 G")]
)
def test_count(value: float, text: str) -> None:
    assert units.count(value) == text


def test_shares_are_percent_and_others_are_numbers() -> None:
    assert units.metric("top1", 0.98443) == "98.44 %"
    assert units.metric("top1:logits", 0.98443) == "98.44 %"
    assert units.metric("cosine", 0.99761) == "0.9976"
    assert units.metric("sqnr_db", 33.96) == "34.0 dB"


def test_decibels() -> None:
    assert units.decibels(33.6) == "34 dB"
    assert units.decibels(math.inf) == "exact"


def test_ratio() -> None:
    assert units.ratio(2.84) == "2.8x"
    assert units.ratio(1.034) == "1.03x"

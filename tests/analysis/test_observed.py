"""What the calibration data make of a graph: ranges, the samples they come from, what is odd."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.analysis.observed import Observed, TensorRange, observe
from edgekit.testing.passes import graph_of

TEXT = "(float[N] x) => (float[N] y) { a = Neg (x) b = Relu (a) y = Add (b, b) }"


def seen(samples: list[NDArray[np.float32]]) -> tuple[Observed, dict[str, TensorRange]]:
    found = observe(graph_of(TEXT), ({"x": sample} for sample in samples), [10 * i for i in range(len(samples))])
    return found, {item.tensor: item for item in found.tensors}


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 5), st.integers(1, 20_000), st.floats(-6, 6), st.integers(0, 2**31))
def test_ranges_are_exact_and_the_percentile_is_near(count: int, size: int, exponent: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [(random.standard_normal(size) * 10**exponent).astype(np.float32) for _ in range(count)]
    found, tensors = seen(samples)
    everything = np.concatenate(samples)
    item = tensors["x"]
    assert (item.low, item.high) == (everything.min(), everything.max())
    assert item.sample == 10 * max(range(count), key=lambda i: float(np.abs(samples[i]).max()))
    exact = np.sort(np.abs(everything))[int(np.ceil(0.999 * everything.size)) - 1]
    if size <= 4096:  # all of it comes out
        assert exact <= item.p999 * 1.0001 and item.p999 <= min(1.036 * exact, item.largest * 1.0001)
    assert tensors["b"].low == max(-everything.max(), 0.0) and found.samples == count


def test_one_value_that_takes_the_range_is_traced_to_the_first_tensor_and_its_sample() -> None:
    samples = [np.random.default_rng(i).standard_normal(5000).astype(np.float32) for i in range(20)]
    samples[3][7] = -1e30
    found, tensors = seen(samples)
    assert {item.tensor for item in found.outliers} <= tensors.keys() and found.source is not None
    assert (found.source.tensor, found.source.sample) == ("x", 30)
    assert found.warnings == [f"outliers: {tensors['x']}"]
    assert str(tensors["x"]).startswith("'x' reaches 1e+30 in sample 30, 99.9 % of its values 3.")


def test_a_sample_that_is_large_as_a_whole_is_an_outlier_too() -> None:
    """It is a twentieth of all values, so the 99.9th percentile lies within it."""
    samples = [np.random.default_rng(i).standard_normal(5000).astype(np.float32) for i in range(20)]
    samples[3] *= 1000
    found, tensors = seen(samples)
    assert tensors["x"].by_value < 2 and tensors["x"].by_sample > 500
    assert found.source is tensors["x"] and "a usual sample 3." in found.warnings[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named_and_does_not_hide_the_rest(value: float) -> None:
    samples = [np.linspace(-1, 1, 50, dtype=np.float32) for _ in range(20)]
    samples[4][3] = value
    found, tensors = seen(samples)
    assert found.warnings == ["'x' is not finite in sample 40"]
    assert (tensors["x"].low, tensors["x"].high, tensors["x"].not_finite) == (-1.0, 1.0, (40,))


def test_data_that_say_nothing() -> None:
    found, _ = seen([np.zeros(50, np.float32)])
    assert found.warnings == [
        "thin evidence: 50 % of further samples lie beyond the range of 1",
        "input 'x' is 0 in every sample",
    ]
    assert found.to_json()["constant"] == ["x", "a", "b", "y"]


def test_what_is_clipped_is_saturated() -> None:
    samples = [np.clip(np.random.default_rng(i).standard_normal(500), -1, 1).astype(np.float32) for i in range(20)]
    found, tensors = seen(samples)
    assert found.to_json()["saturated"] == ["x", "a", "b", "y"]
    assert tensors["x"].saturated == pytest.approx(0.16, abs=0.03)
    free, _ = seen([np.random.default_rng(i).standard_normal(500).astype(np.float32) for i in range(20)])
    assert free.to_json()["saturated"] == [] and free.warnings == []


def test_an_empty_tensor_has_no_range_and_is_no_oddity() -> None:
    found, tensors = seen([np.zeros(0, np.float32), np.array([1.0, -2.0], np.float32)] * 8)
    assert found.warnings == [] and (tensors["x"].low, tensors["x"].high) == (-2.0, 1.0)
    nothing, _ = seen([np.zeros(0, np.float32)] * 16)
    assert nothing.warnings == [] and nothing.not_finite is None

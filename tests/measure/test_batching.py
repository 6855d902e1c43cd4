"""Golden inputs become batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contracts import TensorSpec
from edgekit.errors import UsageError
from edgekit.measure.batching import batched

FREE = (TensorSpec("x", "float32", ("batch", 3)), TensorSpec("mask", "int64", ("batch", "length")))


def sample(value: float, length: int = 2, rows: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.full((rows, 3), value, np.float32), "mask": np.full((rows, length), int(value))}


@given(batch=st.integers(1, 9), count=st.integers(1, 5), rows=st.integers(1, 3))
def test_each_begins_with_its_own_sample_and_goes_on_in_rotation(batch: int, count: int, rows: int) -> None:
    feeds = batched([sample(float(i), rows=rows) for i in range(count)], FREE, batch)
    assert len(feeds) == count
    for start, item in enumerate(feeds):
        assert item["x"].shape == (batch, 3) and item["mask"].shape == (batch, 2)
        expected = [(start + row // rows) % count for row in range(batch)]
        assert item["x"][:, 0].tolist() == expected
        assert item["mask"][:, 0].tolist() == expected


def test_samples_of_unequal_length_are_repeated() -> None:
    feeds = batched([sample(0.0, length=2), sample(1.0, length=5)], FREE, 3)
    assert [item["mask"].shape for item in feeds] == [(3, 2), (3, 5)]
    assert (feeds[1]["x"] == 1).all()


def test_a_fixed_axis_is_told_with_the_way_out() -> None:
    fixed = (TensorSpec("x", "float32", (1, 3)),)
    with pytest.raises(UsageError, match=r"needs a free first axis, but input 'x float32 1x3' has none\. Export with "):
        batched([{"x": np.zeros((1, 3), np.float32)}], fixed, 4)


def test_no_batch() -> None:
    with pytest.raises(UsageError, match=r"the batch must be 1 or more, got 0"):
        batched([sample(0.0)], FREE, 0)

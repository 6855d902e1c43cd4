from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data.chunks import in_chunks, nbytes


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_every_sample_once_in_order_and_each_list_just_full(sizes: list[int], limit: int) -> None:
    chunks = list(in_chunks(sizes, lambda size: size, limit))
    assert [size for chunk in chunks for size in chunk] == sizes
    assert all(sum(chunk[:-1]) < limit for chunk in chunks)
    assert all(sum(chunk) >= limit for chunk in chunks[:-1])


def test_samples_are_not_fetched_before_they_are_asked_for() -> None:
    fetched = []
    samples = (fetched.append(number) or number for number in range(10))
    assert next(in_chunks(samples, lambda _: 1, 3)) == [0, 1, 2]
    assert fetched == [0, 1, 2]


def test_bytes_of_arrays_sequences_and_what_is_empty() -> None:
    four = np.zeros(1, np.float32)
    assert nbytes({"x": four, "sequence": [four, four], "optional": None, "none": []}) == 12

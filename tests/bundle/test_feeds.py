"""What an app passes: arrays in any form that numpy knows, tensors of other libraries; or one clear line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.bundle.feeds import readable
from edgekit.contracts import Array
from edgekit.errors import EngineError


def test_what_is_readable_is_passed_on_untouched() -> None:
    feeds = {"x": np.ones(3, np.float32), "y": np.arange(4)[::2]}
    assert readable(feeds) is feeds


@given(arrays.arrays(st.sampled_from([">f4", ">i8", ">f2", "<f8"]), arrays.array_shapes(max_side=4)))
def test_byte_order_changes_no_number(array: Array) -> None:
    found = readable({"x": array})["x"]
    assert found.dtype.isnative and found.dtype.name == array.dtype.name
    np.testing.assert_array_equal(found, array)


def test_tensors_and_scalars() -> None:
    found = readable({"t": torch.ones(2), "s": np.float32(1), "sequence": [np.ones(1)], "none": None})
    assert isinstance(found["t"], np.ndarray) and found["t"].dtype == np.float32
    assert found["sequence"][0].dtype == np.float64 and found["none"] is None


def test_the_arrays_of_a_sequence_are_of_this_machine_too() -> None:
    """ONNX Runtime reads them as they lie in memory: 1.0 would be 4.6e-41."""
    (found,) = readable({"s": [np.array([1, 2], ">f4")]})["s"]
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, [1, 2])


class Table:
    """Another library's table, some of whose values are missing."""

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        return np.ma.masked_array([1.0, 2.0], mask=[False, True])


def test_what_cannot_be_read_is_one_line() -> None:
    with pytest.raises(EngineError, match="given by name, in a dict, got ndarray"):
        readable(np.ones(3))
    with pytest.raises(EngineError, match="'x' has masked values"):
        readable({"x": np.ma.masked_array([1.0], mask=[True])})
    with pytest.raises(EngineError, match="'x' has masked values"):
        readable({"x": Table()})
    with pytest.raises(EngineError, match="'x' cannot be read as an array: Can't call numpy"):
        readable({"x": torch.ones(2, requires_grad=True)})

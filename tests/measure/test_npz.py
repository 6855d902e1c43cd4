from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.measure import npz

DTYPES = st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool", "complex64", "<U5"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, ARRAYS, max_size=3))
def test_what_goes_in_comes_out(arrays: dict[str, np.ndarray]) -> None:
    back = npz.load(npz.dump(arrays))
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_names_that_numpy_refuses() -> None:
    # numpy.savez takes the arrays as keyword arguments, so these two collide with its own.
    arrays = {"file": np.ones(2), "allow_pickle": np.zeros(3)}
    assert npz.load(npz.dump(arrays)).keys() == arrays.keys()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_dtypes_that_numpy_has_not(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([[1, -2], [0, 3]]).astype(getattr(ml_dtypes, name))
    back = npz.load(npz.dump({"x": array, "plain": np.ones(1)}))
    assert back["x"].dtype.name == name
    np.testing.assert_array_equal(back["x"].astype(float), array.astype(float))
    assert list(back) == ["x", "plain"]


def test_numpy_itself_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(npz.dump({"x": np.arange(3)}))
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["x"], np.arange(3))
    np.testing.assert_array_equal(npz.load(path)["x"], np.arange(3))


def test_equal_arrays_give_equal_bytes() -> None:
    assert npz.dump({"x": np.ones(3)}) == npz.dump({"x": np.ones(3)})


def test_strings_become_fixed_width() -> None:
    back = npz.load(npz.dump({"x": np.array(["a", "long"], dtype=object)}))
    assert back["x"].tolist() == ["a", "long"]


@pytest.mark.parametrize("value", [np.array([{}], dtype=object), [np.ones(2)], None])
def test_objects_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"'x' .*not saved"):
        npz.dump({"x": value})  # type: ignore[dict-item]


def test_a_pickle_is_never_loaded() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        npz.load(buffer.getvalue())


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0), st.integers(0, 255))
@example(294, 0)  # the size of the zip's directory
def test_damage_is_a_value_error_or_harmless(where: int, byte: int) -> None:
    data = bytearray(npz.dump({"x": np.arange(6.0)}))
    data[where % len(data)] = byte
    try:
        found = npz.load(bytes(data))
    except ValueError:
        return
    assert [array.tolist() for array in found.values()] == [np.arange(6.0).tolist()]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY", npz.dump({"x": np.ones(9)})[:-30]])
def test_not_an_npz(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        npz.load(data)


def test_an_npy_is_not_an_npz() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2))
    with pytest.raises(ValueError, match="not a readable"):
        npz.load(buffer.getvalue())


def test_compressed_entries_are_refused() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"'x.npy' is compressed"):
        npz.load(buffer.getvalue())


def test_entries_are_stored_not_compressed() -> None:
    with zipfile.ZipFile(io.BytesIO(npz.dump({"x": np.zeros(1000)}))) as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED

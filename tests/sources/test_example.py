"""Example inputs that a user gives: a file of arrays, or the value of one input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import SourceError, UsageError
from edgekit.sources.flags import parse_input
from edgekit.sources.load import load_source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """y = x · cast(sr): x [batch, time], and sr, a number of the file's own type."""
    cast = helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [cast, helper.make_node("Mul", ["x", "rate"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time"]),
            helper.make_tensor_value_info("sr", TensorProto.INT32, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "time"])],
    )
    path = tmp_path / "rate.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def saved(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "example.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("text", "dtype", "value"), [("sr=16000", "int64", 16000), ("a=-2.5", "float32", -2.5), ("a=1e3", "float32", 1000)]
)
def test_a_value_alone(text: str, dtype: str, value: float) -> None:
    made = parse_input(text).make()
    assert (made.dtype.name, made.shape, made.item()) == (dtype, (), value)


def test_a_value_has_the_files_type_and_shape(file: Path) -> None:
    source = load_source(file, inputs=["sr=16000"])
    assert source.example["sr"].dtype == np.int32 and source.example["sr"].item() == 16000
    assert source.made_up is not None and "sr" not in source.made
    with pytest.raises(UsageError, match="has no such input"):
        load_source(file, inputs=["sample_rate=16000"])


def test_arrays_for_some_inputs_of_a_file(file: Path, tmp_path: Path) -> None:
    given = saved(tmp_path, x=np.ones((2, 5), np.float32))
    source = load_source(file, example=given, inputs=["sr=3"])
    assert source.made_up is None
    assert source.example_dims() == {"batch": 2, "time": 5}
    assert load_source(file, example=given).made == {"sr"}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.ones(3)}, "has no input 'y'"),
        ({"x": np.ones((2, 5))}, "input 'x' must be x float32 batchxtime, got float64 2x5"),
        ({"x": np.ones((2, 5, 1), np.float32)}, "got float32 2x5x1"),
    ],
)
def test_arrays_that_do_not_fit(file: Path, tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_source(file, example=saved(tmp_path, **arrays))


def test_what_is_no_file_of_arrays(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no")
    for name, words in (("one.npy", "is one array"), ("text.npz", "is not an .npz of arrays")):
        with pytest.raises(UsageError, match=words):
            load_source(file, example=tmp_path / name)
    with pytest.raises(SourceError, match="there is no file"):
        load_source(file, example=tmp_path / "absent.npz")


def test_a_factory_takes_arrays_in_place_of_its_own(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    given = saved(tmp_path, input=np.full((4, 8), 0.5, np.float32))
    source = load_source((torch.nn.Linear(8, 2), torch.zeros(1, 8)), example=given)
    assert source.example["input"].shape == (4, 8) and source.example["input"].max() == 0.5
    assert source.made_up is None
    with pytest.raises(UsageError, match="has no argument 'x'"):
        load_source((torch.nn.Linear(8, 2), torch.zeros(1, 8)), example=saved(tmp_path, x=np.zeros((1, 8), np.float32)))


def test_a_dimension_that_input_fixes_is_not_the_files_fault(file: Path) -> None:
    with pytest.raises(UsageError, match=r"--input gives this dimension the size 2\. .*name it there: batch=2"):
        load_source(file, inputs=["x:float32:2x5"], dynamic=["x:0"])

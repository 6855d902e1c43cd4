"""What a file says of its shapes, against what it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.accuracy.claims import check_claims
from edgekit.accuracy.resize import resized
from edgekit.contracts import TensorSpec
from edgekit.errors import SourceError
from edgekit.exporters import GraphRequest
from edgekit.exporters.onnx_graph import OnnxGraph
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.sources.state import settle

Shape = Sequence[Any]


def value(name: str, shape: Shape, dtype: int = 1) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def ints(name: str, *numbers: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def floats(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).normal(size=shape).astype(np.float32), name)


def save(path: Path, nodes: Any, inputs: Any, outputs: Any, weights: Any = (), infos: Any = ()) -> Source:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights), value_info=list(infos))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return load_source(path)


def shapes(specs: Sequence[TensorSpec]) -> list[tuple[int | str, ...]]:
    return [spec.shape for spec in specs]


def pooled(folder: Path, shape: Shape) -> Source:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    return save(
        folder / "m.onnx", nodes, [value("x", shape)], [value("y", [shape[0], 4, 1, 1])], [floats("w", 4, 3, 3, 3)]
    )


@pytest.mark.parametrize("batch", [-1, "?", "", None, "N"])
def test_what_others_write_for_unknown_is_free_and_of_its_own(tmp_path: Path, batch: object) -> None:
    source = pooled(tmp_path, [batch, 3, "?", "?"])
    name = "N" if batch == "N" else "batch"
    assert shapes(source.inputs) == [(name, 3, "x_dim2", "x_dim3")]
    assert source.example["x"].shape == (1, 3, 32, 32)
    check_claims(source)
    assert shapes(source.outputs) == [(name, 4, 1, 1)]
    fixed = load_source(source.path or "", inputs=["x:float32:1x3x48x192"])
    assert fixed.example["x"].shape == (1, 3, 48, 192)


def reshaped(folder: Path, stated: Shape, batch: Shape = ("batch", 8)) -> Source:
    """[batch, 8] → MatMul → [batch, 2, 3] by a computed Reshape; the file says ``stated``."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["g"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Concat", ["b", "two", "three"], ["t"], axis=0),
        helper.make_node("Reshape", ["g", "t"], ["y"]),
    ]
    weights = [floats("w", 8, 6), ints("zero", 0), ints("two", 2), ints("three", 3)]
    return save(folder / "m.onnx", nodes, [value("x", batch)], [value("y", stated)], weights)


@pytest.mark.parametrize("stated", [[1, 2, 3], ["batch", 2, 3], [1, "len"], [None, None, None], ["a", "a", "a"]])
def test_outputs_are_as_they_are_seen(tmp_path: Path, stated: Shape) -> None:
    source = reshaped(tmp_path, stated)
    check_claims(source)
    (shape,) = shapes(source.outputs)
    assert shape[0] == "batch" and len(shape) == 3
    assert all(isinstance(size, str) or size == true for size, true in zip(shape, ("batch", 2, 3), strict=True))
    graph = OnnxGraph().to_graph(source, GraphRequest(opset=20, report=tmp_path / "r.md"))
    assert str(graph.graph.outputs[0].shape[0]) == "batch"  # type: ignore[index]


def test_untrue_shapes_of_inner_values_are_forgotten(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    source = save(
        tmp_path / "m.onnx", nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], infos=[value("h", [1, 4])]
    )
    graph = OnnxGraph().to_graph(source, GraphRequest(opset=17, report=tmp_path / "r.md"))
    assert graph.graph[0].outputs[0].shape is None


def frozen(folder: Path, x: Shape, target: tuple[int, ...]) -> Source:
    """A Reshape of the whole of x to a constant: other sizes of x do not fit."""
    nodes = [helper.make_node("Reshape", ["x", "t"], ["y"])]
    return save(folder / "m.onnx", nodes, [value("x", x)], [value("y", [*target])], [ints("t", *target)])


def test_a_batch_that_the_file_freezes_is_refused_by_name(tmp_path: Path) -> None:
    source = frozen(tmp_path, ["batch", 6], (1, 2, 3))
    with pytest.raises(SourceError, match=r"'batch' of input 'x' is free by the word of .* runs at 1 alone") as raised:
        check_claims(source)
    assert raised.value.fix == "Fix it: --input x:float32:1x6"
    assert "at 2, ONNX Runtime" in raised.value.details[0]
    check_claims(load_source(source.path or "", inputs=["x:float32:1x6"]))


def test_another_dimension_that_the_file_freezes_is_fixed(tmp_path: Path) -> None:
    source = frozen(tmp_path, [1, "height"], (1, 2, 16))
    check_claims(source)
    assert shapes(source.inputs) == [(1, 32)]
    assert "'height' is free by the file's word and runs at 32 alone" in source.notes[0]


def test_a_size_that_was_guessed_is_guessed_again_until_the_file_runs(tmp_path: Path) -> None:
    source = frozen(tmp_path, [1, "height"], (1, 4, 12))
    check_claims(source)
    assert source.example["x"].shape == (1, 48)
    assert source.made_up == "inputs x 1x48"
    impossible = frozen(tmp_path, [1, "height"], (1, 7, 13))
    with pytest.raises(SourceError, match="runs at none of the sizes that were guessed for 'height'"):
        check_claims(impossible)


def test_a_size_too_small_for_a_window_is_not_taken(tmp_path: Path) -> None:
    """ONNX Runtime pools 32 rows by a window of 40 without a word; the specification has no result for it."""
    nodes = [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[40, 1])]
    source = save(tmp_path / "m.onnx", nodes, [value("x", [1, 3, "h", 4])], [value("y", [1, 3, None, 4])])
    check_claims(source)
    assert source.example["x"].shape[2] >= 40


def test_a_size_at_which_nothing_comes_out_is_not_taken(tmp_path: Path) -> None:
    """y = sigmoid(n - 90) for n numbers."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=1),
        helper.make_node("Sub", ["f", "ninety"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["y"]),
    ]
    ninety = numpy_helper.from_array(np.array([90], np.float32), "ninety")
    source = save(tmp_path / "m.onnx", nodes, [value("x", [1, "width"])], [value("y", [1])], [ints("one", 1), ninety])
    check_claims(source)
    assert source.example["x"].shape == (1, 128)


def test_one_symbol_at_two_axes_has_one_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["h", "zero"], ["s"], keepdims=0),
        helper.make_node("Add", ["s", "x"], ["z"]),
    ]
    inputs = [value("x", ["batch", 8]), value("h", [2, "batch", 8])]
    source = save(tmp_path / "m.onnx", nodes, inputs, [value("z", ["batch", 8])], [ints("zero", 0)])
    assert source.example["h"].shape == (2, 1, 8)
    check_claims(source)
    assert shapes(source.inputs) == [("batch", 8), (2, "batch", 8)]


def test_one_symbol_shared_by_accident_is_two(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["h"], ["z"])]
    inputs, outputs = [value("x", ["d", 8]), value("h", [2, "d"])], [value("y", ["d", 8]), value("z", [2, "d"])]
    source = save(tmp_path / "m.onnx", nodes, inputs, outputs)
    check_claims(source)
    assert shapes(source.inputs) == [("d", 8), (2, "h_dim1")]
    assert shapes(source.outputs) == [("d", 8), (2, "h_dim1")]
    assert "'d' do not depend on each other" in source.notes[0]


def test_a_size_of_input_is_that_of_the_symbol_everywhere(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["ids", "mask"], ["y"])]
    ends = [value(name, ["batch", "seq"]) for name in ("ids", "mask", "y")]
    save(tmp_path / "m.onnx", nodes, ends[:2], ends[2:])
    source = load_source(tmp_path / "m.onnx", inputs=["ids:float32:batchxseq=16"])
    assert [array.shape for array in source.example.values()] == [(1, 16), (1, 16)]
    assert source.guessed == {"batch"}


def test_a_sample_at_another_size_begins_anew() -> None:
    specs = (TensorSpec("x", "int64", ("n", 2)), TensorSpec("m", "int64", (3, "n")))
    feeds = {"x": np.array([[1, 2], [3, 4]]), "m": np.arange(6).reshape(3, 2)}
    found = resized(feeds, specs, {"n": 3})
    assert found["x"].tolist() == [[1, 2], [3, 4], [1, 2]]
    assert found["m"].tolist() == [[0, 1, 0], [2, 3, 2], [4, 5, 4]]
    assert resized(feeds, specs, {"n": 1})["x"].tolist() == [[1, 2]]


def recurrent(path: Path) -> Path:
    """input [?, ?], state [2, ?, 4], sr [] → output [?, 4], stateN [?, ?, ?]: one batch, which no name tells."""
    nodes = [
        helper.make_node("Slice", ["input", "zero", "four", "one"], ["x"]),
        helper.make_node("Unsqueeze", ["x", "zero"], ["x3"]),
        helper.make_node("Concat", ["x3", "state"], ["all"], axis=0),
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["all", "rate"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled", "zero"], ["output"], keepdims=0),
        helper.make_node("Slice", ["all", "zero", "two", "zero"], ["stateN"]),
    ]
    numbers = {"zero": 0, "one": 1, "two": 2, "four": 4}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, None]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, None, 4]),
            helper.make_tensor_value_info("sr", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("stateN", TensorProto.FLOAT, [None, None, None]),
        ],
        [numpy_helper.from_array(np.array([value]), name) for name, value in numbers.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_state_whose_batch_has_no_name_is_of_the_models_batch(tmp_path: Path) -> None:
    path = str(recurrent(tmp_path / "m.onnx"))
    source = load_source(path, inputs=["sr=2"])
    settle(source, [])
    check_claims(source)
    assert [item.input for item in source.state] == ["state"]
    assert [spec.shape for spec in source.inputs] == [("batch", "input_dim1"), (2, "batch", 4), ()]
    assert [spec.shape for spec in source.outputs] == [("batch", 4), ("stateN_dim0", "batch", "stateN_dim2")]
    assert source.example["sr"].shape == () and source.example["sr"] == 2
    assert source.notes[-1] == "dimension 'state_dim1' is 'batch', without which it runs at 1 alone"
    # What --input says of a batch says nothing of what stands first in a nameless output.
    fixed = load_source(path, inputs=["sr=2", "input:float32:1x8"])
    assert fixed.outputs[1].shape[0] == "stateN_dim0"
    settle(fixed, [])
    assert [item.input for item in fixed.state] == ["state"]

"""Which example inputs nobody gave, and the words for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from edgekit.sources.load import load_source
from edgekit.sources.made_up import made_up


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:  # type: ignore[type-arg]
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, None),
        ({"x": zeros(1, 3, 32, 32)}, "images 1x3x32x32"),
        ({"x": zeros(1, 48, 64, 3, dtype="uint8")}, "images 1x48x64x3"),
        ({"x": zeros(1, 80, 32, 32)}, "inputs x 1x80x32x32"),
        ({"x": zeros(1, 80), "sr": zeros()}, "inputs x 1x80, sr scalar"),
        ({name: zeros(2) for name in "abcde"}, "inputs a 2, b 2, c 2 and 2 more"),
    ],
)
def test_the_words(arrays: dict[str, np.ndarray], words: str | None) -> None:  # type: ignore[type-arg]
    assert made_up(arrays) == words


def test_a_file_brings_none_and_a_sample_of_the_users_takes_their_place(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["n", 3, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    source = load_source(tmp_path / "m.onnx")
    assert source.made_up == source.to_json()["made_up"] == "images 1x3x8x8"
    source.use_example({"x": zeros(4, 3, 8, 8)})
    assert source.made_up is None
    assert source.example_dims() == {"n": 4}


def test_a_factorys_own_are_the_users_and_those_of_input_are_not() -> None:
    net = torch.nn.Linear(4, 2)
    assert load_source((net, torch.ones(1, 4))).made_up is None
    assert load_source(net, inputs=["input:float32:1x4"]).made_up == "inputs input 1x4"

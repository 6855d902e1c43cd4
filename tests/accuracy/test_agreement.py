"""Evaluators that differ: who is believed, and which node is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.accuracy import agreement
from edgekit.accuracy.agreement import agreed
from edgekit.accuracy.evaluators import Evaluator, open_evaluator
from edgekit.contracts import Feeds
from edgekit.errors import SourceError, UnusableSourceError

STEPS, BATCH, SIZE, HIDDEN = 7, 4, 5, 6
RANDOM = np.random.default_rng(0)


def recurrent(path: Path, operator: str, direction: str, **attributes: Any) -> Path:
    """x [t, b, 5], l [b] → every output of one recurrent operator."""
    gates, states = {"LSTM": (4, 2), "GRU": (3, 1), "RNN": (1, 1)}[operator]
    ways = 2 if direction == "bidirectional" else 1
    sizes = {"W": (ways, gates * HIDDEN, SIZE), "R": (ways, gates * HIDDEN, HIDDEN), "B": (ways, 2 * gates * HIDDEN)}
    weights = [
        numpy_helper.from_array((RANDOM.normal(size=size) / 2).astype(np.float32), name) for name, size in sizes.items()
    ]
    outputs = ["y", "y_h", "y_c"][: 1 + states]
    node = helper.make_node(
        operator, ["x", "W", "R", "B", "l"], outputs, "unit", hidden_size=HIDDEN, direction=direction, **attributes
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", SIZE]),
        helper.make_tensor_value_info("l", TensorProto.INT32, ["b"]),
    ]
    made = [helper.make_tensor_value_info("y", 1, ["t", ways, "b", HIDDEN])]
    made += [helper.make_tensor_value_info(name, 1, [ways, "b", HIDDEN]) for name in outputs[1:]]
    graph = helper.make_graph([node], "g", inputs, made, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def padded(*lengths: int) -> Feeds:
    x = RANDOM.normal(size=(STEPS, BATCH, SIZE)).astype(np.float32)
    return {"x": x, "l": np.array(lengths, np.int32)}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_sequence_lens_are_not_ignored(tmp_path: Path, operator: str, direction: str) -> None:
    path = recurrent(tmp_path / "m.onnx", operator, direction)
    evaluator, report = agreed(path, [padded(7, 7, 7, 7), padded(7, 3, 1, 5)])
    assert report.decided_by == "agreement", report
    answer = evaluator.run(padded(7, 3, 1, 5))["y"]  # [t, ways, b, hidden]
    assert not answer[3:, :, 1].any() and answer[:3, :, 1].all(), "nothing behind an item's own length"


def test_an_evaluator_that_would_ignore_something_has_no_say(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "m.onnx", "GRU", "forward", activations=["HardSigmoid", "Tanh"])
    _, report = agreed(path, [padded(7, 3, 1, 5)])
    assert report.decided_by == "alone"
    reasons = {item.name.split()[0]: item.why for item in report.others}
    assert "activations HardSigmoid" in reasons["onnx.reference"]
    assert "ignores sequence_lens of GRU 'unit'" in reasons["openvino"]


@pytest.mark.parametrize("opset", [9, 12, 14, 17])
def test_batch_normalization_uses_the_stored_mean(tmp_path: Path, opset: int) -> None:
    """Opset 9 to 13: `onnx.reference` mixes in the batch's own mean; a public text detector was refused."""
    stored = {"s": [1.5, 0.5], "b": [0.1, -0.3], "m": [0.5, 2.0], "v": [4.0, 0.25]}
    weights = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in stored.items()]
    ends = [helper.make_tensor_value_info(name, 1, [3, 2, 4]) for name in "xy"]
    node = helper.make_node("BatchNormalization", ["x", *stored], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), tmp_path / "m.onnx"
    )
    x = RANDOM.normal(size=(3, 2, 4)).astype(np.float32)
    scale, bias, mean, var = (np.array(value, np.float32)[:, None] for value in stored.values())
    expected = scale * (x - mean) / np.sqrt(var + 1e-5) + bias
    evaluator, report = agreed(tmp_path / "m.onnx", [{"x": x}])
    assert report.decided_by == "agreement", report
    np.testing.assert_allclose(evaluator.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)


def test_outputs_that_are_almost_nothing_do_not_differ(tmp_path: Path) -> None:
    """Sigmoid of −22 is 2.8e-10: ONNX Runtime answers 0, which is right to float32's steps below 1."""
    ends = [helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    _, report = agreed(tmp_path / "m.onnx", [{"x": np.full((2, 3), -22, np.float32)}])
    assert report.decided_by == "agreement", report


def chain(path: Path) -> Path:
    """x → Sigmoid → h → Mul by itself → m → Add 1 → y."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["h"], "first"),
        helper.make_node("Mul", ["h", "h"], ["m"], "second"),
        helper.make_node("Add", ["m", "one"], ["y"], "third"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


X: Feeds = {"x": np.array([[1, 2, 3], [-1, 0.5, 2]], np.float32)}


def wrong(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Those evaluators compute Mul as Add: the graph is changed before they open it, each in its own way."""

    def opened(name: str, path: Path, **more: Any) -> Evaluator:
        if name not in names:
            return open_evaluator(name, path, **more)
        model = onnx.load(path)
        for node in model.graph.node:
            if node.name == "second":
                node.op_type = ("Add", "Sub")[names.index(name)]
        changed = path.with_name(f"{name}-{path.name}")
        onnx.save(model, changed)
        return open_evaluator(name, changed, **more)

    monkeypatch.setattr(agreement, "open_evaluator", opened)


def test_the_majority_is_taken_and_the_node_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chain(tmp_path / "m.onnx")
    wrong(monkeypatch, "onnxruntime")
    evaluator, report = agreed(path, [X])
    assert (evaluator.name, report.decided_by, report.node) == ("openvino", "majority", "Mul 'second'")
    assert [(item.name.split()[0], item.agrees) for item in report.others] == [
        ("onnx.reference", True),
        ("ONNX", False),
    ]
    expected = (1 / (1 + np.exp(-X["x"]))) ** 2 + 1
    np.testing.assert_allclose(evaluator.run(X)["y"], expected, rtol=1e-5)


def test_without_a_majority_the_user_must_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chain(tmp_path / "m.onnx")
    wrong(monkeypatch, "onnxruntime", "onnx.reference")
    with pytest.raises(SourceError, match="no two of its evaluators agree") as raised:
        agreed(path, [X])
    assert any("differ first at Mul 'second'" in line for line in raised.value.details)
    assert raised.value.fix == "Say which is right: --reference onnxruntime or openvino or onnx.reference"
    evaluator, report = agreed(path, [X], choice="onnx.reference")
    assert (evaluator.name, report.decided_by, report.node) == ("onnx.reference", "option", "Mul 'second'")


def test_one_that_differs_on_a_later_sample_alone_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """m = h·h is h + h where h is 0 (x is −∞, or very small): the first sample shows nothing."""
    path = chain(tmp_path / "m.onnx")
    wrong(monkeypatch, "onnx.reference")
    nothing: Feeds = {"x": np.full((2, 3), -200, np.float32)}
    assert agreed(path, [nothing])[1].decided_by == "agreement"
    _, report = agreed(path, [nothing, X])
    assert (report.decided_by, report.node) == ("majority", "Mul 'second'")


def test_one_that_is_too_slow_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "FIRST_S", -1.0)
    evaluator, report = agreed(chain(tmp_path / "m.onnx"), [X, X])
    assert (evaluator.name, report.decided_by, report.samples) == ("onnxruntime", "agreement", 2)
    assert [(item.name.split()[0], item.agrees) for item in report.others] == [
        ("onnx.reference", None),
        ("OpenVINO", True),
    ]
    assert "takes over" in report.others[0].why


def test_where_one_lacks_an_operator_the_third_is_asked(tmp_path: Path) -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
    ends = [helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    evaluator, report = agreed(tmp_path / "m.onnx", [X])
    assert (evaluator.name, report.decided_by) == ("onnxruntime", "agreement")
    assert [item.agrees for item in report.others] == [None, True]
    expected = X["x"] / (1 + np.exp(-1.702 * X["x"]))  # x·σ(αx), α = 1.702
    np.testing.assert_allclose(evaluator.run(X)["y"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("RandomNormalLike", ["x"], ["q"], "noise"), "RandomNormalLike 'noise' draws random numbers"),
        (helper.make_node("Dropout", ["x", "half", "train"], ["q"]), "Dropout 'q' draws random numbers"),
        (helper.make_node("Mine", ["x"], ["q"], domain="mine"), "no reference to compare with"),
    ],
)
def test_what_no_input_would_change_is_the_files_fault(tmp_path: Path, node: Any, message: str) -> None:
    ends = [helper.make_tensor_value_info(name, 1, [4, 8]) for name in "xy"]
    constants = [numpy_helper.from_array(np.float32(0.5), "half"), numpy_helper.from_array(np.array(True), "train")]
    graph = helper.make_graph([node, helper.make_node("Relu", ["q"], ["y"])], "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(UnusableSourceError, match=message):
        agreed(tmp_path / "m.onnx", [{"x": np.ones((4, 8), np.float32)}])

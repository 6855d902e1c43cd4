from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.contracts import LayerTime
from edgekit.errors import BundleError
from edgekit.measure.peaks import Peaks
from edgekit.measure.profile import GraphNode, Layers, join, read_layers

pytestmark = pytest.mark.alone

ROOFS = Peaks(1, macs_per_s=1e9, bytes_per_s=((10**6, 1e9),))


def node(name: str, op_type: str, inputs: str, outputs: str, macs: int = 0, module: str = "") -> GraphNode:
    return GraphNode(name, op_type, module, macs, tuple(inputs.split()), tuple(outputs.split()))


def graph(*nodes: GraphNode, sizes: dict[str, int] | None = None) -> Layers:
    names = {name for item in nodes for name in (*item.inputs, *item.outputs)}
    sizes = sizes or {}
    tensors = {
        name: {"elements": sizes.get(name, 100) // 4, "bytes": sizes.get(name, 100), "constant": False}
        for name in names
    }
    return Layers(nodes, tensors)


def timed(name: str, op_type: str, time_s: float = 1e-6, covers: str | None = None, **more: Any) -> LayerTime:
    return LayerTime(name, op_type, time_s, covers=tuple((name if covers is None else covers).split()), **more)


CONV_RELU = graph(
    node("conv", "Conv", "x w", "c", macs=1000, module="stem.0"),
    node("relu", "Relu", "c", "r", module="stem.1"),
    node("pool", "MaxPool", "r", "p", module="pool"),
    sizes={"x": 400, "w": 40, "c": 4000, "r": 4000, "p": 100},
)


def test_an_engine_that_tells_what_it_fused() -> None:
    """As OpenVINO does: what the fused nodes hand to each other costs no bandwidth."""
    layers = join(
        [timed("conv/WithoutBiases", "Convolution", 3e-6, "conv relu"), timed("pool", "Pooling")], CONV_RELU, ROOFS
    )
    first = layers[0]
    assert first.nodes == ("conv", "relu") and first.modules == ("stem.0", "stem.1")
    assert first.macs == 1000 and first.bytes == 400 + 40 + 4000
    assert first.share == pytest.approx(0.75)
    assert layers[1].bytes == 4000 + 100


def test_a_node_that_is_missing_was_fused_into_what_made_its_input() -> None:
    layers = join([timed("conv", "FusedConv"), timed("pool", "MaxPool")], CONV_RELU, None)
    assert {item.name: item.nodes for item in layers} == {"conv": ("conv", "relu"), "pool": ("pool",)}


def test_a_fused_node_named_after_its_last_one() -> None:
    """ONNX Runtime names a convolution in blocked layout after its output, here the activation's."""
    layers = join([timed("r_nchwc", "Conv", covers="r"), timed("pool", "MaxPool")], CONV_RELU, None)
    assert {item.name: item.nodes for item in layers} == {"r_nchwc": ("conv", "relu"), "pool": ("pool",)}


def test_what_the_engine_adds_belongs_to_no_node() -> None:
    times = [timed("ReorderInput", "ReorderInput"), timed("conv", "Conv"), timed("relu", "Relu"), timed("pool", "Pool")]
    added = next(item for item in join(times, CONV_RELU, ROOFS) if item.name == "ReorderInput")
    assert (added.nodes, added.modules, added.macs, added.bytes, added.limit) == ((), (), None, None, None)


def test_an_operator_of_which_the_engine_made_something_else() -> None:
    times = [timed("conv", "Conv"), timed("Max_17", "Maximum"), timed("pool", "MaxPool")]
    layers = {item.name: item.nodes for item in join(times, CONV_RELU, None)}
    assert layers == {"conv": ("conv",), "Max_17": ("relu",), "pool": ("pool",)}


def test_quantization_around_a_fused_node() -> None:
    """QLinearConv reads and writes bytes, not the floats that the graph shows inside."""
    layers = graph(
        node("q0", "QuantizeLinear", "x", "xq", module="before"),
        node("d0", "DequantizeLinear", "xq", "xd", module="before"),
        node("dw", "DequantizeLinear", "wq", "wd", module="conv"),
        node("conv", "Conv", "xd wd", "c", macs=10, module="conv"),
        node("q1", "QuantizeLinear", "c", "cq", module="conv"),
        node("d1", "DequantizeLinear", "cq", "y", module="conv"),
        sizes={"x": 400, "xq": 100, "xd": 400, "wq": 9, "wd": 36, "c": 800, "cq": 200, "y": 800},
    )
    times = [timed("q0", "QuantizeLinear"), timed("conv_token_1", "QLinearConv", covers="conv")]
    found = {item.name: item for item in join([*times, timed("d1", "DequantizeLinear")], layers, ROOFS)}
    assert found["conv_token_1"].nodes == ("d0", "dw", "conv", "q1")
    assert found["conv_token_1"].bytes == 100 + 9 + 200
    assert found["conv_token_1"].modules == ("conv",)


def test_a_dequantization_that_several_read_is_in_each_of_them() -> None:
    layers = graph(
        node("d", "DequantizeLinear", "q", "f"),
        node("a", "MatMul", "f w", "y"),
        node("b", "MatMul", "f v", "z"),
    )
    found = {item.name: item.nodes for item in join([timed("a", "QMatMul"), timed("b", "QMatMul")], layers, None)}
    assert found == {"a": ("d", "a"), "b": ("d", "b")}


def test_the_engines_own_precision_decides_on_the_bytes() -> None:
    (found,) = join([timed("m", "FullyConnected", precision="bf16")], graph(node("m", "MatMul", "x w", "y")), ROOFS)
    assert found.bytes == 3 * 25 * 2


@pytest.mark.parametrize(
    ("macs", "limit", "of_limit"),
    # 300 bytes at 1e9 bytes/s are 0.3 µs; MACs at 1e9 a second
    [(0, "memory", 0.3), (200, "memory", 0.3), (500, "compute", 0.5), (2000, "compute", 2.0)],
)
def test_the_lower_roof_is_the_limit(macs: int, limit: str, of_limit: float) -> None:
    (found,) = join([timed("m", "MatMul", 1e-6)], graph(node("m", "MatMul", "x w", "y", macs=macs)), ROOFS)
    assert found.limit == limit and found.of_limit == pytest.approx(of_limit)


def test_an_unknown_shape_is_no_number() -> None:
    layers = Layers(
        (GraphNode("m", "MatMul", "", None, ("x",), ("y",)),),
        {"x": {"elements": None, "bytes": None}, "y": {"elements": None, "bytes": None}},
    )
    (found,) = join([timed("m", "MatMul")], layers, ROOFS)
    assert (found.macs, found.bytes, found.limit, found.of_limit) == (None, None, None, None)


def test_without_a_graph_the_times_are_left() -> None:
    found = join([timed("a", "A", 1e-6), timed("b", "B", 3e-6)], None, ROOFS)
    assert [(item.name, item.share, item.nodes) for item in found] == [("b", 0.75, ()), ("a", 0.25, ())]


def test_layers_of_an_older_bundle(tmp_path: Path) -> None:
    assert read_layers(tmp_path / "layers.json") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not what export writes: JSONDecodeError"),
        (json.dumps({"schema": 2}), "has schema 2; this edgekit reads schema 1"),
        (json.dumps({"schema": 1, "nodes": [{}]}), "is not what export writes: KeyError 'name'"),
        (json.dumps([]), "is not what export writes: TypeError"),
    ],
)
def test_damaged_layers(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(BundleError, match=message):
        read_layers(path)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.analysis.layers import layers_json
from edgekit.contracts import Artifact, TensorSpec
from edgekit.measure.profile import join, read_layers
from edgekit.runtimes.onnxruntime import OnnxRuntime
from edgekit.runtimes.openvino import OpenVino


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """x [batch, 3, 16, 16] → Conv (8 channels, 3 x 3) → Relu → mean → MatMul → y [batch, 5]."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("ReduceMean", ["r", "axes"], ["m"], "mean", keepdims=0),
        helper.make_node("MatMul", ["m", "v"], ["y"], "head"),
    ]
    for node, module in zip(nodes, ("stem.0", "stem.1", "", "head"), strict=True):
        entry = node.metadata_props.add()
        entry.key, entry.value = "edgekit.module", module
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [
            numpy_helper.from_array(random.standard_normal((8, 3, 3, 3)).astype(np.float32), "w"),
            numpy_helper.from_array(random.standard_normal((8, 5)).astype(np.float32), "v"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    inputs = (TensorSpec("x", "float32", ("batch", 3, 16, 16)),)
    return Artifact(path, "onnx", "fp32", inputs, (TensorSpec("y", "float32", ("batch", 5)),))


def layers(network: Artifact, batch: int) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        layers_json(ir.load(network.path), {"x": np.zeros((batch, 3, 16, 16), np.float32)})
    )
    return table


def test_macs_bytes_and_modules(network: Artifact) -> None:
    table = layers(network, batch=2)
    assert table["dims"] == {"batch": 2}
    assert [(item["name"], item["op_type"], item["module"]) for item in table["nodes"]] == [
        ("conv", "Conv", "stem.0"),
        ("relu", "Relu", "stem.1"),
        ("mean", "ReduceMean", ""),
        ("head", "MatMul", "head"),
    ]
    assert [item["macs"] for item in table["nodes"]] == [2 * 8 * 16 * 16 * 27, 0, 0, 2 * 8 * 5]
    assert table["tensors"]["x"] == {"elements": 2 * 3 * 256, "bytes": 4 * 2 * 3 * 256, "constant": False}
    assert table["tensors"]["w"] == {"elements": 216, "bytes": 864, "constant": True}


def test_a_quantized_weight_counts_in_its_own_bytes() -> None:
    """Folding shapes must not fold the DequantizeLinear of a weight."""
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s"], ["w"], "dequantize"),
            helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(np.ones((8, 3), np.int8), "q"),
            numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        ],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    table = json.loads(layers_json(model, {"x": np.zeros((1, 8), np.float32)}))
    assert [item["op_type"] for item in table["nodes"]] == ["DequantizeLinear", "MatMul"]
    assert table["tensors"]["q"]["bytes"] == 24
    assert table["nodes"][1]["macs"] == 24
    assert [node.op_type for node in model.graph] == ["DequantizeLinear", "MatMul"]


@pytest.mark.parametrize("runtime", [OnnxRuntime(), OpenVino()], ids=lambda item: item.name)
def test_an_engines_times_come_back_to_the_modules(network: Artifact, runtime: Any, tmp_path: Path) -> None:
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)}
    path = tmp_path / "layers.json"
    path.write_bytes(layers_json(ir.load(network.path), feeds))
    session = runtime.open(network, runtime.Options(threads=1))
    times = session.profile(feeds, 20)
    session.close()
    found = join(times, read_layers(path), None)
    assert sum(item.share for item in found) == pytest.approx(1.0)
    by_module = {item.modules[0]: item for item in found if item.modules}
    assert by_module["stem.0"].nodes == ("conv", "relu")
    assert by_module["stem.0"].macs == 8 * 256 * 27
    assert by_module["head"].macs == 40
    mapped = {name for item in found for name in item.nodes}
    assert mapped == {"conv", "relu", "mean", "head"}

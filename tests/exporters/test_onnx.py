from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit.context import PassContext
from edgekit.contracts import TensorSpec
from edgekit.errors import OutputError, SourceError
from edgekit.exporters.onnx import PLUGIN
from edgekit.graph import MODULE_PATH, clone, initializer_bytes, specs

RNG = np.random.default_rng(0)


def graph(size: int = 64) -> ir.Model:
    """y = relu(x @ w), as an exporter leaves it: with documentation and metadata on everything."""
    x = ir.val("x", ir.DataType.FLOAT, ("batch", size))
    w = ir.Value(name="w", const_value=ir.tensor(RNG.standard_normal((size, size), np.float32), name="w"))
    product = ir.node("MatMul", [x, w], name="mm", doc_string="a line", metadata_props={MODULE_PATH: "fc", "pkg": "1"})
    product.outputs[0].metadata_props["pkg.torch"] = "value"
    relu = ir.node("Relu", product.outputs, name="relu")
    y = relu.outputs[0]
    y.name, y.dtype, y.shape = "y", ir.DataType.FLOAT, ir.Shape(("batch", size))
    main = ir.Graph([x], [y], nodes=[product, relu], initializers=[w], opset_imports={"": 20}, name="net")
    main.metadata_props["pkg.torch.signature"] = "long"
    return ir.Model(main, ir_version=14, producer_name="torch")


def write(model: ir.Model, folder: Path, **options: int) -> tuple[onnx.ModelProto, dict[str, object]]:
    exporter = PLUGIN()
    artifact, info = exporter.write(model, folder, "fp32", exporter.Options(**options), PassContext())
    assert artifact.path.parent == folder and artifact.format == "onnx" and artifact.precision == "fp32"
    return onnx.load(artifact.path, load_external_data=False), dict(info)


def test_it_runs_and_says_what_it_takes(tmp_path: Path) -> None:
    model = graph()
    artifact, info = PLUGIN().write(model, tmp_path, "fp32", PLUGIN.Options(), PassContext())
    assert artifact.inputs == (TensorSpec("x", "float32", ("batch", 64)),)
    assert artifact.outputs == (TensorSpec("y", "float32", ("batch", 64)),)
    assert info == {"opset": 20, "ir_version": 10, "weight_bytes": 64 * 64 * 4, "external_data": False}
    x = RNG.standard_normal((3, 64), np.float32)
    (got,) = onnxruntime.InferenceSession(str(artifact.path)).run(None, {"x": x})
    want = np.maximum(x @ model.graph.initializers["w"].const_value.numpy(), 0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_only_the_module_path_goes_along_and_the_graph_is_left_as_it_was(tmp_path: Path) -> None:
    model = graph()
    written, _ = write(model, tmp_path)
    assert {item.key: item.value for item in written.graph.node[0].metadata_props} == {MODULE_PATH: "fc"}
    assert not written.graph.metadata_props and not written.graph.node[0].doc_string
    assert not any(info.metadata_props for info in written.graph.value_info)
    assert written.producer_name == "edgekit"
    assert model.graph.node("mm").doc_string == "a line" and model.graph.metadata_props and model.ir_version == 14


def test_large_weights_lie_beside_the_file(tmp_path: Path) -> None:
    model = graph()
    written, info = write(model, tmp_path, external_data_above_bytes=1000)
    assert info["external_data"] is True
    assert (tmp_path / "model.onnx.data").stat().st_size == 64 * 64 * 4
    assert written.graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert not isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)


def test_weights_in_somebody_elses_external_data_come_into_the_file(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    ir.save(graph(), tmp_path / "theirs" / "net.onnx", external_data="weights.bin")
    written, _ = write(ir.load(tmp_path / "theirs" / "net.onnx"), tmp_path / "ours")
    assert written.graph.initializer[0].data_location != onnx.TensorProto.EXTERNAL
    assert sorted(item.name for item in (tmp_path / "ours").iterdir()) == ["model.onnx"]
    onnxruntime.InferenceSession(str(tmp_path / "ours" / "model.onnx"))


@pytest.mark.parametrize("limit", [0, 200_000_000])
def test_equal_graphs_give_equal_bytes(tmp_path: Path, limit: int) -> None:
    model, digests = graph(), []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(clone(model), tmp_path / name, external_data_above_bytes=limit)
        digests.append({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (tmp_path / name).iterdir()})
    assert digests[0] == digests[1]


def test_an_input_with_a_default_becomes_a_constant(tmp_path: Path) -> None:
    model = graph()
    weight = model.graph.initializers["w"]
    weight.dtype, weight.shape = ir.DataType.FLOAT, ir.Shape((64, 64))
    model.graph.inputs.append(weight)
    assert [item.name for item in specs(model)[0]] == ["x"]
    written, _ = write(model, tmp_path)
    assert [item.name for item in written.graph.input] == ["x"]
    assert len(model.graph.inputs) == 2


@pytest.mark.parametrize(("opset", "ir_version"), [(17, 10), (20, 10), (22, 10), (23, 11), (24, 12), (25, 13)])
def test_the_ir_version_is_the_lowest_that_holds_the_opset(tmp_path: Path, opset: int, ir_version: int) -> None:
    model = graph()
    model.graph.opset_imports[""] = opset
    assert write(model, tmp_path)[1]["ir_version"] == ir_version


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '.*model\.onnx': No such file or directory"):
        write(graph(), tmp_path / "absent")


def test_an_initializer_without_a_value(tmp_path: Path) -> None:
    model = graph()
    model.graph.initializers["w"].const_value = None
    with pytest.raises(SourceError, match="initializers without a value: w"):
        write(model, tmp_path)


def test_the_limit_stays_below_protobufs() -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1500000000, got 3000000000"):
        PLUGIN.Options(external_data_above_bytes=3_000_000_000)


@pytest.mark.slow
def test_weights_beyond_two_gibibytes(tmp_path: Path) -> None:
    """Nine zero matrices that share no memory page until written: 2.4 GB of file, sparse where the system allows."""
    x = ir.val("x", ir.DataType.FLOAT, (1, 8192))
    weights = [
        ir.Value(name=f"w{i}", const_value=ir.Tensor(np.zeros((8192, 8192), np.float32), name=f"w{i}"))
        for i in range(9)
    ]
    nodes, value = [], x
    for weight in weights:
        nodes.append(ir.node("MatMul", [value, weight]))
        value = nodes[-1].outputs[0]
    value.name, value.dtype, value.shape = "y", ir.DataType.FLOAT, ir.Shape((1, 8192))
    model = ir.Model(ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 20}), ir_version=10)
    assert initializer_bytes(model) > 2**31
    _, info = write(model, tmp_path)
    assert info["external_data"] is True
    onnx.checker.check_model(str(tmp_path / "model.onnx"))

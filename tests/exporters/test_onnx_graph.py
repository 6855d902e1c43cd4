""".onnx → graph: names kept, free dimensions as the source says, old opsets raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit.accuracy.claims import check_claims
from edgekit.exporters import GraphRequest
from edgekit.exporters.onnx_graph import PLUGIN
from edgekit.graph import MODULE_PATH
from edgekit.sources.load import load_source

FLOAT = onnx.TensorProto.FLOAT


def write(path: Path, opset: int = 20, ir_version: int = 8, listed: bool = False, external: bool = False) -> Path:
    """y = softmax(x·w) over free dimensions; the weight may be listed among the inputs, or lie in a file of its own."""
    weight = onnx.numpy_helper.from_array(np.arange(512, dtype="f4").reshape(4, 128) / 512, "w")
    inputs = [oh.make_tensor_value_info("x", FLOAT, [None, "rows", 4])]
    if listed:
        inputs.append(oh.make_tensor_value_info("w", FLOAT, [4, 128]))
    graph = oh.make_graph(
        [
            oh.make_node("MatMul", ["x", "w"], ["h"], name="/encoder/layer.0/MatMul"),
            oh.make_node("Softmax", ["h"], ["y"], axis=2),
        ],
        "g",
        inputs,
        [oh.make_tensor_value_info("y", FLOAT, [None, "rows", 128])],
        initializer=[weight],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=ir_version)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.stem}.data", size_threshold=0)
    return path


def graph_of(path: Path, **options: object) -> ir.Model:
    source = load_source(path, **options)  # type: ignore[arg-type]
    check_claims(source)
    model = PLUGIN().to_graph(source, GraphRequest(20, path.parent / "report.txt"))
    assert isinstance(model, ir.Model)
    return model


def run(
    path: Path, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    result: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = onnxruntime.InferenceSession(str(path)).run(
        None, {"x": x}
    )[0]
    return result


def test_names_dimensions_and_module_paths(tmp_path: Path) -> None:
    model = graph_of(write(tmp_path / "m.onnx"), dynamic=["x:0=items"])
    shape = model.graph.inputs[0].shape
    assert shape is not None and [getattr(d, "value", d) for d in shape] == ["items", "rows", 4]
    assert [node.metadata_props.get(MODULE_PATH) for node in model.graph] == ["encoder.layer.0", None]
    assert all(node.name for node in model.graph)


def test_a_fixed_dimension_is_fixed_everywhere(tmp_path: Path) -> None:
    model = graph_of(write(tmp_path / "m.onnx"), inputs=["x:float32:1x7x4"])
    assert model.graph.inputs[0].shape == (1, 7, 4)
    output = model.graph.outputs[0].shape
    assert output is not None and output[1] == 7


def test_external_weights_stay_in_their_file(tmp_path: Path) -> None:
    model = graph_of(write(tmp_path / "m.onnx", external=True))
    weight = model.graph.initializers["w"].const_value
    assert isinstance(weight, ir.ExternalTensor) and weight.numpy()[0, 1] == np.float32(1 / 512)


@pytest.mark.parametrize("listed", [False, True])
def test_an_old_opset_is_raised(tmp_path: Path, listed: bool) -> None:
    path = write(tmp_path / "old.onnx", opset=13, ir_version=7, listed=listed)
    model = graph_of(path)
    assert model.opset_imports[""] >= 17
    assert [value.name for value in model.graph.inputs] == ["x"]
    ir.save(model, tmp_path / "new.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("f4")
    np.testing.assert_allclose(run(tmp_path / "new.onnx", x), run(path, x), rtol=1e-6)


def test_a_newer_opset_is_kept(tmp_path: Path) -> None:
    assert graph_of(write(tmp_path / "m.onnx", opset=21, ir_version=10)).opset_imports[""] == 21

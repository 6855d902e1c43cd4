from __future__ import annotations

import numpy as np
import pytest

from edgekit.contracts import Artifact, TensorSpec


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """y = x · W as an ONNX file: x [1, 8] → y [1, 3], W[i, j] = i + j."""
    import onnx
    from onnx import helper, numpy_helper

    path = tmp_path_factory.mktemp("linear") / "model.onnx"
    weight = np.add.outer(np.arange(8), np.arange(3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    inputs, outputs = (TensorSpec("x", "float32", (1, 8)),), (TensorSpec("y", "float32", (1, 3)),)
    return Artifact(path, "onnx", "fp32", inputs, outputs)

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from edgekit.accuracy.reference import onnx_reference, reference_for
from edgekit.errors import SourceError
from edgekit.sources.load import load_source


def save(path: Path, nodes: list[onnx.NodeProto], domain: str = "") -> Path:
    """A model x[2] → y[2]."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [2])], [helper.make_tensor_value_info("y", 1, [2])]
    )
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


FEEDS = {"x": np.array([-1.0, 4.0], np.float32)}


def test_pytorch() -> None:
    module = torch.nn.Linear(2, 3).eval()
    reference = reference_for(load_source((module, (torch.zeros(1, 2),))))
    assert reference.name == f"PyTorch {torch.__version__.split('+')[0]} fp32"
    x = np.ones((1, 2), np.float32)
    ((_, got),) = reference.run({"input": x}).items()
    np.testing.assert_array_equal(got, module(torch.from_numpy(x)).detach().numpy())


def test_onnx(tmp_path: Path) -> None:
    source = load_source(str(save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])))
    reference = reference_for(source)
    assert reference.name == f"onnx.reference {onnx.__version__}"
    assert reference.run(FEEDS)["y"].tolist() == [0.0, 4.0]


def test_an_operator_that_the_evaluator_lacks(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")], "com.microsoft"
    )
    reference = onnx_reference(path, FEEDS)
    assert reference.name.startswith("ONNX Runtime ")
    assert "unoptimised (onnx.reference cannot run it: " in reference.name
    expected = FEEDS["x"] / (1 + np.exp(-1.702 * FEEDS["x"]))  # x·σ(αx), α = 1.702
    np.testing.assert_allclose(reference.run(FEEDS)["y"], expected, rtol=1e-5)


def test_an_evaluator_that_is_too_slow(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    reference = onnx_reference(path, FEEDS, limit_s=0.0)
    assert reference.name.endswith("unoptimised (onnx.reference needs over 0 s a sample)")
    assert reference.run(FEEDS)["y"].tolist() == [0.0, 4.0]


def test_a_file_that_nothing_runs(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"])])
    with pytest.raises(SourceError, match=r"m\.onnx has no reference to compare with") as raised:
        onnx_reference(path, FEEDS)
    assert "onnx.reference cannot run it" in raised.value.details[0]
    assert "NoSuchOp" in raised.value.details[1]

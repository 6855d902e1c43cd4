from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from edgekit.accuracy.reference import onnx_reference, reference_for
from edgekit.errors import SourceError, UsageError
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


def test_of_a_file_it_is_what_two_evaluators_agree_on(tmp_path: Path) -> None:
    source = load_source(str(save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])))
    reference = reference_for(source)
    assert reference.name.startswith("ONNX Runtime ")
    assert reference.run(FEEDS)["y"].tolist() == [0.0, 4.0]
    assert reference.report is not None
    (other,) = reference.report.others
    assert (reference.report.decided_by, other.name, other.agrees) == (
        "agreement",
        f"onnx.reference {onnx.__version__}",
        True,
    )


def test_the_user_decides(tmp_path: Path) -> None:
    source = load_source(str(save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])))
    reference = reference_for(source, choice="openvino")
    assert reference.name.startswith("OpenVINO ")
    assert reference.report is not None and reference.report.decided_by == "option"
    assert [item.agrees for item in reference.report.others] == [True, True]
    with pytest.raises(UsageError, match="--reference 'openvin' is not known"):
        reference_for(source, choice="openvin")
    torch_source = load_source((torch.nn.Linear(2, 3).eval(), (torch.zeros(1, 2),)))
    with pytest.raises(UsageError, match=r"--reference is for \.onnx files"):
        reference_for(torch_source, choice="openvino")


def test_a_file_that_nothing_runs(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"])])
    with pytest.raises(SourceError, match=r"m\.onnx has no reference to compare with") as raised:
        onnx_reference(path, [FEEDS])
    assert "onnx.reference cannot run it" in raised.value.details[0]
    assert "NoSuchOp" in raised.value.details[1]

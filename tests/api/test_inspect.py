"""`inspect`, and what the engines say to a graph they do not take."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from edgekit import plugins
from edgekit.analysis.engine_support import ask_engines, one_node_model, signature
from edgekit.api.inspect import inspect, is_bundle
from edgekit.cli import main
from edgekit.errors import EngineError, SourceError, UsageError
from edgekit.graph import MODULE_PATH
from edgekit.report.inspection import inspection_text
from edgekit.target.load import load_target

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)), (torch.randn(1, 1, 8, 8),)
"""


def bfloat16_gemm(copies: int = 1) -> ir.Model:
    """ONNX Runtime has no bfloat16 Gemm on the CPU; OpenVINO has."""
    nodes = [helper.make_node("Cast", ["x"], ["h0"], name="down", to=TensorProto.BFLOAT16)]
    for index in range(copies):
        nodes.append(helper.make_node("Gemm", [f"h{index}", "w"], [f"h{index + 1}"], name=f"gemm{index}"))
    nodes.append(helper.make_node("Cast", [f"h{copies}"], ["y"], name="up", to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        initializer=[helper.make_tensor("w", TensorProto.BFLOAT16, [4, 4], [1.0] * 16)],
        value_info=[
            helper.make_tensor_value_info(f"h{index}", TensorProto.BFLOAT16, [2, 4]) for index in range(copies + 1)
        ],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    for node in model.graph:
        if node.op_type == "Gemm":
            node.metadata_props[MODULE_PATH] = f"encoder.{node.name}"
    return model


def test_engines_that_take_it_and_engines_that_do_not(tmp_path: Path) -> None:
    answers = {item.runtime: item for item in ask_engines(bfloat16_gemm(), load_target("cpu"), tmp_path)}
    assert answers["openvino"].takes
    refused = answers["onnxruntime"]
    assert not refused.takes
    (gemm,) = refused.refusals
    assert (gemm.op_type, gemm.count, gemm.modules) == ("Gemm", 1, ("encoder.gemm0",))
    assert gemm.signature == "(bfloat16[2], bfloat16[2])"
    assert gemm.words.startswith("[ONNXRuntimeError]")
    assert "Could not find an implementation for Gemm" in gemm.words


def test_equal_operators_are_asked_once_and_counted(tmp_path: Path) -> None:
    answers = {item.runtime: item for item in ask_engines(bfloat16_gemm(3), load_target("cpu"), tmp_path)}
    (gemm,) = answers["onnxruntime"].refusals
    assert gemm.count == 3
    assert gemm.modules == ("encoder.gemm0", "encoder.gemm1", "encoder.gemm2")


def test_the_graph_is_left_as_it_was(tmp_path: Path) -> None:
    model = bfloat16_gemm()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    ask_engines(model, load_target("cpu"), tmp_path)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_one_node_model_is_valid_and_keeps_constants() -> None:
    model = bfloat16_gemm()
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    alone = one_node_model(gemm, model)
    assert alone is not None
    assert [value.name for value in alone.graph.inputs] == ["h0"]
    assert list(alone.graph.initializers) == ["w"]
    onnx.checker.check_model(ir.to_proto(alone), full_check=True)


def test_a_node_with_a_body_is_not_asked_alone() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, [2])]
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert one_node_model(next(iter(model.graph)), model) is None


def test_signature_tells_dtypes_ranks_and_attributes() -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, "n"]))
    node = ir.Node(
        "", "Resize", [x, None, x], attributes=[ir.AttrString("mode", "cubic"), ir.AttrInt64("antialias", 1)]
    )
    assert signature(node) == "(float[2], —, float[2]) antialias=1 mode=cubic"


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:build"


def test_inspect_a_factory_with_a_target(net: str) -> None:
    found = inspect(net, target="cpu")
    assert found.runs is True
    assert {item.runtime for item in found.engines} == {"onnxruntime", "openvino"}
    value = json.loads(json.dumps(found.to_json()))
    assert value["parameters"]["count"] == 8 * 9 + 8 + 8 * 36 * 10 + 10
    assert value["macs"]["total"] == 8 * 36 * 9 + 8 * 36 * 10
    assert value["operators"]["Conv"] == 1
    text = inspection_text(found, colour=False, width=100)
    assert "parameters  2.97 k" in text
    assert "takes it    onnxruntime" in text


def test_inspect_without_a_target_asks_nobody(net: str) -> None:
    found = inspect(net)
    assert found.engines == ()
    assert found.runs is None


def test_a_model_that_no_engine_takes_exits_5(tmp_path: Path) -> None:
    path = tmp_path / "gemm.onnx"
    ir.save(bfloat16_gemm(), path)
    result = CliRunner().invoke(main, ["inspect", str(path), "--target", "cpu-onnxruntime"])
    assert result.exit_code == 5, result.stderr
    assert "refuses it  onnxruntime" in result.stdout
    assert "    Gemm  (" in result.stdout
    assert "edgekit: no engine of target 'cpu-onnxruntime' takes this model\n" in result.stderr


def test_a_target_none_of_whose_engines_is_installed_exits_6(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # Python's import then fails as where it is not installed
    result = CliRunner().invoke(main, ["inspect", net, "--target", "cpu-onnxruntime"])
    assert result.exit_code == 6, result.stderr
    assert "not asked   onnxruntime: onnxruntime is not installed. Install it: pip install onnxruntime" in result.stdout
    assert "could be asked whether it takes this model" in result.stderr


def test_one_engine_that_refuses_beside_one_that_is_missing_exits_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    ir.save(bfloat16_gemm(), tmp_path / "gemm.onnx")
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "gemm.onnx"), "--target", "cpu"])
    assert result.exit_code == 5, result.stderr
    assert "not asked   openvino" in result.stdout and "refuses it  onnxruntime" in result.stdout


def test_a_missing_source_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        inspect(str(tmp_path / "gone.onnx"))


def test_what_is_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "x.edgekit"
    folder.mkdir()
    assert not is_bundle(folder)
    (folder / "manifest.json").write_text("{}")
    assert is_bundle(folder)
    assert is_bundle(str(folder))
    assert not is_bundle(np)


def test_a_bundle_has_its_target_already(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="is a bundle, made for one target already"):
        inspect(tmp_path, target="cpu")


def test_an_engine_that_cannot_run_here_is_judged_by_its_rules(net: str) -> None:
    try:
        plugins.load("runtimes", "tensorrt")().version()
    except EngineError as missing:
        told = missing.what
    else:
        pytest.skip("TensorRT runs here, and is asked itself: pip uninstall tensorrt")
    found = inspect(net, target="jetson")
    (engine,) = found.engines
    assert (engine.takes, engine.by_rules, engine.version) == (True, True, None)
    assert engine.reason is not None and engine.reason.endswith(told) and found.runs
    assert "takes it    tensorrt: nothing is documented against it" in inspection_text(found, colour=False, width=200)

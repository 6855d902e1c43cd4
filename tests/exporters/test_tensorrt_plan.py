"""What the exporter writes: the graph as TensorRT wants it, and the recipe beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.context import PassContext
from edgekit.contracts import TensorSpec
from edgekit.errors import EngineError
from edgekit.exporters import Checks
from edgekit.exporters.tensorrt_plan import PlanOptions, TensorRtPlan, shape_ranges
from edgekit.graph import MODULE_PATH
from edgekit.runtimes._tensorrt_recipe import ShapeRange, read_recipe


def network(batch: int | str = 1, op_type: str = "Relu") -> ir.Model:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node(op_type, ["c"], ["y"], name="act")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return ir.serde.deserialize_model(made)


def test_the_artifact_is_an_onnx_file_with_its_recipe(tmp_path: Path) -> None:
    exporter = TensorRtPlan()
    options = PlanOptions(workspace_bytes=1 << 20, optimization_level=5)
    artifact, info = exporter.write(network(), tmp_path, "fp32", options, PassContext())
    assert artifact.format == "tensorrt" and artifact.path == tmp_path / "model.onnx"
    assert {item.name for item in tmp_path.iterdir()} == {"model.onnx", "recipe.json"}
    onnx.checker.check_model(onnx.load(artifact.path))
    recipe = read_recipe(tmp_path)
    assert (recipe.precision, recipe.workspace_bytes, recipe.optimization_level) == ("fp32", 1 << 20, 5)
    assert recipe.profiles == {} and recipe.dla_core is None
    assert info["recipe"] == json.loads(recipe.dumps()) and info["plan"].startswith("not built here")
    assert isinstance(exporter, Checks)


def test_free_dimensions_become_a_profile(tmp_path: Path) -> None:
    context = PassContext(dimensions={"batch": (1, 4, 16)})
    TensorRtPlan().write(network("batch"), tmp_path, "fp32", PlanOptions(), context)
    assert read_recipe(tmp_path).profiles == {"x": ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (16, 3, 8, 8))}


def test_ranges_are_whole_or_none() -> None:
    inputs = [TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("image", "float32", (1, 3))]
    assert shape_ranges(inputs, {"batch": (1, 2, 4)}) == {}
    assert shape_ranges(inputs, {"batch": (1, 2, 4), "seq": (8, 16, 32)}) == {
        "ids": ShapeRange((1, 8), (2, 16), (4, 32))
    }


def test_a_refused_graph_is_not_written(tmp_path: Path) -> None:
    model = network(op_type="Det")
    list(model.graph)[1].metadata_props[MODULE_PATH] = "head"
    with pytest.raises(EngineError) as caught:
        TensorRtPlan().write(model, tmp_path, "fp32", PlanOptions(), PassContext())
    assert caught.value.what == "TensorRT 10.3 or later would refuse it (Det: TensorRT's parser does not have it)"
    assert caught.value.details == (
        "Det  (head)  TensorRT's parser does not have it. Rewrite the module with other operators",
    )
    assert list(tmp_path.iterdir()) == []


def test_equal_findings_of_several_nodes_are_told_once(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], [f"y{index}"], name=f"det{index}") for index in range(5)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])],
        [helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, [2]) for index in range(5)],
    )
    model = ir.serde.deserialize_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )
    with pytest.raises(EngineError) as caught:
        TensorRtPlan().write(model, tmp_path, "fp32", PlanOptions(), PassContext())
    assert caught.value.what.endswith("does not have it, and 4 more)")
    assert len(caught.value.details) == 1 and caught.value.details[0].startswith("Det  (det0, det1, det2 and 2 more)  ")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"workspace_bytes": -1}, "'workspace_bytes' must be 0 or more, got -1"),
        ({"optimization_level": 6}, r"'optimization_level' must lie in 0\.\.5, got 6"),
        ({"dla_core": -1}, "'dla_core' must be 0 or more, got -1"),
        ({"gpu_fallback": True}, "'gpu_fallback' is for a 'dla_core'; none is stated"),
    ],
)
def test_options_that_cannot_be(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanOptions(**table)  # type: ignore[arg-type]

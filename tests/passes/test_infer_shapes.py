from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.graph import clone
from edgekit.passes.infer_shapes import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.ones((2, 8), np.float32)}
MATMUL = "(float[2, 8] x, float[8, 512] w) => (float[2, 512] y) { h = MatMul (x, w) y = Relu (h) }"
W = {"w": np.ones((8, 512), np.float32)}
CASES = {
    "a chain": (MATMUL, W, True, "found 1 of 2 shapes"),
    "by a constant": (
        "(float[2, 8] x, int64[2] s) => (float[4, 4] y) { h = Reshape (x, s) y = Relu (h) }",
        {"s": np.array([4, 4])},
        True,
        "found 1 of 2 shapes",
    ),
    "in a branch": (
        """(float[2, 8] x, bool c) => (float[8, 2] y) {
            y = If (c) <then_branch = t () => (float[8, 2] a) { n = Neg (x) a = Transpose (n) },
                        else_branch = e () => (float[8, 2] b) { b = Transpose (x) }> }""",
        {},
        True,
        "found 1 of 4 shapes",
    ),
    "known": ("(float[2, 8] x) => (float[2, 8] y) { y = Relu (x) }", {}, False, "1 of 1 shapes are known already"),
}


class TestInferShapes(PassConformance):
    PASS = PLUGIN
    rtol, atol = 0.0, 0.0

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        text, weights, changes, says = CASES[request.param]
        feeds = {**X, "c": np.array(True)} if "bool c" in text else X
        return Case(graph_of(text, weights), feeds, changes, says)


def test_weights_are_where_they_were() -> None:
    model = graph_of(MATMUL, W)
    tensor = model.graph.initializers["w"].const_value
    PLUGIN()(model)
    assert model.graph.initializers["w"].const_value is tensor
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert model.graph[0].outputs[0].shape == ir.Shape((2, 512))
    assert model.graph[0].outputs[0].dtype == ir.DataType.FLOAT


def test_a_free_dimension_keeps_its_name() -> None:
    text = "(float[batch, 8] x, float[8, 512] w) => (float[batch, 512] y) { h = MatMul (x, w) y = Relu (h) }"
    model = graph_of(text, W)
    PLUGIN()(model)
    assert model.graph[0].outputs[0].shape == ir.Shape(("batch", 512))


def test_what_no_schema_tells_stays_unknown() -> None:
    model = graph_of("(float[2] x) => (float[2] y) { h = com.microsoft.Unheard (x) y = com.microsoft.Unheard (h) }")
    assert PLUGIN()(model).record.detail == "1 of 2 shapes are known already; 1 stay unknown"


def test_a_contradiction_is_told() -> None:
    model = graph_of("(float[2, 3] x, float[4, 5] z) => (float[2, 5] y) { y = MatMul (x, z) }")
    record = PLUGIN()(model).record
    assert not record.modified
    assert "onnx says: " in record.detail and "Incompatible dimensions for matrix multiplication" in record.detail


@pytest.mark.slow
def test_more_than_two_gibibytes() -> None:
    """The weights are one zero matrix, shared by reference: 2.4 GB to a serializer, 268 MB in memory."""
    tensor = ir.Tensor(np.zeros((8192, 8192), np.float32), name="w")
    x = ir.val("x", ir.DataType.FLOAT, (1, 8192))
    weights = [ir.Value(name=f"w{i}", const_value=tensor) for i in range(9)]
    nodes, value = [], x
    for weight in weights:
        nodes.append(ir.node("MatMul", [value, weight]))
        value = nodes[-1].outputs[0]
    value.name, value.dtype, value.shape = "y", ir.DataType.FLOAT, ir.Shape((1, 8192))
    model = ir.Model(ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 20}), ir_version=10)
    assert PLUGIN()(clone(model)).record.detail == "found 8 of 9 shapes"

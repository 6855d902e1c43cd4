from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.passes.materialize_reshapes import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)}
# name → (shape of y, the shape that is computed, changes, the constant or what the record says)
CASES = {
    "two free ones in place": ("batch, length, 2, 4", [2, 3, 2, 4], True, [0, 0, 2, 4]),
    "one free one out of place": ("batch, 4, length, 2", [2, 4, 3, 2], True, [0, 4, -1, 2]),
    "one new one": ("rows, 8", [6, 8], True, [-1, 8]),
    "all known": ("6, 8", [6, 8], True, [6, 8]),
    "two new ones": ("length, batch, 8", [3, 2, 8], False, "more than one of its dimensions is free and new"),
}


def model_of(shape: str) -> ir.Model:
    """The shape comes out of a node, so it is not constant."""
    rank = shape.count(",") + 1
    return graph_of(
        f"""(float[batch, length, 8] x, int64[{rank}] s) => (float[{shape}] y) {{
            one = Constant <value_int = 1> () t = Mul (s, one) y = Reshape <allowzero = 1> (x, t) }}"""
    )


class TestMaterializeReshapes(PassConformance):
    PASS = PLUGIN
    rtol, atol = 0.0, 0.0

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        shape, values, changes, says = CASES[request.param]
        says = says if isinstance(says, str) else "gave 1 of 1 Reshape a constant shape"
        return Case(model_of(shape), {**X, "s": np.array(values)}, changes, says)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_the_constant(name: str) -> None:
    shape, _, _, constant = CASES[name]
    model = model_of(shape)
    PLUGIN()(model)
    value = model.graph[-1].inputs[1]
    assert value is not None and value.const_value is not None
    assert value.const_value.numpy().tolist() == constant


@pytest.mark.parametrize(
    ("dim", "says"), [(0, "it is empty"), (None, "gave 1 of 1 Reshape a constant shape")]
)  # without a name a dimension is equal to none
def test_empty_and_nameless_dimensions(dim: int | None, says: str) -> None:
    model = model_of("batch, length, 8")
    model.graph.outputs[0].shape = ir.Shape(("batch", dim, 8))
    assert says in PLUGIN()(model).record.detail


def test_a_constant_shape_is_left() -> None:
    model = graph_of("(float[2, 8] x, int64[2] s) => (float[4, 4] y) { y = Reshape (x, s) }", {"s": np.array([4, 4])})
    assert PLUGIN()(model).record.detail == "all of 1 Reshape have a constant shape"

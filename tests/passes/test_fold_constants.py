from __future__ import annotations

import numpy as np
import pytest

from edgekit.context import PassContext
from edgekit.errors import UsageError
from edgekit.graph import MODULE_PATH
from edgekit.passes.fold_constants import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)}
CASES = {
    "arithmetic": (
        """(float[2, 3, 4] x) => (float[2, 3, 4] y) {
            two = Constant <value_float = 2.0> () three = Constant <value_float = 3.0> () six = Mul (two, three)
            y = Mul (x, six) }""",
        True,
        "folded 1 of 2 nodes",
    ),
    "a static shape": (
        """(float[2, 3, 4] x) => (float[2, 12] y) {
            s = Shape (x) zero = Constant <value_ints = [0]> () n = Gather (s, zero)
            rest = Constant <value_ints = [-1]> () shape = Concat <axis = 0> (n, rest) y = Reshape (x, shape) }""",
        True,
        "folded 3 of 4 nodes",
    ),
    "in a branch": (
        """(float[2, 3, 4] x, bool c) => (float[2, 3, 4] y) {
            y = If (c) <then_branch = t () => (float[2, 3, 4] a) {
                two = Constant <value_float = 2.0> () four = Mul (two, two) a = Mul (x, four) },
              else_branch = e () => (float[2, 3, 4] b) { b = Neg (x) }> }""",
        True,
        "",
    ),
    "nothing": ("(float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Relu (x) }", False, "no node has only constant inputs"),
    "a constant output": (
        "(float[2, 3, 4] x) => (float[2, 3, 4] y, float z) { y = Relu (x) z = Constant <value_float = 2.0> () }",
        False,
        "no node has only constant inputs",
    ),
}


class TestFoldConstants(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-6, 1e-7  # constants are computed by numpy instead of the engine

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        text, changes, says = CASES[request.param]
        feeds = {**X, "c": np.array(True)} if "bool c" in text else X
        return Case(graph_of(text), feeds, changes, says)


def test_weights_are_folded_too_but_do_not_grow() -> None:
    text = """(float[4, 8] x, float[8, 64] w, int64[2] big) => (float[4, 64] y, float[8, 64] z, float[600, 600] grown) {
        h = Transpose (w) v = Transpose (h) y = MatMul (x, v) z = Neg (w)
        one = Constant <value_float = 1.0> () grown = Expand (one, big) }"""
    w = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    model = graph_of(text, {"w": w, "big": np.array([600, 600])})
    PLUGIN()(model)
    assert [node.op_type for node in model.graph] == ["MatMul", "Expand"]
    assert max(value.const_value.nbytes for value in model.graph.initializers.values()) == w.nbytes


def test_an_input_with_a_default_is_not_constant() -> None:
    model = graph_of("(float x, float d) => (float y) { n = Neg (d) y = Add (x, n) }", {"d": np.array(1, np.float32)})
    model.graph.inputs.append(model.graph.initializers["d"])
    assert not PLUGIN()(model).record.modified
    assert [node.op_type for node in model.graph] == ["Neg", "Add"]


def test_random_numbers_stay_random() -> None:
    model = graph_of("(float[3] x) => (float[3] y) { r = RandomNormal <shape = [3]> () y = Add (x, r) }")
    assert not PLUGIN()(model).record.modified


def test_nothing_of_the_folders_notes_is_left() -> None:
    model = graph_of(CASES["a static shape"][0])
    for node in model.graph:
        node.metadata_props[MODULE_PATH] = "head"
    PLUGIN()(model)
    values = [*model.graph.initializers.values(), *(output for node in model.graph for output in node.outputs)]
    assert not any(value.metadata_props for value in values)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        PLUGIN.from_table({"grow_elements": -1}, PassContext())
    assert str(error.value) == "pass 'fold_constants': 'grow_elements' must be 0 or more, got -1"

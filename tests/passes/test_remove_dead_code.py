from __future__ import annotations

import numpy as np
import pytest

from edgekit.passes.remove_dead_code import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.linspace(-1, 1, 6, dtype=np.float32)}
W = {"w": np.arange(6, dtype=np.float32)}
CASES = {
    "an unused chain": (
        "(float[6] x, float[6] w) => (float[6] y) { a = Add (x, w) b = Exp (a) y = Neg (x) }",
        True,
        "removed 2 of 3 nodes and 24 of 24 bytes of weights",
    ),
    "an identity between": ("(float[6] x) => (float[6] y) { a = Identity (x) y = Neg (a) }", True, "removed 1 of 2"),
    "an identity at the end": ("(float[6] x) => (float[6] y) { a = Neg (x) y = Identity (a) }", True, "removed 1 of 2"),
    "an output by two names": (
        "(float[6] x) => (float[6] a, float[6] y) { a = Neg (x) y = Identity (a) }",
        False,
        "every node and weight is needed by an output",
    ),
    "an input that is an output": ("(float[6] x) => (float[6] y) { y = Identity (x) }", False, "every node and weight"),
    "a weight that is an output": (
        "(float[6] x, float[6] w) => (float[6] y, float[6] z) { y = Neg (x) z = Identity (w) }",
        False,
        "every node and weight",
    ),
    "a branch that returns what is outside": (
        """(float[6] x, bool c) => (float[6] y) {
            a = Neg (x)
            y = If (c) <then_branch = t () => (float[6] p) { p = Identity (a) },
                        else_branch = e () => (float[6] q) { q = Exp (a) }> }""",
        False,
        "every node and weight",
    ),
    "dead code in a branch": (
        """(float[6] x, bool c) => (float[6] y) {
            y = If (c) <then_branch = t () => (float[6] p) { dead = Exp (x) p = Neg (x) },
                        else_branch = e () => (float[6] q) { q = Exp (x) }> }""",
        True,
        "removed 0 of 1 nodes",
    ),
}


class TestRemoveDeadCode(PassConformance):
    PASS = PLUGIN
    rtol, atol = 0.0, 0.0  # nothing is computed differently

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        text, changes, says = CASES[request.param]
        feeds = {**X, "c": np.array(True)} if "bool c" in text else X
        return Case(graph_of(text, W if " w)" in text else {}), feeds, changes, says)


def test_an_unused_input_stays() -> None:
    model = graph_of("(float[6] x, float[6] z) => (float[6] y) { a = Exp (z) y = Neg (x) }")
    PLUGIN()(model)
    assert [value.name for value in model.graph.inputs] == ["x", "z"] and len(model.graph) == 1


def test_a_domain_that_no_node_is_of_goes() -> None:
    model = graph_of("(float[6] x) => (float[6] y) { y = Neg (x) }")
    model.graph.opset_imports["org.example"] = 1
    assert PLUGIN()(model).record.modified
    assert "org.example" not in model.graph.opset_imports

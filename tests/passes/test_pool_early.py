from __future__ import annotations

import numpy as np
import pytest

from edgekit.passes.pool_early import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(5)
X = {"x": RNG.standard_normal((1, 2, 8, 8)).astype(np.float32)}
WEIGHTS = {
    "w": RNG.standard_normal((3, 2, 3, 3)).astype(np.float32),
    "b": np.array([0.5, -1.0, -90.0], np.float32),  # the last one makes every number negative
}
HEAD = "(float[1, 2, 8, 8] x, float[3, 2, 3, 3] w, float[3] b)"
POOL = "MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>"
CASES = {
    "bias and relu": (
        f"c = Conv (x, w, b) r = Relu (c) y = {POOL} (r)", ("Conv", "MaxPool", "Add", "Relu"),
    ),
    "bias alone": (f"c = Conv (x, w, b) y = {POOL} (c)", ("Conv", "MaxPool", "Add")),
    "relu alone": (f"c = Conv (x, w) r = Relu (c) y = {POOL} (r)", ("Conv", "MaxPool", "Relu")),
    "in the middle": (
        f"c = Conv (x, w, b) r = Relu (c) p = {POOL} (r) y = Neg (p)",
        ("Conv", "MaxPool", "Add", "Relu", "Neg"),
    ),
}  # fmt: skip
LEFT = {
    "read twice": (f"c = Conv (x, w, b) r = Relu (c) p = {POOL} (r) m = ReduceMean <keepdims = 1> (r) y = Add (p, m)",
                   "what comes before it is read elsewhere too"),
    "computed bias": (f"k = Neg (b) c = Conv (x, w, k) y = {POOL} (c)", "the bias is computed"),
    "indices": (f"c = Conv (x, w, b) p, i = {POOL} (c) f = Cast <to = 1> (i) y = Add (p, f)", "its indices are read"),
    "of something else": (f"a = Abs (x) s = Conv (a, w) t = Tanh (s) y = {POOL} (t)", "no Conv comes before it"),
    "in a branch": (
        f"c = Conv (x, w, b) r = Relu (c) s = ReduceMax <keepdims = 0> (x) z = Cast <to = 9> (s) y = If (z) <"
        f"then_branch = t () => (float[1, 3, 3, 3] p) {{ p = {POOL} (r) }}, "
        "else_branch = e () => (float[1, 3, 3, 3] q) { q = Conv <strides = [2, 2]> (x, w) }>",
        "what comes before it is outside of its subgraph",
    ),
    "dilated and padded": (
        "c = Conv (x, w, b) r = Relu (c)"
        " y = MaxPool <kernel_shape = [2, 2], dilations = [5, 5], pads = [1, 1, 1, 1]> (r)",
        "it is dilated and padded",
    ),
    "none": ("c = Conv <strides = [2, 2]> (x, w) y = Relu (c)", "the graph has no MaxPool"),
    "nothing between": (f"c = Conv (x, w) y = {POOL} (c)", "there is neither bias nor Relu"),
}  # fmt: skip


class TestPoolEarly(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-6, 1e-6  # the bias is added after the maximum: the same sums, once rounded each

    @pytest.fixture(params=[*CASES, *LEFT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        if request.param in CASES:
            body, _ = CASES[request.param]
            model = graph_of(f"{HEAD} => (float[1, 3, 3, 3] y) {{ {body} }}", WEIGHTS)
            return Case(model, X, changes=True, says="moved 1 of 1 MaxPool before a bias or Relu")
        body, says = LEFT[request.param]
        return Case(graph_of(f"{HEAD} => (float[1, N, 3, 3] y) {{ {body} }}", WEIGHTS), X, changes=False, says=says)


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_of_the_graph(name: str) -> None:
    body, expected = CASES[name]
    model = graph_of(f"{HEAD} => (float[1, 3, 3, 3] y) {{ {body} }}", WEIGHTS)
    changed = PLUGIN()(model).model
    assert tuple(node.op_type for node in changed.graph) == expected
    assert len(changed.graph.node(0).inputs) == 2, "the convolution has no bias any more"
    assert [value.name for value in changed.graph.outputs] == ["y"]

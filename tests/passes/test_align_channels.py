from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.passes import PassContext
from edgekit.passes.align_channels import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(4)
X = {"x": RNG.standard_normal((1, 3, 6, 6)).astype(np.float32)}
WEIGHTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((8, 4, 1, 1)).astype(np.float32),
    "u": RNG.standard_normal((2, 8, 1, 1)).astype(np.float32),
    "g": RNG.standard_normal((3, 1, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
}
HEAD = "(float[1, 3, 6, 6] x, float[4,3,3,3] w, float[8,4,1,1] v, float[2,8,1,1] u, float[3,1,3,3] g, float[4] b)"
CASES = {
    "the first": ("y = Conv <strides = [2, 1]> (x, w, b)", "1, 4, 2, 4", "gave 1 of 1 Conv 8 input channels"),
    "all that read few": (
        "a = Conv (x, w) r = Relu (a) c = Conv (r, v) y = Conv (c, u)", "1, 2, 4, 4",
        "gave 2 of 3 Conv 8 input channels",
    ),
    "one pad for two": ("a = Conv (x, w) c = Conv (x, w, b) y = Sub (a, c)", "1, 4, 4, 4", "gave 2 of 2 Conv 8"),
}  # fmt: skip
LEFT = {
    "with groups": ("y = Conv <group = 3> (x, g)", "1, 3, 4, 4", "it has groups"),
    "with computed weights": ("k = Relu (w) y = Conv (x, k)", "1, 4, 4, 4", "its weights are computed"),
    "none": ("y = Relu (x)", "1, 3, 6, 6", "the graph has no Conv"),
}


class TestAlignChannels(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-5, 1e-5  # another order of summing 27 products

    @pytest.fixture(params=[*CASES, *LEFT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        body, shape, says = (CASES | LEFT)[request.param]
        model = graph_of(f"{HEAD} => (float[{shape}] y) {{ {body} }}", WEIGHTS)
        return Case(model, X, changes=request.param in CASES, says=says)


def test_one_input_is_padded_once_and_the_narrow_weights_go() -> None:
    model = graph_of(f"{HEAD} => (float[1, 4, 4, 4] y) {{ {CASES['one pad for two'][0]} }}", WEIGHTS)
    changed = PLUGIN()(model).model
    assert [node.op_type for node in changed.graph] == ["Pad", "Conv", "Conv", "Sub"]
    assert "w" not in changed.graph.initializers


def test_refuses_a_number_that_aligns_nothing() -> None:
    with pytest.raises(UsageError, match="'channels' must be 2 or more, got 1"):
        PLUGIN.from_table({"channels": 1}, PassContext())

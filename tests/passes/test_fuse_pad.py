from __future__ import annotations

import numpy as np
import pytest

from edgekit.passes.fuse_pad import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(2)
X = {"x": RNG.standard_normal((1, 2, 5, 6)).astype(np.float32)}
W = RNG.standard_normal((3, 2, 3, 3)).astype(np.float32)
HEAD = "(float[1, 2, 5, 6] x, float[3, 2, 3, 3] w, int64[8] p, float v, int64[2] axes, int64[4] q)"
WEIGHTS = {
    "w": W,
    "p": np.array([0, 0, 0, 1, 0, 0, 1, 2]),
    "v": np.array(0, np.float32),
    "axes": np.array([-1, 2]),
    "q": np.array([1, 0, 2, 1]),
}
CASES = {
    "alone": ("t = Pad (x, p, v) y = Conv (t, w)", (4, 7), WEIGHTS, "folded 1 of 1 Pad"),
    "by axes": ("t = Pad (x, q, v, axes) y = Conv (t, w)", (4, 7), WEIGHTS, "folded 1 of 1 Pad"),
    "beside the conv's own": (
        "t = Pad (x, p) y = Conv <pads = [1, 0, 0, 2], strides = [2, 1]> (t, w)", (3, 9), WEIGHTS, "folded 1 of 1 Pad",
    ),
    "into two": ("t = Pad (x, p) a = Conv (t, w) b = Conv (t, w) y = Sub (a, b)", (4, 7), WEIGHTS, "folded 1 of 1 Pad"),
}  # fmt: skip
ONE = {**WEIGHTS, "v": np.array(1, np.float32)}
CHANNELS = {**WEIGHTS, "p": np.array([0, 1, 0, 0, 0, -1, 1, 0])}
LEFT = {
    "with ones": ("t = Pad (x, p, v) y = Conv (t, w)", (4, 7), ONE, "it does not pad by a known number of zeros"),
    "by reflection": (
        'm = Pad <mode = "reflect"> (x, p) y = Conv (m, w)', (4, 7), WEIGHTS,
        "it does not pad by a known number of zeros",
    ),
    "of channels": (
        "t = Pad (x, p) y = Conv (t, w)", (4, 4), CHANNELS,
        "it pads the batch or the channels, or takes away",
    ),
    "read by another": (
        "t = Pad (x, p) c = Conv (t, w) r = ReduceMax <keepdims = 1> (t) y = Add (c, r)", (4, 7), WEIGHTS,
        "it is not read by a Conv with stated pads",
    ),
    "before automatic padding": (
        't = Pad (x, p) y = Conv <auto_pad = "SAME_UPPER"> (t, w)', (6, 9), WEIGHTS,
        "it is not read by a Conv with stated pads",
    ),
    "none": ("y = Conv (x, w)", (3, 4), WEIGHTS, "the graph has no Pad"),
}  # fmt: skip


class TestFusePad(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-5, 1e-5  # another order of summing 18 products

    @pytest.fixture(params=[*CASES, *LEFT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        body, (rows, columns), weights, says = (CASES | LEFT)[request.param]
        model = graph_of(f"{HEAD} => (float[1, 3, {rows}, {columns}] y) {{ {body} }}", weights)
        return Case(model, X, changes=request.param in CASES, says=says)

from __future__ import annotations

import numpy as np
import pytest

from edgekit.passes.pool_means import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.random.default_rng(3).standard_normal((2, 3, 4, 5)).astype(np.float32)}
AXES = {
    "spatial": np.array([2, 3]),
    "behind": np.array([-1, -2]),
    "rows": np.array([2]),
    "channels": np.array([1, 2, 3]),
}
HEAD = "(float[2, 3, 4, 5] x, int64[2] spatial, int64[2] behind, int64[1] rows, int64[3] channels)"
CASES = {
    "kept axes": ("y = ReduceMean (x, spatial)", "2, 3, 1, 1", "rewrote 1 of 1 ReduceMean"),
    "from behind": ("y = ReduceMean <keepdims = 1> (x, behind)", "2, 3, 1, 1", "rewrote 1 of 1 ReduceMean"),
    "dropped axes": ("y = ReduceMean <keepdims = 0> (x, spatial)", "2, 3", "rewrote 1 of 1 ReduceMean"),
    "two": (
        "m = ReduceMean (x, spatial) n = ReduceMean (x, behind) y = Mul (m, n)", "2, 3, 1, 1",
        "rewrote 2 of 2 ReduceMean",
    ),
}  # fmt: skip
LEFT = {
    "of rows": ("y = ReduceMean (x, rows)", "2, 3, 1, 5", "it is over other axes than the spatial ones"),
    "of channels too": ("y = ReduceMean (x, channels)", "2, 1, 1, 1", "it is over other axes than the spatial ones"),
    "of everything": ("y = ReduceMean (x)", "1, 1, 1, 1", "it is over other axes than the spatial ones"),
    "none": ("y = Relu (x)", "2, 3, 4, 5", "the graph has no ReduceMean"),
}


class TestPoolMeans(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-5, 1e-6  # another order of summing 20 numbers

    @pytest.fixture(params=[*CASES, *LEFT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        body, shape, says = (CASES | LEFT)[request.param]
        model = graph_of(f"{HEAD} => (float[{shape}] y) {{ {body} }}", AXES)
        return Case(model, X, changes=request.param in CASES, says=says)

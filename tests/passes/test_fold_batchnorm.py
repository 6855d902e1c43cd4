from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.graph import clone
from edgekit.passes.fold_batchnorm import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of, run

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {"g": normal(channels), "b": normal(channels), "m": normal(channels), "v": np.abs(normal(channels)) + 0.1}


PARAMETERS = "float[{0}] g, float[{0}] b, float[{0}] m, float[{0}] v"
NORM = "y = BatchNormalization (z, g, b, m, v)"


def model_of(head: str, channels: int, body: str, weights: dict[str, np.ndarray], opset: int = 20) -> ir.Model:
    text = f"({head}, {PARAMETERS.format(channels)}) => (float[N] y) {{ {body} }}"
    model = graph_of(text, {**weights, **statistics(channels)}, opset)
    model.graph.outputs[0].shape = None
    return model


CONV = "float[2, 4, 7, 6] x, float[6, 4, 3, 3] w"
X4 = {"x": normal(2, 4, 7, 6)}

CASES = {
    "conv": (CONV, 6, f"z = Conv (x, w) {NORM}", {"w": normal(6, 4, 3, 3)}, X4, "folded 1 of 1"),
    "conv with a bias, strides and pads": (
        f"{CONV}, float[6] d",
        6,
        f"z = Conv <strides = [2, 1], pads = [1, 1, 1, 1]> (x, w, d) {NORM}",
        {"w": normal(6, 4, 3, 3), "d": normal(6)},
        X4,
        "folded 1 of 1",
    ),
    "depthwise conv": (
        "float[2, 4, 7, 6] x, float[4, 1, 3, 3] w",
        4,
        f"z = Conv <group = 4> (x, w) {NORM}",
        {"w": normal(4, 1, 3, 3)},
        X4,
        "folded 1 of 1",
    ),
    "another epsilon": (
        CONV,
        6,
        "z = Conv (x, w) y = BatchNormalization <epsilon = 0.5> (z, g, b, m, v)",
        {"w": normal(6, 4, 3, 3)},
        X4,
        "folded 1 of 1",
    ),
    "transposed conv": (
        "float[2, 4, 7, 6] x, float[4, 6, 2, 2] w",
        6,
        f"z = ConvTranspose <strides = [2, 2]> (x, w) {NORM}",
        {"w": normal(4, 6, 2, 2)},
        X4,
        "folded 1 of 1",
    ),
    "transposed conv in groups": (
        "float[2, 4, 7, 6] x, float[4, 3, 2, 2] w, float[6] d",
        6,
        f"z = ConvTranspose <group = 2> (x, w, d) {NORM}",
        {"w": normal(4, 3, 2, 2), "d": normal(6)},
        X4,
        "folded 1 of 1",
    ),
    "gemm with factors and a transposed weight": (
        "float[3, 5] x, float[4, 5] w, float[1, 4] d",
        4,
        f"z = Gemm <alpha = 2.0, beta = 0.25, transB = 1> (x, w, d) {NORM}",
        {"w": normal(4, 5), "d": normal(1, 4)},
        {"x": normal(3, 5)},
        "folded 1 of 1",
    ),
    "matmul": (
        "float[3, 5] x, float[5, 4] w",
        4,
        f"z = MatMul (x, w) {NORM}",
        {"w": normal(5, 4)},
        {"x": normal(3, 5)},
        "folded 1 of 1",
    ),
    "matmul with a bias added": (
        "float[3, 5] x, float[5, 4] w, float[4] d",
        4,
        f"p = MatMul (x, w) z = Add (d, p) {NORM}",
        {"w": normal(5, 4), "d": normal(4)},
        {"x": normal(3, 5)},
        "folded 1 of 1",
    ),
    "two in a row": (
        f"{CONV}, float[6, 6, 1, 1] u",
        6,
        f"z0 = Conv (x, w) r = BatchNormalization (z0, g, b, m, v) z = Conv (r, u) {NORM}",
        {"w": normal(6, 4, 3, 3), "u": normal(6, 6, 1, 1)},
        X4,
        "folded 2 of 2",
    ),
    "a weight that another node reads": (
        f"{CONV}",
        6,
        f"z = Conv (x, w) {NORM.replace('y =', 'n =')} other = Conv (x, w) y = Sub (n, other)",
        {"w": normal(6, 4, 3, 3)},
        X4,
        "folded 1 of 1",
    ),
}
KEPT = {
    "nothing before it": (
        "float[2, 4, 7, 6] z",
        4,
        NORM,
        {},
        {"z": normal(2, 4, 7, 6)},
        "1 left: no Conv, ConvTranspose, Gemm or MatMul comes before it",
    ),
    "a result that is read elsewhere": (
        CONV,
        6,
        f"z = Conv (x, w) {NORM.replace('y =', 'n =')} y = Add (n, z)",
        {"w": normal(6, 4, 3, 3)},
        X4,
        "1 left: what it normalizes is read by other nodes too",
    ),
    "a weight that is an input": (
        CONV,
        6,
        f"z = Conv (x, w) {NORM}",
        {},
        {**X4, "w": normal(6, 4, 3, 3)},
        "1 left: the weights before it are not constant",
    ),
    "a matmul whose columns are not the channels": (
        "float[2, 4, 5] x, float[5, 4] w",
        4,
        f"z = MatMul (x, w) {NORM}",
        {"w": normal(5, 4)},
        {"x": normal(2, 4, 5)},
        "1 left: its channel axis is not the last one of the MatMul before it",
    ),
    "no batch normalization": (
        "float[2, 4, 7, 6] x",
        4,
        "n = Relu (x) unused = Identity (g) y = Neg (n)",
        {},
        {"x": normal(2, 4, 7, 6)},
        "the graph has no BatchNormalization",
    ),
}


class TestFoldBatchNorm(PassConformance):
    PASS = PLUGIN
    # One float32 rounding of the weights, sums of at most 36 products: about 36 · 2⁻²⁴ of the largest summand.
    rtol, atol = 1e-5, 1e-4

    @pytest.fixture(params=[*CASES, *KEPT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        head, channels, body, weights, feeds, says = (CASES | KEPT)[request.param]
        model = model_of(head, channels, body, weights)
        model.graph.outputs[0].shape = ir.Shape(run(model, feeds)["y"].shape)
        for node in model.graph:  # the rank of what a MatMul gives, as any exporter states it
            if node.op_type in ("MatMul", "Add") and node.outputs[0].name != "y":
                node.outputs[0].shape = ir.Shape([None] * (3 if "[2, 4, 5]" in head else 2))
        return Case(model, feeds, changes=request.param in CASES, says=says)


def test_training_mode_is_left_with_the_reason() -> None:
    model = model_of(CONV, 6, "z = Conv (x, w) y, rm, rv = BatchNormalization <training_mode = 1> (z, g, b, m, v)",
                     {"w": normal(6, 4, 3, 3)})  # fmt: skip
    record = PLUGIN()(model).record
    assert not record.modified
    assert "1 left: it is in training mode, so its statistics change with the input" in record.detail


def test_weights_that_overflow_half_precision_are_left() -> None:
    weights = {"w": np.full((2, 1, 1, 1), 1000, np.float16)}
    text = """(float16[1, 1, 2, 2] x, float16[2, 1, 1, 1] w, float16[2] g, float16[2] b, float16[2] m, float16[2] v)
        => (float16[1, 2, 2, 2] y) { z = Conv (x, w) y = BatchNormalization (z, g, b, m, v) }"""
    tiny = np.full(2, 1e-4, np.float16)
    norm = {"g": np.ones(2, np.float16), "b": tiny, "m": tiny, "v": np.zeros(2, np.float16)}
    record = PLUGIN()(graph_of(text, {**weights, **norm})).record
    assert not record.modified and "1 left: the folded weights do not fit float16" in record.detail


def test_the_old_weights_are_gone_and_the_shared_one_stays() -> None:
    head, channels, body, weights, _, _ = CASES["a weight that another node reads"]
    model = model_of(head, channels, body, weights)
    shared = model.graph.initializers["w"].const_value
    PLUGIN()(model)
    assert model.graph.initializers["w"].const_value is shared
    assert not {"g", "b", "m", "v"} & set(model.graph.initializers)


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 3),
    per_group=st.integers(1, 3),
    inputs=st.integers(1, 3),
    transposed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_grouping(groups: int, per_group: int, inputs: int, transposed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = groups * per_group
    shape = (groups * inputs, per_group, 2, 2) if transposed else (channels, inputs, 2, 2)
    operator = "ConvTranspose" if transposed else "Conv"
    head = f"float[1, {groups * inputs}, 4, 4] x, float[{', '.join(map(str, shape))}] w"
    model = model_of(
        head, channels, f"z = {operator} <group = {groups}> (x, w) {NORM}",
        {"w": rng.standard_normal(shape).astype(np.float32)},
    )  # fmt: skip
    feeds = {"x": rng.standard_normal((1, groups * inputs, 4, 4)).astype(np.float32)}
    want = run(model, feeds)["y"]
    folded = clone(model)
    assert PLUGIN()(folded).record.modified
    np.testing.assert_allclose(run(folded, feeds)["y"], want, rtol=1e-4, atol=1e-4)

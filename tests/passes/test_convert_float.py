"""Both conversions, float16 and bfloat16, which share everything but the type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit.context import PassContext
from edgekit.graph import clone
from edgekit.passes import convert_bfloat16, convert_float16
from edgekit.target.load import load_target
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(11)
W = RNG.standard_normal((8, 4)).astype(np.float32)
X = {"x": RNG.standard_normal((3, 8)).astype(np.float32)}
HEAD = "(float[3, 8] x, float[8, 4] w"
TWO = f"{HEAD}) => (float[3, 4] y) {{ h = MatMul (x, w) y = Relu (h) }}"

# graph, weights, whether it changes, what it says, operators afterwards
CASES = {
    "a chain": (TWO, {"w": W}, True, "2 of 2 float32 nodes compute in float16", ["Cast", "MatMul", "Relu", "Cast"]),
    "a mask": (
        f"{HEAD}, float[4] mask) => (float[3, 4] y) {{ h = MatMul (x, w) a = Add (h, mask) y = Softmax (a) }}",
        {"w": W, "mask": np.array([np.finfo(np.float32).min, 0, 0, 0], np.float32)},
        True,
        "clipped 1 constants that stand for infinity",
        ["Cast", "MatMul", "Add", "Softmax", "Cast"],
    ),
    "a weight that does not fit": (
        f"{HEAD}, float[4] big) => (float[3, 4] y) {{ h = MatMul (x, w) a = Div (h, big) y = Relu (a) }}",
        {"w": W, "big": np.full(4, 1e6, np.float32)},
        True,
        "reads 'big', whose values do not fit float16",
        ["Cast", "MatMul", "Cast", "Div", "Cast", "Relu", "Cast"],
    ),
    "an epsilon that would vanish": (
        f"{HEAD}, float eps) => (float[3, 4] y) {{ h = MatMul (x, w) a = Abs (h) b = Add (a, eps) y = Log (b) }}",
        {"w": W, "eps": np.array(1e-12, np.float32)},
        True,
        "reads 'eps', whose values do not fit float16",
        ["Cast", "MatMul", "Abs", "Cast", "Add", "Cast", "Log", "Cast"],
    ),
    "a shared weight": (
        f"{HEAD}) => (float[3, 4] y, float[8, 4] z) {{ y = MatMul (x, w) z = CumSum (w, zero) }}".replace(
            "float[8, 4] w", "float[8, 4] w, int64 zero"
        ),
        {"w": W, "zero": np.array(0)},
        True,
        "1 stay: CumSum is kept by its type",
        None,
    ),
    "integers that count": (
        "(float[3, 8] x, int64[8] n) => (float[3, 8] y) { f = Cast <to = 1> (n) y = Mul (x, f) }",
        {"n": np.arange(8)},
        True,
        "2 of 2",
        None,
    ),
    "a branch": (
        f"""{HEAD}, bool c) => (float[3, 4] y) {{ h = MatMul (x, w)
            y = If (c) <then_branch = t () => (float[3, 4] p) {{ p = Neg (h) }},
                        else_branch = e () => (float[3, 4] q) {{ q = Exp (h) }}> }}""",
        {"w": W},
        True,
        "1 stay: If",
        ["Cast", "MatMul", "Cast", "If"],
    ),
    "integers only": (
        "(int64[3] x) => (int64[3] y) { y = Neg (x) }",
        {},
        False,
        "no node computes in float32",
        ["Neg"],
    ),
}


def case_of(name: str, says: str) -> Case:
    text, weights, changes, _, _ = CASES[name]
    feeds: dict[str, np.ndarray] = {**X, "c": np.array(True)} if "bool c" in text else dict(X)
    if "int64[3] x" in text:
        feeds = {"x": np.array([1, 2, 3])}
    return Case(graph_of(text, weights), feeds, changes, says)


class TestConvertFloat16(PassConformance):
    PASS = convert_float16.PLUGIN
    rtol, atol = 5e-3, 2e-2  # 2⁻¹¹ for each of 8 products of numbers up to 10

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        return case_of(request.param, CASES[request.param][3])


WIDE = {  # what float16 cannot hold
    "a weight that does not fit": "3 of 3 float32 nodes compute in bfloat16",
    "an epsilon that would vanish": "4 of 4 float32 nodes compute in bfloat16",
}


class TestConvertBFloat16(PassConformance):
    """Computed by onnx's reference evaluator: ONNX Runtime has no kernels for bfloat16 on the CPU."""

    PASS = convert_bfloat16.PLUGIN
    rtol, atol = 4e-2, 16e-2  # 2⁻⁸: three bits fewer than float16

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> Case:
        says = CASES[request.param][3].replace("float16", "bfloat16")
        return case_of(request.param, WIDE.get(request.param, says))

    def test_outputs_stay_equal(self, case: Case) -> None:
        before = clone(case.model)
        before.graph.name = "case"
        after = self._apply(case, clone(before)).model
        names = [item.name for item in before.graph.outputs]
        want, got = (ReferenceEvaluator(ir.to_proto(model)).run(names, dict(case.feeds)) for model in (before, after))
        for name, expected, array in zip(names, want, got, strict=True):
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape), name
            np.testing.assert_allclose(array, expected, rtol=self.rtol, atol=self.atol, err_msg=name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[4]])
def test_casts_lie_only_where_the_types_meet(name: str) -> None:
    text, weights, _, _, operators = CASES[name]
    model = graph_of(text, weights)
    convert_float16.PLUGIN()(model)
    assert [node.op_type for node in model.graph] == operators


def test_inputs_and_outputs_of_the_type_if_asked() -> None:
    model = graph_of(TWO, {"w": W})
    plugin = convert_float16.PLUGIN
    plugin.from_table({"keep_io": False}, PassContext())(model)
    assert [node.op_type for node in model.graph] == ["MatMul", "Relu"]
    assert model.graph.inputs[0].dtype == model.graph.outputs[0].dtype == ir.DataType.FLOAT16


def test_nodes_are_kept_by_name_and_by_type() -> None:
    model = graph_of(TWO, {"w": W})
    model.graph[0].name = "fragile"
    record = convert_float16.PLUGIN(context=PassContext(keep_float=frozenset({"fragile"})))(model).record
    assert "1 of 2 float32 nodes compute in float16; 1 stay: 'fragile' is kept by its name" in record.detail
    assert [node.op_type for node in model.graph] == ["MatMul", "Cast", "Relu", "Cast"]
    model = graph_of(TWO, {"w": W})
    record = convert_float16.PLUGIN.from_table({"keep_op_types": ["Relu"]}, PassContext())(model).record
    assert "1 stay: Relu is kept by its type" in record.detail


def test_a_mask_becomes_the_largest_number_and_infinity_stays() -> None:
    mask = np.array([np.finfo(np.float32).min, -np.inf, 0, 1], np.float32)
    for plugin, dtype in ((convert_float16.PLUGIN, np.float16), (convert_bfloat16.PLUGIN, ml_dtypes.bfloat16)):
        model = graph_of("(float[4] x, float[4] m) => (float[4] y) { y = Add (x, m) }", {"m": mask})
        plugin()(model)
        (low,) = [value.const_value.numpy() for value in model.graph.initializers.values() if value.const_value]
        assert low.dtype == dtype
        np.testing.assert_array_equal(low, np.array([-ml_dtypes.finfo(dtype).max, -np.inf, 0, 1], dtype))


def test_bfloat16_is_right_by_the_reference() -> None:
    """ONNX Runtime's CPU engine has no bfloat16 MatMul, so onnx's own evaluator judges."""
    model = graph_of(TWO, {"w": W})
    record = convert_bfloat16.PLUGIN()(model).record
    assert record.detail == "2 of 2 float32 nodes compute in bfloat16"
    model.graph.name = "case"
    (got,) = ReferenceEvaluator(ir.to_proto(model)).run(None, X)
    np.testing.assert_allclose(got, np.maximum(X["x"] @ W, 0), atol=0.1)  # 2⁻⁸ for each of 8 products of up to 6


def test_bfloat16_says_which_operators_do_not_take_it() -> None:
    text = "(float[1, 1, 4, 4] x, float[1, 1, 3, 3] w) => (float[1, 1, 2, 2] y) { h = Conv (x, w) y = Relu (h) }"
    record = convert_bfloat16.PLUGIN()(graph_of(text, {"w": np.ones((1, 1, 3, 3), np.float32)})).record
    assert "1 of 2 float32 nodes compute in bfloat16; 1 stay: Conv does not take bfloat16" in record.detail


def test_the_gpu_profile_keeps_in_float32_what_cuda_has_no_bfloat16_kernel_for() -> None:
    """MiniLM ends in a ReduceL2, which ONNX allows in bfloat16 and ONNX Runtime's CUDA provider does not have."""
    (candidate,) = (item for item in load_target("desktop-gpu").candidates if item.precision == "bf16")
    options = dict(candidate.passes[0].options)
    assert set(options["keep_op_types"]) > set(convert_bfloat16.PLUGIN.Options().keep_op_types)
    assert all(onnx.defs.has(name) for name in options["keep_op_types"])
    text = f"{HEAD}, int64[1] axes) => (float[3, 1] y) {{ h = MatMul (x, w) y = ReduceL2 (h, axes) }}"
    model = graph_of(text, {"w": W, "axes": np.array([1])})
    record = convert_bfloat16.PLUGIN.from_table(options, PassContext())(model).record
    assert "1 of 2 float32 nodes compute in bfloat16; 1 stay: ReduceL2 is kept by its type" in record.detail
    assert [node.op_type for node in model.graph] == ["Cast", "MatMul", "Cast", "ReduceL2"]

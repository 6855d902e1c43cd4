from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.passes.fuse_layernorm import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(3)
X = {"x": (RNG.standard_normal((2, 5, 8)) * 3 + 1).astype(np.float32)}
SCALE, BIAS = RNG.standard_normal((2, 8)).astype(np.float32)

HEAD = "m = ReduceMean (x, last) d = Sub (x, m)"
TAIL = "n = Div (d, r) s = Mul (n, scale) y = Add (s, bias)"
FUSED = {
    "power": f"{HEAD} q = Pow (d, two) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e) {TAIL}",
    "product": f"{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (eps, v) r = Sqrt (e) {TAIL}",
    "reciprocal": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e) i = Reciprocal (r)
        n = Mul (d, i) s = Mul (scale, n) y = Add (bias, s)""",
    "reciprocal by division": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e)
        i = Div (one, r) n = Mul (i, d) s = Mul (n, scale) y = Add (s, bias)""",
    "power of minus a half": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) i = Pow (e, minus_half)
        n = Mul (d, i) s = Mul (n, scale) y = Add (s, bias)""",
    "the difference twice": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e)
        d2 = Sub (x, m) n = Div (d2, r) s = Mul (n, scale) y = Add (s, bias)""",
    "without a bias": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e) n = Div (d, r)
        y = Mul (n, scale)""",
    "without scale and bias": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e)
        y = Div (d, r)""",
    "a scale of another shape stays outside": f"""{HEAD} q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps)
        r = Sqrt (e) n = Div (d, r) y = Mul (n, two)""",
    "the last two axes": """m = ReduceMean (x, last_two) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, last_two)
        e = Add (v, eps) r = Sqrt (e) y = Div (d, r)""",
}
LEFT = {
    "another axis": (FUSED["power"].replace("last", "middle"), "no layer normalization is written out"),
    "two different axes": (FUSED["power"].replace("ReduceMean (q, last)", "ReduceMean (q, middle)"), "no layer norm"),
    "rms norm": (
        "q = Mul (x, x) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e) y = Div (x, r)",
        "no layer norm",
    ),
    "a step that is read elsewhere": (
        FUSED["power"].replace("y =", "w =") + " y = Add (w, d)",
        "fused 0 of 1 layer normalizations; 1 left: a step of it is read by other nodes too",
    ),
}
NUMBERS = {"two": 2.0, "eps": 1e-3, "one": 1.0, "minus_half": -0.5}
AXES = {"last": [-1], "middle": [1], "last_two": [1, 2]}


def model_of(body: str, opset: int = 20) -> ir.Model:
    numbers = {name: np.array(value, np.float32) for name, value in NUMBERS.items()}
    axes = {name: np.array(value, np.int64) for name, value in AXES.items()}
    every = {**numbers, **axes, "scale": SCALE, "bias": BIAS}
    weights = {name: value for name, value in every.items() if re.search(rf"\b{name}\b", body)}
    kinds = {np.dtype(np.float32): "float", np.dtype(np.int64): "int64"}
    heads = [
        "float[2, 5, 8] x",
        *(f"{kinds[v.dtype]}{list(v.shape) if v.ndim else ''} {n}" for n, v in weights.items()),
    ]
    return graph_of(f"({', '.join(heads)}) => (float[2, 5, 8] y) {{ {body} }}", weights, opset)


class TestFuseLayerNorm(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-5, 2e-6  # eight float32 numbers summed in another order

    @pytest.fixture(params=[*FUSED, *LEFT])
    def case(self, request: pytest.FixtureRequest) -> Case:
        if request.param in LEFT:
            body, says = LEFT[request.param]
            return Case(model_of(body), X, changes=False, says=says)
        return Case(model_of(FUSED[request.param]), X, changes=True, says="fused 1 of 1 layer normalizations")


def test_scale_and_bias_join() -> None:
    model = model_of(FUSED["power"])
    PLUGIN()(model)
    (node,) = list(model.graph)
    assert node.op_type == "LayerNormalization"
    assert [value.name for value in node.inputs if value] == ["x", "scale", "bias"]
    assert node.attributes["axis"].as_int() == -1
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-3)


def test_axes_as_an_attribute() -> None:
    body = FUSED["power"].replace("ReduceMean (x, last)", "ReduceMean <axes = [2]> (x)")
    body = body.replace("ReduceMean (q, last)", "ReduceMean <axes = [-1]> (q)")
    assert PLUGIN()(model_of(body, opset=17)).record.detail == "fused 1 of 1 layer normalizations"


def test_before_opset_17_there_is_none() -> None:
    body = FUSED["power"].replace("(x, last)", "(x)").replace("(q, last)", "(q)")
    model = model_of(body.replace("ReduceMean", "ReduceMean <axes = [-1]>"), opset=13)
    assert PLUGIN()(model).record.detail == "LayerNormalization needs opset 17; the graph has opset 13"


def test_double_precision_is_left() -> None:
    text = """(double[2, 8] x, int64[1] last, double eps) => (double[2, 8] y) {
        m = ReduceMean (x, last) d = Sub (x, m) q = Mul (d, d) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e)
        y = Div (d, r) }"""
    record = PLUGIN()(graph_of(text, {"last": np.array([-1]), "eps": np.array(1e-5)})).record
    assert record.detail.endswith("1 left: its type is DOUBLE, which would be computed in float32")

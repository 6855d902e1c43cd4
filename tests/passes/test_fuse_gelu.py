from __future__ import annotations

import math
import re

import numpy as np
import pytest

from edgekit.graph import MODULE_PATH
from edgekit.passes.fuse_gelu import PLUGIN
from edgekit.testing.passes import Case, PassConformance, graph_of

X = {"x": np.linspace(-6, 6, 96, dtype=np.float32).reshape(4, 24)}
SQRT2, HALF_ROOT, ROOT = math.sqrt(2), math.sqrt(0.5), math.sqrt(2 / math.pi)

# What follows f = erf(x/√2) or tanh(…), in the ways exporters and people write it.
ERF = {
    "divided": "u = Div (x, sqrt2) f = Erf (u) g = Add (f, one) t = Mul (x, g) y = Mul (t, half)",
    "multiplied": "u = Mul (x, half_root) f = Erf (u) g = Add (one, f) t = Mul (half, x) y = Mul (t, g)",
    "half on the sum": "u = Div (x, sqrt2) f = Erf (u) g = Add (f, one) t = Mul (g, half) y = Mul (x, t)",
    "halved by division": "u = Div (x, sqrt2) f = Erf (u) g = Add (f, one) t = Mul (g, x) y = Div (t, two)",
    "multiplied out": "u = Div (x, sqrt2) f = Erf (u) a = Mul (x, half) t = Mul (a, f) y = Add (t, a)",
    "four digits": "u = Div (x, about_sqrt2) f = Erf (u) g = Add (f, one) t = Mul (x, g) y = Mul (t, half)",
}
TANH = {
    "power": """c = Pow (x, three) d = Mul (c, k) e = Add (x, d) u = Mul (e, root) f = Tanh (u) g = Add (f, one)
        t = Mul (half, x) y = Mul (t, g)""",
    "products": """s = Mul (x, x) c = Mul (s, x) d = Mul (k, c) e = Add (d, x) u = Mul (root, e) f = Tanh (u)
        g = Add (one, f) t = Mul (x, g) y = Mul (half, t)""",
    "horner": """s = Mul (x, x) d = Mul (s, k) e = Add (d, one) h = Mul (e, x) u = Mul (h, root) f = Tanh (u)
        g = Add (f, one) t = Mul (g, half) y = Mul (x, t)""",
}
OTHER = {
    "another factor": ("u = Div (x, two) f = Erf (u) g = Add (f, one) t = Mul (x, g) y = Mul (t, half)", "none of 1"),
    "without the one": ("u = Div (x, sqrt2) f = Erf (u) t = Mul (x, f) y = Mul (t, half)", "none of 1"),
    "two unknowns": ("n = Neg (x) r = Relu (x) u = Div (r, sqrt2) f = Erf (u) g = Add (f, one) t = Mul (n, g) "
                     "y = Mul (t, half)", "none of 1"),
    "a step that is read elsewhere": ("u = Div (x, sqrt2) f = Erf (u) g = Add (f, one) t = Mul (x, g) "
                                      "h = Mul (t, half) y = Add (h, g)", "none of 1"),
    "a plain tanh": ("y = Tanh (x)", "none of 1 Erf and Tanh is part of a GELU"),
    "neither": ("y = Relu (x)", "the graph has no Erf and no Tanh"),
}  # fmt: skip

NUMBERS = {
    "sqrt2": SQRT2, "about_sqrt2": 1.4142, "half_root": HALF_ROOT, "root": ROOT, "k": 0.044715,
    "one": 1.0, "two": 2.0, "three": 3.0, "half": 0.5,
}  # fmt: skip


def model_of(body: str, opset: int = 20):
    used = [name for name in NUMBERS if re.search(rf"\b{name}\b", body)]
    inputs = ", ".join(["float[4, 24] x", *(f"float {name}" for name in used)])
    weights = {name: np.array(NUMBERS[name], np.float32) for name in used}
    return graph_of(f"({inputs}) => (float[4, 24] y) {{ {body} }}", {k: weights[k] for k in used}, opset)


class TestFuseGelu(PassConformance):
    PASS = PLUGIN
    # float32 erf and tanh of two implementations; 1.4142 for √2 is off by 1e-5, and so is its result.
    rtol, atol = 1e-4, 5e-6

    @pytest.fixture(params=[*ERF, *TANH, *OTHER])
    def case(self, request: pytest.FixtureRequest) -> Case:
        if request.param in OTHER:
            body, says = OTHER[request.param]
            return Case(model_of(body), X, changes=False, says=says)
        return Case(model_of((ERF | TANH)[request.param]), X, changes=True, says="fused 1 Gelu")


@pytest.mark.parametrize("name", [*ERF, *TANH])
def test_one_node_of_the_right_form_is_left(name: str) -> None:
    model = model_of((ERF | TANH)[name])
    PLUGIN()(model)
    (node,) = list(model.graph)
    assert node.op_type == "Gelu" and node.attributes["approximate"].as_string() == ("none" if name in ERF else "tanh")
    assert not model.graph.initializers


def test_the_node_takes_the_common_path() -> None:
    model = model_of(ERF["divided"])
    for place, node in enumerate(model.graph):
        node.metadata_props[MODULE_PATH] = f"encoder.layers.0.mlp.act.{place}"
    PLUGIN()(model)
    assert model.graph[0].metadata_props[MODULE_PATH] == "encoder.layers.0.mlp.act"


def test_x_may_be_the_result_of_arithmetic_itself() -> None:
    """An x that is a polynomial of something else must not be looked through."""
    model = model_of("z = Mul (x, two) v = Add (z, one) " + ERF["divided"].replace("x", "v"))
    assert PLUGIN()(model).record.detail == "fused 1 Gelu"
    assert [node.op_type for node in model.graph] == ["Mul", "Add", "Gelu"]


def test_before_opset_20_there_is_no_gelu() -> None:
    record = PLUGIN()(model_of(ERF["divided"], opset=17)).record
    assert (record.modified, record.detail) == (False, "Gelu needs opset 20; the graph has opset 17")

"""Every pass that is found has run through the conformance kit; here those that change outputs, by a little."""

from __future__ import annotations

import functools
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import plugins
from edgekit.context import PassContext
from edgekit.contracts import Feeds
from edgekit.passes import GraphPass
from edgekit.passes.quantize_dynamic import QuantizeDynamic
from edgekit.passes.quantize_embeddings import Options as EmbeddingOptions
from edgekit.passes.quantize_embeddings import QuantizeEmbeddings
from edgekit.passes.quantize_static import QuantizeStatic
from edgekit.passes.quantize_weights import QuantizeWeights
from edgekit.testing.passes import Case, PassConformance, graph_of

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((4, 64)).astype(np.float32)
WEIGHTS = {
    "w": RANDOM.standard_normal((64, 48)).astype(np.float32) / 8,
    "v": RANDOM.standard_normal((48, 64)).astype(np.float32) / 8,
}
TABLE = RANDOM.standard_normal((40, 16)).astype(np.float32)
IDS = np.array([[0, 3, 39], [7, 7, 12]])


def products() -> ir.Model:
    """Two layers, each wide enough that every quantizer finds them worth it."""
    head = "(float[4, 64] x, float[64, 48] w, float[48, 64] v) => (float[4, 64] y)"
    return graph_of(f"{head} {{ a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, v) }}", WEIGHTS)


def plain() -> ir.Model:
    """Nothing to quantize."""
    return graph_of("(float[4, 64] x) => (float[4, 64] y) { y = Relu (x) }")


def samples() -> Iterator[Feeds]:
    return iter([{"x": X}])


@pytest.mark.parametrize("name", plugins.names("passes"))
def test_it_has_a_kit(name: str) -> None:
    """A class that pytest collects in this folder runs the whole kit on it."""
    assert plugins.load("passes", name) in tried(), (
        f"pass '{name}': subclass edgekit.testing.passes.PassConformance in tests/passes"
    )


@functools.cache
def tried() -> set[type[GraphPass]]:
    """What the kits in this folder are for."""
    found = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for kit in runpy.run_path(str(path)).values():
            if isinstance(kit, type) and issubclass(kit, PassConformance) and kit.__name__.startswith("Test"):
                found.add(kit.PASS)
    return found


class Products(PassConformance):
    """Outputs are sums of 48 products, of size 1."""

    @pytest.fixture(params=[True, False], ids=["products", "plain"])
    def case(self, request: pytest.FixtureRequest) -> Case:
        context = PassContext(calibration=samples, calibration_samples=1)
        return Case(products() if request.param else plain(), {"x": X}, request.param, context=context)


class TestQuantizeStatic(Products):
    PASS = QuantizeStatic
    rtol, atol = 0.0, 0.06  # two layers of 8 bits: a step is 1/128 of the range, about 3


class TestQuantizeDynamic(Products):
    PASS = QuantizeDynamic
    rtol, atol = 0.0, 0.06


class TestQuantizeWeights(Products):
    PASS = QuantizeWeights
    rtol, atol = 0.0, 0.6  # 4 bits


class TestQuantizeEmbeddings(PassConformance):
    PASS = QuantizeEmbeddings
    rtol, atol = 0.0, 0.02  # half a step of the largest row

    @pytest.fixture(params=[True, False], ids=["table", "plain"])
    def case(self, request: pytest.FixtureRequest) -> Case:
        head = "(int64[2, 3] ids, float[40, 16] table) => (float[2, 3, 16] y)"
        if not request.param:
            return Case(plain(), {"x": X}, changes=False)
        model = graph_of(f"{head} {{ y = Gather (table, ids) }}", {"table": TABLE})
        return Case(model, {"ids": IDS}, changes=True, options=EmbeddingOptions(min_bytes=1000))

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.passes import PassContext
from edgekit.passes.fold_constants import PLUGIN as FOLD
from edgekit.passes.fuse_attention import PLUGIN
from edgekit.passes.infer_shapes import PLUGIN as INFER
from edgekit.testing.passes import Case, PassConformance, graph_of

RNG = np.random.default_rng(5)
X = {"x": RNG.standard_normal((1, 6, 16)).astype(np.float32)}


def encoder() -> ir.Model:
    """One self-attention of two heads of 8, as PyTorch's scaled_dot_product_attention is exported."""
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (torch.nn.Linear(16, 16) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (part(x).view(1, 6, 2, 8).transpose(1, 2) for part in (self.q, self.k, self.v))
            return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 6, 16)

    torch.manual_seed(0)
    program = torch.onnx.export(
        Attention().eval(), (torch.zeros(1, 6, 16),), dynamo=True, opset_version=20, optimize=False, verbose=False
    )
    assert program is not None
    return INFER()(FOLD()(program.model).model).model


@pytest.fixture(scope="module")
def attention() -> ir.Model:
    return encoder()


class TestFuseAttention(PassConformance):
    PASS = PLUGIN
    rtol, atol = 1e-4, 1e-5  # float32 sums in another order, and a softmax of another implementation

    @pytest.fixture(params=["attention", "another engine", "no softmax"])
    def case(self, request: pytest.FixtureRequest, attention: ir.Model) -> Case:
        if request.param == "no softmax":
            model = graph_of("(float[1, 6, 16] x) => (float[1, 6, 16] y) { y = Relu (x) }")
            return Case(model, X, changes=False, says="the graph has no Softmax, so no attention")
        if request.param == "another engine":
            context = PassContext(runtime="openvino")
            return Case(attention, X, False, "its operators are ONNX Runtime's; openvino does not know", None, context)
        return Case(attention, X, changes=True, says="fused 1 sdpa")


def test_the_fused_operator_is_there(attention: ir.Model) -> None:
    from edgekit.graph import clone

    model = PLUGIN()(clone(attention)).model
    found = Counter(node.op_type for node in model.graph if node.domain == "com.microsoft")
    assert found["Attention"] + found["MultiHeadAttention"] == 1
    assert not any(node.op_type == "Softmax" for node in model.graph)

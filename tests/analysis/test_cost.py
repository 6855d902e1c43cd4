from __future__ import annotations

import json
import logging

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.analysis.cost import analyze
from edgekit.errors import UsageError


def parse(body: str, opset: int = 20, domains: str = "") -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {opset}{domains}]> net {body}')


def with_weight(model: ir.Model, name: str, *shape: int, dtype: type = np.float32) -> ir.Model:
    """Give the input ``name`` a value, so that it is a weight."""
    value = next(item for item in model.graph.inputs if item.name == name)
    model.graph.inputs.remove(value)
    value.const_value = ir.tensor(np.zeros(shape, dtype), name=name)
    value.dtype, value.shape = value.const_value.dtype, ir.Shape(shape)
    model.graph.register_initializer(value)
    return model


CONV = """(float[1, 8, 10, 12] x, float[16, 4, 3, 5] w) => (float[1, 16, 8, 8] y) {
    y = Conv <group = 2> (x, w)
}"""
CONV_TRANSPOSE = """(float[1, 8, 10, 12] x, float[8, 3, 2, 2] w) => (float[1, 6, 20, 24] y) {
    y = ConvTranspose <group = 2, strides = [2, 2]> (x, w)
}"""


@pytest.mark.parametrize(
    ("body", "macs"),
    [
        (CONV, 16 * 8 * 8 * (4 * 3 * 5)),
        (CONV_TRANSPOSE, 8 * 10 * 12 * (3 * 2 * 2)),
        ("(float[7, 5] a, float[7, 3] b) => (float[5, 3] y) { y = Gemm <transA = 1> (a, b) }", 5 * 3 * 7),
        ("(float[2, 6, 5, 7] a, float[7, 3] b) => (float[2, 6, 5, 3] y) { y = MatMul (a, b) }", 2 * 6 * 5 * 7 * 3),
        (
            """(float[2, 4, 5] a, float[2, 5, 3] b) => (float[2, 4, 3] y) {
                y = Einsum <equation = "bij,bjk->bik"> (a, b)
            }""",
            2 * 4 * 5 * 3,
        ),
        (
            """(float[9, 2, 4] x, float[1, 24, 4] w, float[1, 24, 6] r) => (float[9, 1, 2, 6] y) {
                y = LSTM <hidden_size = 6> (x, w, r)
            }""",
            9 * 2 * (24 * 4 + 24 * 6),
        ),
        ("(float[4, 4] x) => (float[4, 4] y) { y = Relu (x) }", 0),
    ],
)
def test_macs_by_the_operators_definition(body: str, macs: int) -> None:
    found = analyze(parse(body))
    assert found.macs == macs and found.unknown == ()


def test_attention_of_the_standard_and_of_onnxruntime() -> None:
    four = "(float[2, 8, 10, 16] q, float[2, 8, 12, 16] k, float[2, 8, 12, 16] v) => (float[2, 8, 10, 16] y)"
    assert analyze(parse(four + "{ y = Attention (q, k, v) }", 23)).macs == 2 * 8 * 10 * 12 * (16 + 16)
    three = "(float[2, 10, 128] q, float[2, 12, 64] k, float[2, 12, 64] v) => (float[2, 10, 128] y)"
    grouped = three + "{ y = Attention <q_num_heads = 8, kv_num_heads = 4> (q, k, v) }"
    assert analyze(parse(grouped, 23)).macs == 2 * 8 * 10 * 12 * (16 + 16)
    packed = """(float[2, 10, 32] x, float[32, 96] w, float[96] b) => (float[2, 10, 32] y) {
        y = com.microsoft.Attention <num_heads = 4> (x, w, b)
    }"""
    model = parse(packed, 20, ', "com.microsoft" : 1')
    assert analyze(model).macs == 2 * 10 * 32 * 96 + 2 * (2 * 10 * 10 * 32)


def test_parameters_leave_out_statistics_shapes_and_settings() -> None:
    model = parse(
        """(float[1, 4, 6, 6] x, float[8, 4, 1, 1] w, float[8] g, float[8] b, float[8] m, float[8] v, int64[2] s,
            float lo) => (float[1, 288] y) {
            z = Conv (x, w)
            n = BatchNormalization (z, g, b, m, v)
            c = Clip (n, lo)
            y = Reshape (c, s)
        }"""
    )
    for name, *shape in (("w", 8, 4, 1, 1), ("g", 8), ("b", 8), ("m", 8), ("v", 8), ("lo",)):
        with_weight(model, str(name), *map(int, shape))
    with_weight(model, "s", 2, dtype=np.int64)
    model.graph.initializers["s"].const_value = ir.tensor(np.array([1, 288]), name="s")
    found = analyze(model)
    assert found.parameters == 8 * 4 + 8 + 8
    assert found.parameter_bytes == 4 * (32 + 4 * 8 + 1) + 2 * 8
    assert found.operators == {"Conv": 1, "BatchNormalization": 1, "Clip": 1, "Reshape": 1} and found.nodes == 4


def test_the_peak_is_the_largest_sum_of_what_is_alive() -> None:
    """a and b are both needed by the Add; x lives throughout; the Reshape shares b's memory."""
    model = parse(
        """(float[10] x) => (float[10] y) {
            a = Relu (x)
            b = Exp (a)
            shape = Constant <value_ints = [2, 5]> ()
            c = Reshape (b, shape)
            flat = Constant <value_ints = [10]> ()
            d = Reshape (c, flat)
            e = Add (a, d)
            y = Neg (e)
        }"""
    )
    found = analyze(model)
    assert found.activation_peak_bytes == 4 * (10 + 10 + 10 + 10)  # x, a, b, e
    assert found.activation_peak_at is not None


def test_a_chain_holds_two_values_and_the_input() -> None:
    model = parse("(float[100] x) => (float[1] y) { a = Relu (x) b = Exp (a) c = Neg (b) y = ReduceMax (c) }")
    assert analyze(model).activation_peak_bytes == 4 * 300


def test_free_dimensions_take_the_values_given_and_one_else() -> None:
    model = parse("(float[batch, length, 8] x, float[8, 4] w) => (float[batch, length, 4] y) { y = MatMul (x, w) }")
    assert (analyze(model).macs, dict(analyze(model).dims)) == (8 * 4, {"batch": 1, "length": 1})
    found = analyze(model, {"length": 16})
    assert found.macs == 16 * 8 * 4 and found.dims == {"batch": 1, "length": 16}
    assert model.graph.inputs[0].shape is not None and not model.graph.inputs[0].shape.is_static()


def test_shapes_that_the_graph_computes_follow_from_the_given_dimensions() -> None:
    model = parse(
        """(float[batch, 4, 6] x, float[6, 2] w) => (float[n, 2] y) {
            whole = Shape (x)
            first = Constant <value_ints = [0]> ()
            batch = Gather (whole, first)
            four = Constant <value_ints = [4]> ()
            rows = Mul (batch, four)
            six = Constant <value_ints = [6]> ()
            shape = Concat <axis = 0> (rows, six)
            flat = Reshape (x, shape)
            y = MatMul (flat, w)
        }"""
    )
    found = analyze(with_weight(model, "w", 6, 2), {"batch": 3})
    assert found.macs == 12 * 6 * 2 and found.unknown == () and found.activation_peak_bytes is not None


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        ({"bath": 2}, "no input has a free dimension 'bath'. Did you mean 'batch'?"),
        ({"batch": 0}, "dimension 'batch' must be 1 or more, got 0"),
    ],
)
def test_a_wrong_dimension(dims: dict[str, int], text: str) -> None:
    model = parse("(float[batch] x) => (float[batch] y) { y = Relu (x) }")
    with pytest.raises(UsageError) as error:
        analyze(model, dims)
    assert str(error.value) == text


def test_what_cannot_be_known_says_so() -> None:
    model = parse(
        """(float[8] x, float[4] w) => (float[n] y) {
            found = NonZero (x)
            column = Transpose (found)
            picked = GatherND (x, column)
            y = MatMul (picked, picked)
        }"""
    )
    found = analyze(model)
    assert found.activation_peak_bytes is None
    assert any("activation peak: the shape of 'found' is not known" in line for line in found.unknown)


def test_json_is_plain() -> None:
    found = json.loads(json.dumps(analyze(parse(CONV)).to_json()))
    assert found["macs"]["total"] == 61440 and found["macs"]["nodes"][0]["op_type"] == "Conv"
    assert found["parameters"] == {"count": 0, "bytes": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "giga_macs"),
    [
        ("ResNet", 25_557_032, 4.089),  # He et al. 2015, table 1 says 3.8e9 without the stride in the 3x3 (v1.5 has it)
        ("MobileNetV2", 3_504_872, 0.3008),  # Sandler et al. 2018, table 4: 3.4 M and 300 M
    ],
)
def test_known_networks(name: str, parameters: int, giga_macs: float) -> None:
    import torch
    import transformers

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).logits

    options = {"num_labels": 1000} | ({"tf_padding": False} if name == "MobileNetV2" else {})
    config = getattr(transformers, f"{name}Config")(**options)
    module = Logits(getattr(transformers, f"{name}ForImageClassification")(config)).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(module, (torch.zeros(1, 3, 224, 224),), dynamo=True, optimize=False, verbose=False)
    assert program is not None
    found = analyze(program.model)
    assert found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(giga_macs, rel=1e-3)

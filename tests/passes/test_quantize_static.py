from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.context import PassContext
from edgekit.contracts import Feeds
from edgekit.errors import UsageError
from edgekit.graph import MODULE_PATH
from edgekit.passes import Result
from edgekit.passes.quantize_static import Options, QuantizeStatic
from edgekit.quantization.qdq import activation_params, quantize_weights

ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
SHAPE = (1, 3, 16, 16)


@pytest.fixture(scope="module")
def float_model() -> ir.Model:
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)

        def forward(self, x):
            return torch.relu(self.b(nn.functional.relu6(self.a(x))) + x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool, self.block = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), Block()
            self.head = nn.Conv2d(8, 16, 1)
            self.linear = nn.Linear(16, 5)

        def forward(self, x):
            x = self.block(self.pool(torch.relu(self.stem(x))))
            return self.linear(self.head(x).mean((2, 3)))

    torch.manual_seed(0)
    return torch.onnx.export(Net().eval(), (torch.zeros(SHAPE),), dynamo=True, opset_version=20).model


SAMPLES = [{"x": np.random.default_rng(i).standard_normal(SHAPE).astype(np.float32)} for i in range(8)]


def context(samples: list[dict[str, np.ndarray]] = SAMPLES, **more: object) -> PassContext:
    def stream() -> Iterator[Feeds]:
        return iter(samples)

    return PassContext(calibration=stream, calibration_samples=len(samples), **more)  # type: ignore[arg-type]


def quantize(model: ir.Model, options: Options | None = None, **more: object) -> Result:
    result = QuantizeStatic(options, context(**more))(model.clone())
    assert isinstance(result, Result)
    return result


def outputs(
    model: ir.Model, folder: Path, feeds: list[dict[str, np.ndarray]] = SAMPLES
) -> tuple[np.ndarray, Counter[str]]:
    """What ONNX Runtime computes, and the operators it runs after its fusions."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = ir.load(folder / "optimized.onnx")
    return np.concatenate([session.run(None, item)[0] for item in feeds]), Counter(n.op_type for n in fused.graph)


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)))


@pytest.mark.parametrize("activations", ["uint8", "int8", "uint16"])
def test_close_to_float_and_fused_by_the_engine(float_model: ir.Model, tmp_path: Path, activations: str) -> None:
    want, _ = outputs(float_model, tmp_path)
    result = quantize(float_model, Options(activations=activations))
    got, operators = outputs(result.model, tmp_path)
    assert sqnr_db(want, got) > (30 if activations != "uint16" else 38)
    if activations == "uint8":  # ONNX Runtime on x86 first turns signed activations into unsigned, which fuses less
        assert operators["QLinearConv"] == 4
        assert operators["QLinearAdd"] == 1
        assert operators["QGemm"] == 1
        assert not operators["Conv"] and not operators["Relu"] and not operators["Clip"]
        # Integers all the way but for the mean: in, before and after it.
        assert operators["QuantizeLinear"] + operators["DequantizeLinear"] <= 4


def test_names_and_modules_stay(float_model: ir.Model) -> None:
    model = float_model.clone()
    for node in model.graph:
        node.metadata_props[MODULE_PATH] = f"net.{node.name}"
    result = quantize(model)
    before = {node.name for node in model.graph if node.op_type in ("Conv", "Add", "Gemm")}
    assert before <= {node.name for node in result.model.graph}
    assert [v.name for v in result.model.graph.inputs] == ["x"]
    assert [v.name for v in result.model.graph.outputs] == [v.name for v in model.graph.outputs]
    assert all(node.metadata_props[MODULE_PATH].startswith("net.") for node in result.model.graph)
    assert result.record.detail == "quantized 4 Conv, 1 MaxPool, 1 Add, 1 Gemm"


def test_keep_float_is_kept_and_told(float_model: ir.Model, tmp_path: Path) -> None:
    name = next(node.name for node in float_model.graph if node.op_type == "Conv")
    result = quantize(float_model, keep_float=frozenset([name]))
    assert "1 Conv (asked for)" in result.record.detail
    assert outputs(result.model, tmp_path)[1]["QLinearConv"] == 3


def test_an_unfolded_batchnorm_leaves_its_conv_in_float() -> None:
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    program = torch.onnx.export(net, (torch.zeros(SHAPE),), input_names=["x"], dynamo=True, optimize=False)
    result = quantize(program.model)
    assert "1 Conv (the BatchNormalization after it is not folded: run fold_batchnorm first)" in result.record.detail
    assert "quantized 1 Conv" in result.record.detail


def test_linear_layers_with_static_rows_become_integer_gemms(tmp_path: Path) -> None:
    nn = torch.nn
    net = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8)).eval()
    model = torch.onnx.export(net, (torch.zeros(1, 7, 32),), input_names=["x"], dynamo=True, opset_version=20).model
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 7, 32)).astype(np.float32)} for i in range(4)]
    result = quantize(model, samples=samples)
    assert result.record.detail == "quantized 2 MatMul"
    want, _ = outputs(model, tmp_path, samples)
    got, operators = outputs(result.model, tmp_path, samples)
    assert sqnr_db(want, got) > 30
    assert operators["QGemm"] == 2 and not operators["Gemm"] and not operators["MatMul"]


def test_linear_layers_with_free_rows(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 8)).eval()
    rows = {1: torch.export.Dim("rows", min=2, max=64)}
    model = torch.onnx.export(
        net, (torch.zeros(1, 7, 32),), input_names=["x"], dynamo=True, opset_version=20, dynamic_shapes=(rows,)
    ).model
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 3 + i, 32)).astype(np.float32)} for i in range(4)]
    result = quantize(model, samples=samples)
    want, _ = outputs(model, tmp_path, samples[:1])
    got, operators = outputs(result.model, tmp_path, samples[:1])
    assert sqnr_db(want, got) > 30
    assert operators["MatMulIntegerToFloat"] == 2


def test_subgraphs_stay_in_float(float_model: ir.Model) -> None:
    """A node in the branch of an If is neither planned nor broken when it reads what is quantized outside."""
    model = float_model.clone()
    output = model.graph.outputs[0]
    branches = {}
    for branch in ("then_branch", "else_branch"):
        inner = ir.node("Neg", [output], name=branch)
        inner.outputs[0].name, inner.outputs[0].type = f"{branch}_out", ir.TensorType(ir.DataType.FLOAT)
        branches[branch] = ir.Graph([], list(inner.outputs), nodes=[inner], name=branch)
    flag = ir.Value(name="flag", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    model.graph.inputs.append(flag)
    switch = ir.node("If", [flag], branches, name="if")
    switch.outputs[0].name, switch.outputs[0].type, switch.outputs[0].shape = "y", output.type, output.shape
    model.graph.append(switch)
    model.graph.outputs[0] = switch.outputs[0]
    result = quantize(model, samples=[{**item, "flag": np.array(True)} for item in SAMPLES])
    session = ort.InferenceSession(ir.to_proto(result.model).SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {**SAMPLES[0], "flag": np.array(True)})[0].shape == (1, 5)


def test_no_data_a_second_time_and_nothing_to_do(float_model: ir.Model) -> None:
    with pytest.raises(UsageError, match=r"quantize_static needs calibration data. Pass samples with --data."):
        QuantizeStatic(None, PassContext())(float_model.clone())
    again = QuantizeStatic(None, context())(quantize(float_model).model)
    assert isinstance(again, Result)
    assert not again.modified and again.record.detail == "the graph is quantized already"
    only_pool = Options(op_types=("MaxPool",))
    assert not quantize(float_model, only_pool).modified


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "best"}, "'method' must be one of minmax, percentile, mse, entropy, got 'best'"),
        ({"activations": "int4"}, "'activations' must be one of uint8, int8, uint16, int16, got 'int4'"),
        ({"weights": "int16"}, "'weights' must be one of int8, uint8, int4, got 'int16'"),
        ({"op_types": ["LSTM"]}, "'op_types' may hold .*; got 'LSTM'"),
        ({"percentile": 10.0}, "50 < 'percentile' <= 100 must hold, got 10.0"),
        ({"per_chanel": True}, "Did you mean 'per_channel'?"),
    ],
)
def test_bad_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        QuantizeStatic.from_table(options, PassContext())


@given(
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    st.booleans(),
)
def test_activation_integers_reach_both_ends_and_zero(a: float, b: float, dtype: str, symmetric: bool) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    params, limits = activation_params(low, high, dtype, symmetric), np.iinfo(dtype)
    assert limits.min <= params.zero_point <= limits.max  # so that 0 is an integer exactly
    scale = float(params.scale)
    assert (limits.min - params.zero_point) * scale <= low + scale
    assert (limits.max - params.zero_point) * scale >= high - scale


@given(
    hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e3, 1e3, width=32)),
    st.sampled_from([0, 1, None]),
    st.sampled_from(["int8", "uint8"]),
)
def test_weights_are_within_half_a_step(weights: np.ndarray, axis: int | None, dtype: str) -> None:
    integers, scale = quantize_weights(weights, axis, dtype)
    assert integers.dtype == dtype and scale.shape == (() if axis is None else (weights.shape[axis],))
    shape = [-1 if i == axis else 1 for i in range(2)]
    step = scale.astype(np.float64).reshape(shape)
    real = (integers.astype(np.float64) - (128 if dtype == "uint8" else 0)) * step
    tiny = np.abs(weights) < np.finfo(np.float32).tiny * 127
    assert np.all((np.abs(real - weights) <= 0.5001 * step) | tiny)


def test_a_large_bias_raises_the_weights_scale() -> None:
    """A channel of tiny weights and a large bias must not overflow the bias's int32."""
    conv = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        conv.weight[0] *= 1e-9
        conv.bias[:] = torch.tensor([50.0, 0.1])
    model = torch.onnx.export(conv.eval(), (torch.zeros(SHAPE),), input_names=["x"], dynamo=True).model
    session = ort.InferenceSession(
        ir.to_proto(quantize(model).model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, SAMPLES[0])[0][0, 0] == pytest.approx(50.0, rel=0.01)


def test_a_bias_may_stay_in_float(float_model: ir.Model, tmp_path: Path) -> None:
    """As TensorRT wants it: no integers but the activations and the weights, and no zero point but 0."""
    result = quantize(float_model, Options(activations="int8", symmetric=True, bias="float"))
    kinds = {value.const_value.dtype for value in result.model.graph.initializers.values() if value.const_value}
    assert ir.DataType.INT32 not in kinds and ir.DataType.INT8 in kinds and ir.DataType.UINT8 not in kinds
    for node in result.model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = ir.convenience.get_const_tensor(node.inputs[2])
            assert zero is not None and not zero.numpy().any()
    want, _ = outputs(float_model, tmp_path)
    got, _ = outputs(result.model, tmp_path)
    assert sqnr_db(want, got) > 25

"""`quantize_static` over the whole graph, as an NPU wants it: what is quantized how, and that it computes the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.accuracy.same_graph import output_steps
from edgekit.context import PassContext
from edgekit.contracts import Artifact, Feeds
from edgekit.passes import Result
from edgekit.passes.quantize_static import Options, QuantizeStatic
from edgekit.runtimes.onnxruntime import OnnxRuntime

torch = pytest.importorskip("torch")
nn = torch.nn
SHAPE = (1, 6, 16)
SAMPLES = [{"x": np.random.default_rng(i).standard_normal(SHAPE).astype(np.float32)} for i in range(8)]


class Layer(nn.Module):
    """Attention of one head and a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.mlp = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Any) -> Any:
        q, k, v = self.qkv(self.norm(x)).split(16, -1)
        x = x + torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
        return torch.sigmoid(self.mlp(x)) * torch.tanh(x)


def export(module: Any, *shape: int) -> ir.Model:
    torch.manual_seed(0)
    module = module.eval()
    model: ir.Model = torch.onnx.export(
        module, (torch.zeros(shape or SHAPE),), input_names=["x"], dynamo=True, opset_version=21, verbose=False
    ).model
    return model


@pytest.fixture(scope="module")
def layer() -> ir.Model:
    torch.manual_seed(0)
    return export(Layer())


def quantize(model: ir.Model, samples: list[dict[str, np.ndarray]] = SAMPLES, **options: Any) -> Result:
    def stream() -> Iterator[Feeds]:
        return iter(samples)

    keep = options.pop("keep_float", frozenset())
    context = PassContext(calibration=stream, calibration_samples=len(samples), keep_float=keep)
    chosen = Options(**{"whole_graph": True, "method": "minmax", **options})
    result = QuantizeStatic(chosen, context)(model.clone())
    assert isinstance(result, Result)
    return result


def run(model: ir.Model, folder: Path, feeds: list[dict[str, np.ndarray]] = SAMPLES) -> np.ndarray:
    """What the graph says, node by node."""
    path = folder / "model.onnx"
    ir.save(model, path)
    session = OnnxRuntime().open(Artifact(path, "onnx", "int8", (), ()), OnnxRuntime.Options(optimization="none"))
    return np.stack([next(iter(session.run(item).values())) for item in feeds])


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)))


def params(model: ir.Model, tensor: str) -> tuple[float, int, str]:
    """Scale, zero point and dtype of the integers that ``tensor`` is quantized to."""
    (node,) = (n for n in model.graph if n.op_type == "QuantizeLinear" and n.inputs[0].name == tensor)
    scale, zero = (ir.convenience.get_const_tensor(value).numpy() for value in node.inputs[1:3])
    return float(scale), int(zero), zero.dtype.name


@pytest.mark.parametrize(
    ("options", "least_db"),
    [
        ({}, 28),  # 8 bits through twenty operators
        ({"activations": "uint16"}, 38),  # the weights' 8 bits are left
        ({"activations": "uint16", "weights": "int4"}, 14),
    ],
)
def test_every_operator_is_quantized_and_computes_the_same(
    layer: ir.Model, tmp_path: Path, options: dict[str, str], least_db: float
) -> None:
    result = quantize(layer, **options)
    assert "left in float" not in result.record.detail
    for node in result.model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for value in node.inputs:
            known = ir.convenience.get_const_tensor(value)
            assert known is not None or value.producer().op_type == "DequantizeLinear", f"{node.name} reads a float"
    assert sqnr_db(run(layer, tmp_path), run(result.model, tmp_path)) > least_db


def test_what_is_moved_keeps_its_scale(layer: ir.Model) -> None:
    """One scale from the projection through Split and Transpose to the products."""
    model = quantize(layer).model
    split = next(node for node in model.graph if node.op_type == "Split")
    source = split.inputs[0].producer()
    for value in split.outputs:
        (quantizer,) = value.consumers()
        assert quantizer.op_type == "QuantizeLinear"
        assert quantizer.inputs[1:] == source.inputs[1:]


@pytest.mark.parametrize(
    ("activations", "sigmoid", "tanh"),
    [("uint8", (1 / 256, 0), None), ("uint16", (1 / 65536, 0), (1 / 32768, 32768))],
)
def test_ranges_that_qnn_prescribes(
    layer: ir.Model, activations: str, sigmoid: tuple[float, int], tanh: tuple[float, int] | None
) -> None:
    """As onnxruntime.quantization's get_qnn_qdq_config states them for 16 bits."""
    model = quantize(layer, activations=activations).model
    outputs = {node.op_type: node.outputs[0].name for node in model.graph}
    assert params(model, outputs["Sigmoid"])[:2] == params(model, outputs["Softmax"])[:2] == sigmoid
    if tanh is not None:
        assert params(model, outputs["Tanh"])[:2] == tanh


def test_weights_as_qnn_takes_them(layer: ir.Model) -> None:
    """Those of a product by its output channels, a norm's scale as uint8."""
    found = {}
    for model in (quantize(layer).model, quantize(export(nn.Conv2d(3, 5, 3), 1, 3, 8, 8), images()).model):
        for node in model.graph:
            if node.op_type in ("MatMul", "LayerNormalization", "Conv"):
                maker = node.inputs[1].producer()
                integers, scale = (ir.convenience.get_const_tensor(value) for value in maker.inputs[:2])
                if integers is not None:
                    found[node.op_type] = (integers.dtype.name, tuple(scale.shape))
    assert found == {"MatMul": ("INT8", (16,)), "LayerNormalization": ("UINT8", ()), "Conv": ("INT8", (5,))}


def images() -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8)).astype(np.float32)} for i in range(4)]


class Masked(nn.Module):
    """Attention where positions are masked by what the data says."""

    def __init__(self, lowest: float) -> None:
        super().__init__()
        self.lowest = lowest

    def forward(self, x: Any) -> Any:
        scores = x @ x.transpose(-1, -2)
        mask = torch.where(x[:, None, :, 0] < 1, 0.0, self.lowest)
        return torch.softmax(scores + mask, -1) @ x


@pytest.mark.parametrize("lowest", [float("-inf"), torch.finfo(torch.float32).min])
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_a_masks_infinity_does_not_eat_the_scores(lowest: float, method: str, tmp_path: Path) -> None:
    """The integers of a sum that reaches −3e38 would hold one number; the sum stays in float, the products do not."""
    model = export(Masked(lowest))
    result = quantize(model, method=method)
    assert "it holds a mask's −∞" in result.record.detail
    assert Counter(node.op_type for node in result.model.graph)["MatMul"] == 2
    assert sqnr_db(run(model, tmp_path), run(result.model, tmp_path)) > 25


def test_what_the_htp_gets_wrong_stays_in_float() -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.relu(x.cumsum(-1)) + 1

    result = quantize(export(Net()))
    assert "left in float: 1 CumSum (wrong in the HTP's integers)" in result.record.detail


def test_prelu_stays_in_float_beside_16_bits_alone() -> None:
    model = export(nn.PReLU(6))
    assert "1 PRelu" in quantize(model).record.detail.split(";")[0]
    result = quantize(model, activations="uint16")
    assert "left in float: 1 PRelu (no kernel for 16-bit integers)" in result.record.detail


def test_keep_float_is_kept(layer: ir.Model) -> None:
    name = next(node.name for node in layer.graph if node.op_type == "Softmax")
    result = quantize(layer, keep_float=frozenset([name]))
    assert "left in float: 1 Softmax (asked for)" in result.record.detail


def test_the_step_of_an_output_is_that_of_its_integers(layer: ir.Model) -> None:
    model = quantize(layer).model
    ((name, step),) = output_steps(model).items()
    assert name == model.graph.outputs[0].name
    scale = ir.convenience.get_const_tensor(model.graph.outputs[0].producer().inputs[1])
    assert step == pytest.approx(float(scale.numpy()))


@pytest.mark.parametrize("opset", [20, 21])
def test_sixteen_and_four_bits_at_either_opset(opset: int, tmp_path: Path) -> None:
    """Before opset 21 they belong to ONNX Runtime's own operator set."""
    model: ir.Model = torch.onnx.export(
        nn.Linear(16, 8).eval(), (torch.zeros(SHAPE),), input_names=["x"], dynamo=True, opset_version=opset
    ).model
    result = quantize(model, activations="uint16", weights="int4")
    domains = {node.domain for node in result.model.graph if node.op_type == "QuantizeLinear"}
    assert domains == ({"com.microsoft"} if opset == 20 else {""})
    assert sqnr_db(run(model, tmp_path), run(result.model, tmp_path)) > 12


class Detector(nn.Module):
    """Boxes in pixels beside scores in 0 to 1, read again by one more layer where ``mixed``."""

    def __init__(self, mixed: bool) -> None:
        super().__init__()
        self.mixed = mixed
        self.box, self.score, self.last = nn.Linear(16, 4), nn.Linear(16, 4), nn.Linear(8, 3)
        with torch.no_grad():
            self.last.weight[:, :4] *= 1e-3

    def forward(self, x: Any) -> Any:
        joined = torch.cat([torch.sigmoid(self.box(x)) * 640, torch.sigmoid(self.score(x))], -1)
        return self.last(joined) if self.mixed else joined


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_inputs_of_a_concat_that_share_no_scale_keep_their_own(mixed: bool, whole: bool, tmp_path: Path) -> None:
    model = export(Detector(mixed))
    result = quantize(model, whole_graph=whole)
    (joined,) = (node for node in result.model.graph if node.op_type == "Concat")
    assert all(use.node.op_type != "QuantizeLinear" for use in joined.outputs[0].uses())
    if whole:
        assert re.search(
            r"1 Concat \(its inputs reach 5\d\d and 0.99\d, which share no scale of 256", result.record.detail
        )
        if mixed:
            assert "it reads values that share no scale" in result.record.detail
    want, got = run(model, tmp_path), run(result.model, tmp_path)
    if mixed:
        assert sqnr_db(want, got) > 25
    else:  # the scores by themselves, against what varies there
        want, got = want[..., 4:], got[..., 4:]
        assert sqnr_db(want - want.mean((0, 1, 2)), got - want.mean((0, 1, 2))) > 20


def test_sixteen_bits_hold_both(tmp_path: Path) -> None:
    result = quantize(export(Detector(mixed=True)), activations="uint16")
    assert "share no scale" not in result.record.detail


def test_what_reads_an_unknown_type_stays_in_float() -> None:
    model = export(nn.Linear(16, 4))
    (gemm,) = (node for node in model.graph if node.op_type in ("Gemm", "MatMul"))
    cast = ir.node("Cast", [model.graph.inputs[0]], {"to": ir.DataType.FLOAT})
    model.graph.insert_before(gemm, cast)
    gemm.replace_input_with(0, cast.outputs[0])
    assert "the type of what it reads is not known" in quantize(model).record.detail

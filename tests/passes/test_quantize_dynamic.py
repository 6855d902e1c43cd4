from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.context import PassContext
from edgekit.errors import UsageError
from edgekit.passes import Result
from edgekit.passes.quantize_dynamic import QuantizeDynamic
from edgekit.passes.quantize_weights import QuantizeWeights

ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model() -> ir.Model:
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.q, self.k = nn.Conv1d(8, 40, 1), nn.Linear(40, 64), nn.Linear(40, 64, bias=False)
            self.head = nn.Linear(64, 5)

        def forward(self, x):
            x = self.conv(x).transpose(1, 2)
            return self.head((self.q(x) @ self.k(x).transpose(1, 2) @ self.q(x)).sum(1))

    torch.manual_seed(0)
    return torch.onnx.export(Net().eval(), (torch.zeros(1, 8, 6),), dynamo=True, opset_version=20).model


X = np.random.default_rng(0).standard_normal((1, 8, 6)).astype(np.float32)


def compute(model: ir.Model, folder: Path) -> tuple[np.ndarray, Counter[str]]:
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0], Counter(n.op_type for n in ir.load(folder / "optimized.onnx").graph)


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)))


def test_dynamic_is_close_and_fused(model: ir.Model, tmp_path: Path) -> None:
    want, _ = compute(model, tmp_path)
    result = QuantizeDynamic()(model.clone())
    assert isinstance(result, Result)
    got, operators = compute(result.model, tmp_path)
    assert sqnr_db(want, got) > 15  # a product of three quantized layers
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] >= 3
    assert not operators["MatMulInteger"]
    assert "1 Conv (dynamic int8 convolution is slower than float)" in result.record.detail
    assert "2 MatMul (no constant weights)" in result.record.detail
    assert [v.name for v in result.model.graph.outputs] == [v.name for v in model.graph.outputs]


@pytest.mark.parametrize("cls", [QuantizeDynamic, QuantizeWeights])
def test_nothing_qualifies(cls: type, model: ir.Model) -> None:
    everything = frozenset(node.name or "" for node in model.graph)
    result = cls(None, PassContext(keep_float=everything))(model.clone())
    assert not result.modified
    assert result.record.detail.startswith("no MatMul or Gemm with constant weights; left in float:")
    assert "(asked for)" in result.record.detail


def test_convolutions_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="dynamic int8 convolution is slower than float"):
        QuantizeDynamic.from_table({"op_types": ["Conv"]}, PassContext())

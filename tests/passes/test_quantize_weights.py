from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.context import PassContext
from edgekit.errors import UsageError
from edgekit.passes.quantize_weights import Options, QuantizeWeights, quantize_blocks

ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
X = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> ir.Model:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(50, 48), torch.nn.ReLU(), torch.nn.Linear(48, 3, bias=False)).eval()
    return torch.onnx.export(net, (torch.zeros(4, 50),), input_names=["x"], dynamo=True, opset_version=20).model


def compute(model: ir.Model) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)))


@pytest.mark.parametrize(("bits", "least_db"), [(4, 14.0), (8, 30.0)])
@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("accuracy_level", [0, 4])
def test_both_engines_read_it(
    model: ir.Model, bits: int, least_db: float, block_size: int, accuracy_level: int
) -> None:
    want = compute(model)
    result = QuantizeWeights(Options(bits, block_size, accuracy_level))(model.clone())
    assert result.modified
    assert sqnr_db(want, compute(result.model)) > least_db
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(ir.to_proto(result.model).SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert sqnr_db(want, compiled({"x": X})[0]) > least_db


@given(st.sampled_from([4, 8]), st.sampled_from([16, 32, 64]), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_blocks_unpack_to_within_one_step(bits: int, block_size: int, inputs: int, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((inputs, 3)).astype(np.float32)
    integers, scale = quantize_blocks(weights, bits, block_size)
    blocks = -(-inputs // block_size)
    assert integers.shape == (3, blocks, block_size * bits // 8) and scale.shape == (3, blocks)
    if bits == 4:
        integers = np.stack([integers & 15, integers >> 4], axis=-1).reshape(3, blocks, block_size)
    real = (integers.astype(np.float64) - (1 << (bits - 1))) * scale[:, :, None]
    error = np.abs(real.reshape(3, -1)[:, :inputs].T - weights)
    # The side opposite to the extreme value ends one step short of it.
    assert np.all(error <= np.repeat(np.abs(scale), block_size, axis=1)[:, :inputs].T * 1.0001)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 3}, "'bits' must be 4 or 8, got 3"),
        ({"block_size": 24}, "'block_size' must be a power of two of at least 16, got 24"),
        ({"accuracy_level": 5}, "0 <= 'accuracy_level' <= 4 must hold, got 5"),
        ({"blocksize": 32}, "Did you mean 'block_size'"),
    ],
)
def test_bad_options(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        QuantizeWeights.from_table(options, PassContext())

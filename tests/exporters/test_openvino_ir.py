from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.context import PassContext
from edgekit.contracts import Feeds
from edgekit.errors import EngineError, UsageError
from edgekit.exporters.openvino_ir import IrOptions, OpenVinoIr, has_attention

ov = pytest.importorskip("openvino")
torch = pytest.importorskip("torch")
SAMPLES = [{"image": np.random.default_rng(i).standard_normal((1, 3, 16, 16)).astype(np.float32)} for i in range(5)]


@pytest.fixture(scope="module")
def model() -> ir.Model:
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.head = nn.Linear(8, 5)

        def forward(self, image):
            x = torch.relu(self.b(torch.relu(self.a(image))))
            return {"zz_scores": self.head(x.mean((2, 3))), "features": x}

    torch.manual_seed(0)
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    return torch.onnx.export(
        Net().eval(),
        (torch.zeros(2, 3, 16, 16),),
        dynamo=True,
        opset_version=20,
        output_names=["zz_scores", "features"],
        dynamic_shapes=(batch,),
    ).model


def context(**more: object) -> PassContext:
    def stream() -> Iterator[Feeds]:
        return iter(SAMPLES)

    return PassContext(runtime="openvino", calibration=stream, calibration_samples=len(SAMPLES), **more)  # type: ignore[arg-type]


def compute(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(value) for value in compiled(feeds).values()]


def test_names_order_and_free_dimensions_stay(model: ir.Model, tmp_path: Path) -> None:
    before = ir.to_proto(model).SerializeToString()
    artifact, done = OpenVinoIr().write(model, tmp_path, "fp32", IrOptions(), PassContext())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert (artifact.format, artifact.precision) == ("openvino-ir", "fp32")
    assert [spec.name for spec in artifact.outputs] == ["zz_scores", "features"]
    assert done["options"]["quantize"] is None
    written = ov.Core().read_model(artifact.path)
    assert [port.any_name for port in written.inputs] == ["image"]
    assert [port.any_name for port in written.outputs] == ["zz_scores", "features"]
    assert written.inputs[0].partial_shape[0].is_dynamic
    assert ir.to_proto(model).SerializeToString() == before
    # fp32 weights stay fp32
    assert (tmp_path / "model.bin").stat().st_size >= 4 * (3 * 8 * 9 + 8 * 8 * 9)


def test_nncf_quantizes_quietly_and_close_to_float(
    model: ir.Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, quantized = tmp_path / "plain", tmp_path / "quantized"
    plain.mkdir()
    quantized.mkdir()
    reference, _ = OpenVinoIr().write(model, plain, "fp32", IrOptions(), PassContext())
    capfd.readouterr()
    artifact, done = OpenVinoIr().write(model, quantized, "int8", IrOptions(quantize="nncf"), context())
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert done["fake_quantize"] > 0 and done["model_type"] == "any" and done["quantizer"].startswith("nncf ")
    for want, got in zip(compute(reference.path, SAMPLES[0]), compute(artifact.path, SAMPLES[0]), strict=True):
        assert np.linalg.norm(want - got) < 0.1 * np.linalg.norm(want)
        assert not np.array_equal(want, got)


def test_keep_float_by_the_graphs_node_names(model: ir.Model, tmp_path: Path) -> None:
    names = [node.name or "" for node in model.graph]
    first = [node.name or "" for node in model.graph if node.op_type == "Conv"][:1]
    counts = []
    for index, keep in enumerate((frozenset[str](), frozenset(first), frozenset(names))):
        folder = tmp_path / str(index)
        folder.mkdir()
        _, done = OpenVinoIr().write(model, folder, "int8", IrOptions(quantize="nncf"), context(keep_float=keep))
        assert done["kept_float"] == sorted(keep)
        counts.append(done["fake_quantize"])
    assert counts[0] > counts[1] > counts[2] == 0


def test_quantizing_needs_data(model: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"int8 through NNCF needs calibration data\. Pass samples with --data\."):
        OpenVinoIr().write(model, tmp_path, "int8", IrOptions(quantize="nncf"), PassContext())


def test_the_converters_own_words(tmp_path: Path) -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    node = ir.node("NoSuchOperator", [x], domain="nowhere", name="odd")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "y", x.type, x.shape
    graph = ir.Graph([x], list(node.outputs), nodes=[node], opset_imports={"": 20, "nowhere": 1})
    with pytest.raises(EngineError, match=r"OpenVINO cannot convert the graph: .*NoSuchOperator"):
        OpenVinoIr().write(ir.Model(graph, ir_version=10), tmp_path, "fp32", IrOptions(), PassContext())
    assert not list(tmp_path.iterdir())


def test_attention_is_seen(model: ir.Model) -> None:
    assert not has_attention(model)
    net = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.zeros(1, 4, 8)
    assert has_attention(torch.onnx.export(net, (x, x, x), dynamo=True, opset_version=20).model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int8"}, "'quantize' must be one of 'nncf', got 'int8'"),
        ({"preset": "fast"}, "'preset' must be one of 'auto', 'performance', 'mixed', got 'fast'"),
        ({"smooth_quant": 2.0}, "'smooth_quant' must be at most 1, got 2.0"),
    ],
)
def test_bad_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        IrOptions(**options)  # type: ignore[arg-type]

"""Real engines, real mistakes: each must be caught, and blamed on the layer that makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from edgekit.accuracy.divergence import first_divergence
from edgekit.accuracy.parity import ParityCheck
from edgekit.accuracy.reference import reference_for
from edgekit.accuracy.walk import Divergence
from edgekit.context import PassContext
from edgekit.contracts import Artifact, Feeds, Tolerance
from edgekit.exporters import GraphRequest
from edgekit.exporters.onnx import OnnxFile
from edgekit.exporters.torch_onnx import PLUGIN as TORCH_ONNX
from edgekit.graph import MODULE_PATH
from edgekit.runtimes.onnxruntime import OnnxRuntime
from edgekit.runtimes.openvino import OpenVino
from edgekit.sources.load import load_source
from edgekit.sources.source import Source

FP32 = Tolerance(rel_l2=1e-3)
INT8 = Tolerance(sqnr_db=20.0)
ENGINES = [OnnxRuntime(), OpenVino()]
BY_NAME = {"ids": lambda engine: engine.name}


def export(module: torch.nn.Module, example: torch.Tensor, folder: Path) -> tuple[Source, ir.Model, Artifact]:
    source = load_source((module.eval(), (example,)))
    graph = TORCH_ONNX().to_graph(source, GraphRequest(opset=20, report=folder / "report.md"))
    artifact, _ = OnnxFile().write(graph, folder, "fp32", OnnxFile.Options(), PassContext())
    return source, graph, artifact


def diverges(
    source: Source, graph: ir.Model, artifact: Artifact, engine: OnnxRuntime | OpenVino, tolerance: Tolerance
) -> Divergence | None:
    """`first_divergence` on the source's example; it must agree with `ParityCheck` on whether anything is wrong."""
    session = engine.open(artifact, engine.Options())
    check = ParityCheck(tolerance, "PyTorch")
    check.add(reference_for(source).run(source.example), session.run(source.example))
    found = first_divergence(source, graph, artifact, engine, engine.Options(), source.example, tolerance)
    assert check.report().passed == (found is None)
    return found


class Resampler(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, size=(12, 12), mode="bicubic", antialias=True)


class Antialiased(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.shrink = Resampler()
        self.head = torch.nn.Conv2d(8, 4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.shrink(self.stem(image).relu()))


@pytest.fixture(scope="module")
def antialiased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, ir.Model, Artifact]:
    torch.manual_seed(0)
    return export(Antialiased(), torch.randn(1, 3, 32, 32), tmp_path_factory.mktemp("antialiased"))


def test_openvinos_antialiased_bicubic_resize(antialiased: tuple[Source, ir.Model, Artifact]) -> None:
    found = diverges(*antialiased, OpenVino(), FP32)
    assert found is not None
    assert (found.module, found.op_type) == ("shrink", "Resize")
    assert found.rel_l2 > 0.1
    assert found.inputs_rel_l2 < 1e-5
    assert "first to diverge: shrink (Resize " in str(found)
    assert "against ONNX Runtime" in str(found)


def test_the_same_in_openvinos_own_format(antialiased: tuple[Source, ir.Model, Artifact], tmp_path: Path) -> None:
    import openvino as ov

    source, graph, artifact = antialiased
    ov.save_model(ov.Core().read_model(artifact.path), tmp_path / "model.xml", compress_to_fp16=False)
    converted = Artifact(tmp_path / "model.xml", "openvino-ir", "fp32", artifact.inputs, artifact.outputs)
    found = diverges(source, graph, converted, OpenVino(), FP32)
    assert found is not None
    assert (found.module, found.op_type) == ("shrink", "Resize")


def test_onnxruntime_resizes_rightly(antialiased: tuple[Source, ir.Model, Artifact]) -> None:
    assert diverges(*antialiased, OnnxRuntime(), FP32) is None


class Scores(torch.nn.Module):
    """Query times key without the scale: the products pass float16's largest number, 65504."""

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(16, 16)
        self.key = torch.nn.Linear(16, 16)
        with torch.no_grad():
            self.query.weight.mul_(300.0)
            self.key.weight.mul_(300.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.query(x) @ self.key(x).transpose(1, 2)


class Overflowing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Linear(16, 16)
        self.scores = Scores()
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.scores(self.stem(x))
        # ONNX Runtime's CPU computes fp16 graphs in fp32; moving data it does in fp16, and there it overflows.
        y = torch.cat([y[..., 4:], y[..., :4]], -1).transpose(1, 2)
        return self.head(y / 1e4)


def test_fp16_overflow(tmp_path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    torch.manual_seed(0)
    source, graph, artifact = export(Overflowing(), torch.randn(1, 8, 16), tmp_path)
    half = convert_float_to_float16(ir.to_proto(graph), keep_io_types=True)
    onnx.save(half, tmp_path / "half.onnx")
    lower = Artifact(tmp_path / "half.onnx", "onnx", "fp16", artifact.inputs, artifact.outputs)
    found = diverges(source, graph, lower, OnnxRuntime(), Tolerance(sqnr_db=45.0))
    assert found is not None
    assert (found.module, found.op_type) == ("scores", "MatMul")
    assert found.rel_l2 == np.inf
    # The float32 graph is right in both engines.
    assert all(diverges(source, graph, artifact, engine, FP32) is None for engine in ENGINES)


def depthwise_with_batchnorm(path: Path) -> None:
    """conv's channels differ 10,000-fold in size and BatchNormalization makes them equal again."""
    random = np.random.default_rng(0)
    sizes = np.logspace(0, -4, 8).astype(np.float32)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    weights = {
        "w1": normal(8, 3, 3, 3) * np.float32(0.3),
        "w2": normal(8, 1, 3, 3) * sizes.reshape(8, 1, 1, 1),
        "w3": normal(4, 8, 3, 3) * np.float32(0.2),
        "scale": np.ones(8, np.float32),
        "bias": np.zeros(8, np.float32),
        "mean": np.zeros(8, np.float32),
        "var": sizes**2,
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["stem"], name="stem"),
        helper.make_node("Relu", ["stem"], ["act"], name="act"),
        helper.make_node("Conv", ["act", "w2"], ["conv"], name="conv", group=8),
        helper.make_node(
            "BatchNormalization", ["conv", "scale", "bias", "mean", "var"], ["bn"], name="bn", epsilon=1e-12
        ),
        helper.make_node("Conv", ["bn", "w3"], ["output"], name="head"),
    ]
    for node, module in zip(nodes, ("stem", "act", "block.conv", "block.bn", "head"), strict=True):
        node.metadata_props.add(key=MODULE_PATH, value=module)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output", 1, [1, 4, 10, 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, ir.Model, Artifact]:
    """The depthwise block as ONNX Runtime's quantizer leaves it if it is called on the plain export."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    folder = tmp_path_factory.mktemp("quantized")
    depthwise_with_batchnorm(folder / "float.onnx")
    source = load_source(str(folder / "float.onnx"))
    source.example["image"] = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)

    class Samples(CalibrationDataReader):
        def __init__(self, feeds: Feeds) -> None:
            self.left = [dict(feeds)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "int8.onnx"),
        Samples(source.example),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    artifact = Artifact(folder / "int8.onnx", "onnx", "int8", source.inputs, source.outputs)
    return source, ir.load(folder / "float.onnx"), artifact


@pytest.mark.parametrize("engine", ENGINES, **BY_NAME)
def test_batchnorm_left_unfolded_under_qdq(
    quantized: tuple[Source, ir.Model, Artifact], engine: OnnxRuntime | OpenVino
) -> None:
    found = diverges(*quantized, engine, INT8)
    assert found is not None
    assert (found.module, found.op_type, found.node) == ("block.bn", "BatchNormalization", "bn")
    assert found.rel_l2 > 10 * found.inputs_rel_l2
    assert not found.note


def chain(path: Path, scales: list[float]) -> None:
    """y = x, scaled step by step: Mul nodes t0, t1, … in a row, each by its own constant."""
    names = ["x", *(f"t{i}" for i in range(len(scales) - 1)), "y"]
    nodes = [helper.make_node("Mul", [names[i], f"c{i}"], [names[i + 1]], name=f"mul{i}") for i in range(len(scales))]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [4])],
        [helper.make_tensor_value_info("y", 1, [4])],
        [numpy_helper.from_array(np.array(scale, np.float32), f"c{i}") for i, scale in enumerate(scales)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize("engine", ENGINES, **BY_NAME)
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ([1.0, 1.5, 1.0, 1.0], ("mul1", "one jump")),  # handed on
        ([1.0, 1.5, 1.0 / 1.5, 1.0], None),  # made good before the output: nothing is wrong
        ([1.03, 1.05, 1.04, 1.01], ("mul1", "gradual")),  # over 0.1 at mul2, and none of them doubles the error
        ([1.0, 1.0, 1.0, 1.5], ("mul3", "one jump")),  # the output itself
    ],
)
def test_which_layer_is_named(
    tmp_path: Path, engine: OnnxRuntime | OpenVino, wrong: list[float], named: tuple[str, str] | None
) -> None:
    chain(tmp_path / "right.onnx", [1.0] * 4)
    chain(tmp_path / "wrong.onnx", wrong)
    source = load_source(str(tmp_path / "right.onnx"))
    source.example["x"] = np.array([1, 2, 3, 4], np.float32)
    artifact = Artifact(tmp_path / "wrong.onnx", "onnx", "fp32", source.inputs, source.outputs)
    found = diverges(source, ir.load(tmp_path / "right.onnx"), artifact, engine, INT8)
    told = found and (found.node, "gradual" if "grows gradually" in found.note else "one jump")
    assert told == named


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
        self.second = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def test_a_graph_that_is_not_what_pytorch_computes(tmp_path: Path) -> None:
    """A pass (or the exporter) has changed a weight: the engine computes the graph rightly, and the graph is wrong."""
    torch.manual_seed(0)
    source, graph, _ = export(Block(), torch.randn(2, 8), tmp_path)
    for name, value in graph.graph.initializers.items():
        if "second.bias" in name and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy() + np.float32(1.0), name=name)
    folder = tmp_path / "wrong"
    folder.mkdir()
    artifact, _ = OnnxFile().write(graph, folder, "fp32", OnnxFile.Options(), PassContext())
    found = diverges(source, graph, artifact, OnnxRuntime(), FP32)
    assert found is not None
    assert (found.module, found.reference) == ("second", "PyTorch")
    assert "the export or a graph pass is at fault" in found.note

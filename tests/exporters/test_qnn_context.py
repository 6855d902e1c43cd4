"""Context binaries, compiled by Qualcomm's libraries on x86-64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.context import PassContext
from edgekit.contracts import Artifact, Tolerance, options_from
from edgekit.devices.local import LocalDevice
from edgekit.errors import EngineError, PlacementError, UsageError
from edgekit.exporters.qnn_context import ContextOptions, QnnContext
from edgekit.runtimes.onnxruntime_qnn import EMULATED_SOC, SOCS, OnnxRuntimeQnn
from edgekit.testing.exporters import ArtifactCase, ArtifactExporterConformance

X = np.linspace(-2, 2, 8, dtype=np.float32)[None]
pytestmark = pytest.mark.usefixtures("htp")


def context(*allowed: str) -> PassContext:
    return PassContext(target="mobile-npu", device="HTP", allow_fallback=frozenset(allowed))


def write(artifact: Artifact, folder: Path, soc: int = 69, *allowed: str) -> tuple[Artifact, dict[str, object]]:
    folder.mkdir()
    written, info = QnnContext().write(ir.load(artifact.path), folder, "fp16", ContextOptions(soc), context(*allowed))
    return written, dict(info)


class TestConformance(ArtifactExporterConformance):
    """The kit that plug-in authors use."""

    @pytest.fixture
    def case(self, htp: OnnxRuntimeQnn, onnx_chain: Callable[..., Artifact]) -> ArtifactCase:
        model, expected = ir.load(onnx_chain("Relu", "Tanh").path), {"y": np.tanh(np.maximum(X, 0))}
        # fp16 has 11 significant bits: 5e-4, as was measured over many operators.
        bound = Tolerance(rel_l2=1e-3)
        return ArtifactCase(
            QnnContext(), model, {"x": X}, expected, htp, bound, ContextOptions(EMULATED_SOC), context()
        )


@pytest.mark.parametrize("soc", sorted(SOCS))
def test_compiles_for_each_soc_and_runs_on_the_emulator(
    soc: int, onnx_chain: Callable[..., Artifact], tmp_path: Path
) -> None:
    """One test process, four SoCs: each is compiled and opened in a process of its own."""
    written, info = write(onnx_chain("Relu", "Tanh"), tmp_path / "out", soc)
    assert {path.name for path in written.path.parent.iterdir()} == {"model.onnx", "model_qnn.bin"}
    assert info["soc_model"] == soc
    assert info["placement"] == {"HTP": 2}
    assert str(info["qnn_sdk"]).startswith("v2.")
    with LocalDevice().open(written, "onnxruntime_qnn", {"soc_model": soc}) as worker:
        assert [(node.op_type, node.device) for node in worker.info.placement.nodes] == [("EPContext", "HTP")]
        got = worker.run({"x": X})["y"]
    np.testing.assert_allclose(got, np.tanh(np.maximum(X, 0)), atol=2e-3)  # fp16


def test_refused_operators_are_named_by_their_pytorch_modules(
    onnx_chain: Callable[..., Artifact], tmp_path: Path
) -> None:
    with pytest.raises(PlacementError) as raised:
        write(onnx_chain("Relu", "Erf", "Tanh", "Erf"), tmp_path / "out")
    assert raised.value.exit_code == 5
    assert str(raised.value) == (
        "2 of 4 nodes would run on the CPU, which target 'mobile-npu' does not allow:\n"
        "  Erf  (layers.1)  QNN: operators of type `Erf` are not supported\n"
        "  Erf  (layers.3)  same\n"
        "Use GELU's tanh form, or allow it: --allow-fallback Erf"
    )


def test_an_allowed_operator_stays_beside_the_compiled_parts(
    onnx_chain: Callable[..., Artifact], tmp_path: Path
) -> None:
    written, info = write(onnx_chain("Relu", "Erf", "Tanh"), tmp_path / "out", 69, "Erf")
    assert info["placement"] == {"HTP": 2, "CPU": 1}
    with LocalDevice().open(written, "onnxruntime_qnn", {"soc_model": 69, "fallback": ["Erf"]}) as worker:
        assert worker.info.placement.counts() == {"HTP": 2, "CPU": 1}
    with pytest.raises(PlacementError, match="would not run on the HTP"):
        LocalDevice().open(written, "onnxruntime_qnn", {"soc_model": 69})


def test_what_validation_lets_through_and_the_compiler_does_not(tmp_path: Path) -> None:
    """PRelu of 16-bit integers: QNN speaks of memory and names nothing, so the operators are tried one by one."""
    with pytest.raises(EngineError) as raised:
        write(prelu_16(tmp_path / "prelu.onnx"), tmp_path / "out")
    text = str(raised.value)
    assert "the HTP's compiler cannot do 1 operator in this precision" in text
    assert "PRelu  (encoder.act)  QNN: QNN_COMMON_ERROR_MEM_ALLOC" in text
    assert "Use LeakyReLU or ReLU, or choose another precision with --candidate." in text


def test_needs_to_know_the_soc(onnx_chain: Callable[..., Artifact], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a context binary is compiled for one SoC: state its 'soc_model'"):
        write(onnx_chain("Relu"), tmp_path / "out", 0)
    with pytest.raises(UsageError, match="'finalization' must be 0 to 3, got 9"):
        options_from(QnnContext.Options, {"finalization": 9}, "exporter")


def test_its_engine_opens_what_it_writes() -> None:
    assert QnnContext.format in OnnxRuntimeQnn.formats


def prelu_16(path: Path) -> Artifact:
    """x → QDQ → PRelu → QDQ → y, all of it uint16."""
    steps = {"x": (2.0 / 32768, 32768), "slope": (1.0 / 65535, 0), "p": (2.0 / 32768, 32768)}
    constants = [numpy_helper.from_array(np.full((8, 1), 0.25, np.float32), "slope")]
    for name, (scale, zero) in steps.items():
        constants.append(numpy_helper.from_array(np.array(scale, np.float32), f"{name}_scale"))
        constants.append(numpy_helper.from_array(np.array(zero, np.uint16), f"{name}_zero"))

    def pair(name: str, to: str) -> list[onnx.NodeProto]:
        settings = [f"{name}_scale", f"{name}_zero"]
        return [
            helper.make_node("QuantizeLinear", [name, *settings], [f"{name}_q"], name=f"{name}_Q"),
            helper.make_node("DequantizeLinear", [f"{name}_q", *settings], [to], name=f"{name}_DQ"),
        ]

    prelu = helper.make_node("PRelu", ["x_real", "slope_real"], ["p"], name="act")
    prelu.metadata_props.add(key="edgekit.module", value="encoder.act")
    nodes = [*pair("x", "x_real"), *pair("slope", "slope_real"), prelu, *pair("p", "y")]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 4])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return Artifact(path, "onnx", "int8", (), ())

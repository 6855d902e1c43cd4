"""onnxruntime-web in a real headless browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.contracts import Artifact, NodePlacement, OutOfProcess, Tolerance, options_from
from edgekit.errors import EngineError, UsageError
from edgekit.measure.machine import peak_rss_bytes
from edgekit.runtimes._onnxruntime_web.package import Package
from edgekit.runtimes._onnxruntime_web.session import placements
from edgekit.runtimes.onnxruntime_web import OnnxRuntimeWeb
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance

Arrays = dict[str, np.ndarray]
SOFTWARE_GPU = OnnxRuntimeWeb.Options(backend="webgpu", threads=1, adapter="software")


@pytest.mark.slow
class TestOnnxRuntimeWeb(RuntimeConformance):
    @pytest.fixture
    def runtime_case(
        self, artifacts: dict[str, Artifact], feeds: Arrays, expected: Arrays, web_engine: Package
    ) -> RuntimeCase:
        # float32 throughout, sums of up to 36 terms: rounding stays under 1e-6 relative.
        return RuntimeCase(OnnxRuntimeWeb(), artifacts["onnx"], feeds, expected, Tolerance(rel_l2=1e-6))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"backend": "webgl"}, "backend must be one of wasm, webgpu, got 'webgl'"),
        ({"optimization": "max"}, "optimization must be one of all, extended, basic, disabled, got 'max'"),
        ({"adapter": "cpu"}, "adapter must be one of gpu, software, got 'cpu'"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
    ],
)
def test_refuses_options(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        options_from(OnnxRuntimeWeb.Options, table, "[runtime.options]")
    assert message in str(raised.value)


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list, outputs: list) -> Artifact:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Artifact(path, "onnx", "fp32", (), ())


def value(name: str, dtype: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.mark.slow
def test_threads_time_and_memory_are_the_pages_own(linear: Artifact, web_engine: Package) -> None:
    session = OnnxRuntimeWeb().open(linear, OnnxRuntimeWeb.Options(threads=2))
    try:
        told = session.in_force()
        assert (told["threads"], told["crossOriginIsolated"], told["simd"]) == (2, True, True)
        assert told["clock"] == pytest.approx(5e-6, rel=0.01)  # what a page that is isolated gets
        assert isinstance(session, OutOfProcess)
        page, *others = session.processes()
        assert others
        assert 50e6 < (peak_rss_bytes(page) or 0) < 2e9
        feeds = [{"x": np.full((1, 8), number, np.float32)} for number in (0.0, 1.0)]
        sampler = session.sampler(feeds)
        assert sampler.warm_up(0.05) >= 2
        block = sampler.block(0.1, min_runs=30)
        assert block.size >= 30
        assert 0.05 < block.sum() < 0.5  # back to back for about so long
        assert sampler.block(0.0, max_runs=5).size == 1
        assert 0 <= sampler.harness(0.02, max_runs=10_000).mean() < block.mean()
        served = sampler.serve(100.0, 0.2, seed=3)
        assert 5 < served.size < 60
        assert (served >= 0).all()
    finally:
        session.close()


@pytest.mark.slow
def test_every_dtype_of_javascript_goes_there_and_back(tmp_path: Path, web_engine: Package) -> None:
    kinds = {
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "float16": TensorProto.FLOAT16,
        "int8": TensorProto.INT8,
        "uint8": TensorProto.UINT8,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "bool": TensorProto.BOOL,
        "string": TensorProto.STRING,
    }
    artifact = save(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", [f"{name}_in"], [name]) for name in kinds],
        [value(f"{name}_in", kind, "n", 3) for name, kind in kinds.items()],
        [value(name, kind, "n", 3) for name, kind in kinds.items()],
    )
    numbers = np.array([[1, 0, 1], [0, 1, 1]])
    feeds = {f"{name}_in": numbers.astype(name) for name in kinds if name != "string"}
    feeds["string_in"] = np.array([["a", "", "ü€"], ["b", "c", "🙂"]])
    session = OnnxRuntimeWeb().open(artifact, OnnxRuntimeWeb.Options(threads=1))
    try:
        outputs = session.run(feeds)
    finally:
        session.close()
    for name in kinds:
        np.testing.assert_array_equal(outputs[name], feeds[f"{name}_in"])
        if name != "string":
            assert outputs[name].dtype == feeds[f"{name}_in"].dtype


@pytest.mark.slow
def test_webgpu_without_a_gpu_is_an_error_unless_it_is_asked_for(linear: Artifact, web_engine: Package) -> None:
    with pytest.raises(EngineError, match=r"WebGPU (has no GPU here, only|cannot be used here)"):
        OnnxRuntimeWeb().open(linear, OnnxRuntimeWeb.Options(backend="webgpu", threads=1))
    session = OnnxRuntimeWeb().open(linear, SOFTWARE_GPU)
    try:
        x = np.arange(8, dtype=np.float32)[None]
        np.testing.assert_allclose(session.run({"x": x})["y"], x @ np.add.outer(np.arange(8), np.arange(3)), rtol=1e-6)
        assert session.placement().counts() == {"WebGPU": 1}
        told = session.in_force()
        assert told["backend"] == "webgpu"
        assert "software adapter" in told["emulated"]
    finally:
        session.close()


@pytest.mark.slow
def test_webgpu_names_the_nodes_that_fall_back_to_the_cpu(tmp_path: Path, web_engine: Package) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="relu"),
        helper.make_node("NonZero", ["h"], ["y"], name="where"),  # a shape that depends on values is nothing for it
    ]
    inputs, outputs = [value("x", TensorProto.FLOAT, 2, 3)], [value("y", TensorProto.INT64, 2, "n")]
    session = OnnxRuntimeWeb().open(save(tmp_path / "m.onnx", nodes, inputs, outputs), SOFTWARE_GPU)
    try:
        placed = session.placement()
        assert NodePlacement("where", "NonZero", "CPU") in placed.nodes
        assert NodePlacement("relu", "Relu", "WebGPU") in placed.nodes
        x = np.array([[0, 1, -1], [2, 0, 0]], np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], [[0, 1], [1, 0]])
    finally:
        session.close()


LOG = """\
2026-01-01 [V:onnxruntime:, session_state.cc:1377 VerifyEachNodeIsAssignedToAnEp] Node placements
2026-01-01 [V:onnxruntime:, session_state.cc:1384 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [WebGpuExecutionProvider]. Number of nodes: 2
2026-01-01 [V:onnxruntime:, session_state.cc:1386 VerifyEachNodeIsAssignedToAnEp]   Conv (a (b))
2026-01-01 [V:onnxruntime:, session_state.cc:1386 VerifyEachNodeIsAssignedToAnEp]   Relu ()
2026-01-01 [V:onnxruntime:, session_state.cc:1384 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 1
2026-01-01 [V:onnxruntime:, session_state.cc:1386 VerifyEachNodeIsAssignedToAnEp]   Shape (/s)
2026-01-01 [V:onnxruntime:, session_state.cc:186 CreateGraphInfo] SaveMLValueNameIndexMapping
"""  # noqa: E501 - as the engine prints it


def test_reads_the_engines_log() -> None:
    nodes, total = placements(LOG.splitlines())
    assert nodes == (
        NodePlacement("a (b)", "Conv", "WebGPU"),
        NodePlacement("", "Relu", "WebGPU"),
        NodePlacement("/s", "Shape", "CPU"),
    )
    assert total is None
    assert placements(["something else"]) == ((), None)

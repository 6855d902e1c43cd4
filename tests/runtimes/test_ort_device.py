"""Sessions on a device's memory. The CPU stands in for the GPU: the same bindings and engine, another provider."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.contracts import Artifact, Session, Tolerance
from edgekit.errors import EngineError
from edgekit.runtimes._ort import import_onnxruntime, open_session
from edgekit.runtimes._ort_device import Device, DeviceSession
from edgekit.runtimes.onnxruntime import OnnxRuntime
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance


class StandIn(OnnxRuntime):
    """The CUDA adapter's session, with the host's memory for the device's."""

    graph = False
    host_copies = False

    def open(self, artifact: Artifact, options: Any) -> Session:
        ort: Any = import_onnxruntime(self.install)
        native = ort.SessionOptions()
        native.intra_op_num_threads = options.threads
        inner = open_session(ort, artifact, native, ["CPUExecutionProvider"])
        return DeviceSession(ort, inner, Device("cpu"), graph=self.graph, host_copies=self.host_copies)


class WithCopies(StandIn):
    host_copies = True


class Conformance(RuntimeConformance):
    """The kit, but for imports: those are checked of the real adapter."""

    def test_importing_the_adapter_imports_no_engine(self, runtime_case: RuntimeCase) -> None:
        code = "import sys; import edgekit.runtimes.onnxruntime_cuda; assert 'onnxruntime' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def static(tmp_path: Path) -> Artifact:
    """y = x · w, b = x > 0: x [2, 3] → y [2, 2], b [2, 3]."""
    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Greater", ["x", "zero"], ["b"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("b", TensorProto.BOOL, [2, 3]),
        ],
        [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(np.float32(0), "zero")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    return Artifact(tmp_path / "m.onnx", "onnx", "fp32", (), ())


X = {"x": np.array([[1, -2, 3], [0, 5, -6]], np.float32)}
Y = X["x"] @ np.arange(6, dtype=np.float32).reshape(3, 2)


class TestStatic(Conformance):
    """Outputs are allocated beforehand."""

    @pytest.fixture(params=[StandIn, WithCopies])
    def runtime_case(self, request: pytest.FixtureRequest, static: Artifact) -> RuntimeCase:
        # The same products in the same order: float32 rounding of three terms.
        return RuntimeCase(request.param(), static, X, {"y": Y, "b": X["x"] > 0}, Tolerance(rel_l2=1e-6))


class TestFree(Conformance):
    """A free dimension: the engine allocates the outputs."""

    @pytest.fixture
    def runtime_case(
        self, artifacts: dict[str, Artifact], feeds: dict[str, np.ndarray], expected: dict[str, np.ndarray]
    ) -> RuntimeCase:
        return RuntimeCase(StandIn(), artifacts["onnx"], feeds, expected, Tolerance(rel_l2=1e-5))  # other sums


def test_the_hot_call_works_on_its_copy_of_the_inputs(static: Artifact) -> None:
    session = StandIn().open(static, StandIn.Options())
    x = X["x"].copy()
    call: Any = session.bind({"x": x})
    outputs = vars(call)["held"][1]
    x[:] = 0
    call()
    np.testing.assert_array_equal(outputs["y"].numpy(), Y)
    assert session.in_force()["tensors"] == "on the device"


def test_with_copies_the_hot_call_reads_the_inputs_anew(static: Artifact) -> None:
    session = WithCopies().open(static, StandIn.Options())
    x = X["x"].copy()
    call: Any = session.bind({"x": x})
    x[:] = 2 * X["x"]
    np.testing.assert_array_equal(call()["y"], 2 * Y)
    assert session.in_force()["tensors"] == "copied to the device and back in every call"


def test_a_wrong_shape_never_reaches_a_bound_input(static: Artifact) -> None:
    session = StandIn().open(static, StandIn.Options())
    session.run(X)
    with pytest.raises(EngineError, match=r"input 'x' must have the shape \[2, 3\], got \[3, 2\]"):
        session.run({"x": X["x"].T})


def test_a_graph_needs_static_shapes(artifacts: dict[str, Artifact]) -> None:
    runtime = StandIn()
    runtime.graph = True
    with pytest.raises(EngineError, match=r"^a CUDA graph needs static shapes, but '.*x3x8x8' has the free dimension"):
        runtime.open(artifacts["onnx"], runtime.Options())


def test_every_binding_has_a_graph_of_its_own(static: Artifact) -> None:
    """A captured graph holds the addresses it was captured with: two bindings must not share one."""
    runtime = StandIn()
    runtime.graph = True
    session = runtime.open(static, runtime.Options())
    calls: list[Any] = [session.bind(X), session.bind(X)]
    ids = {call.args[1].get_run_config_entry("gpu_graph_id") for call in calls}
    assert ids == {"1", "2"}


def test_strings_stay_on_the_host(tmp_path: Path) -> None:
    string = TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", string, [2])],
        [helper.make_tensor_value_info("y", string, [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    session = StandIn().open(Artifact(tmp_path / "m.onnx", "onnx", "fp32", (), ()), StandIn.Options())
    x = {"x": np.array(["a", "b"], dtype=object)}
    assert session.run(x)["y"].tolist() == ["a", "b"]
    session.bind(x)()

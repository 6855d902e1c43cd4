"""What of the CUDA adapter needs no GPU: its options, and what it says where it cannot run.

On a machine with an NVIDIA GPU and onnxruntime-gpu the conformance kit runs on it as well.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Artifact, Tolerance, options_from
from edgekit.errors import EngineError, UsageError
from edgekit.runtimes import _cuda_driver
from edgekit.runtimes.onnxruntime_cuda import OnnxRuntimeCuda, provider_options, settings
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance


def usable() -> bool:
    try:
        OnnxRuntimeCuda().version()
    except EngineError:
        return False
    return True


Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class GraphOptions(OnnxRuntimeCuda.Options):
    cuda_graph: bool = True


class WithGraph(OnnxRuntimeCuda):
    """A CUDA graph unless told otherwise, so that the whole kit runs on one."""

    Options = GraphOptions


def exported(net: Any, feeds: Arrays, expected: Arrays, folder: Path, free: bool) -> Artifact:
    """The small model of these tests as ONNX; ``free``: its batch is a free dimension."""
    import torch

    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net,
        tuple(torch.from_numpy(array) for array in feeds.values()),
        input_names=list(feeds),
        output_names=list(expected),
        dynamic_shapes=({0: batch}, {0: batch}) if free else None,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(folder / "model.onnx")
    return Artifact(folder / "model.onnx", "onnx", "fp32", (), ())


class OnTheGpu(RuntimeConformance):
    """The kit and what only a GPU shows. Needs one, and onnxruntime-gpu."""

    free = False  # whether the batch is a free dimension
    runtime: type[OnnxRuntimeCuda] = OnnxRuntimeCuda

    @pytest.fixture(scope="class")
    def artifact(self, net: Any, feeds: Arrays, expected: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
        return exported(net, feeds, expected, tmp_path_factory.mktemp("gpu"), self.free)

    @pytest.fixture
    def runtime_case(self, artifact: Artifact, feeds: Arrays, expected: Arrays) -> RuntimeCase:
        # float32 without TF32; the GPU adds in another order.
        return RuntimeCase(self.runtime(), artifact, feeds, expected, Tolerance(rel_l2=1e-5))

    def test_every_node_is_on_the_gpu(self, runtime_case: RuntimeCase) -> None:
        placement = runtime_case.open().placement()
        assert placement.counts() == {"CUDA": len(placement.nodes)}

    def test_tells_what_is_in_force(self, runtime_case: RuntimeCase) -> None:
        told = runtime_case.open(prefer_nhwc=True, tf32=True).in_force()
        assert (told["prefer_nhwc"], told["tf32"], told["tensors"]) == (True, True, "on the device")
        assert told["cuda_graph"] is (self.runtime is WithGraph)
        assert told["gpu"]
        assert told["device_memory_bytes"] >= 0

    def test_new_inputs_reach_a_replayed_graph(self, runtime_case: RuntimeCase) -> None:
        session, plain = runtime_case.open(), runtime_case.open(cuda_graph=False)
        for scale in (1.0, 2.0, -3.0):
            feeds = {**runtime_case.feeds, "image": runtime_case.feeds["image"] * np.float32(scale)}
            np.testing.assert_allclose(session.run(feeds)["logits"], plain.run(feeds)["logits"], rtol=1e-4, atol=1e-5)

    def test_the_hot_call_returns_when_the_gpu_is_done(self, runtime_case: RuntimeCase) -> None:
        """Its outputs are right at once, before anything else waits for the GPU."""
        call: Any = runtime_case.open().bind(runtime_case.feeds)
        outputs = vars(call)["held"][1]
        for _ in range(20):
            call()
            for name, value in outputs.items():
                np.testing.assert_allclose(value.numpy(), runtime_case.expected[name], rtol=1e-4, atol=1e-5)


if usable():

    class TestOnTheGpu(OnTheGpu):
        pass

    class TestOnTheGpuWithFreeBatch(OnTheGpu):
        free = True

    class TestOnTheGpuWithGraph(OnTheGpu):
        runtime = WithGraph

    def test_a_graph_with_a_free_dimension_is_refused(
        net: Any, feeds: Arrays, expected: Arrays, tmp_path: Path
    ) -> None:
        artifact = exported(net, feeds, expected, tmp_path, free=True)
        with pytest.raises(EngineError, match="a CUDA graph needs static shapes"):
            OnnxRuntimeCuda().open(artifact, OnnxRuntimeCuda.Options(cuda_graph=True))


Options = OnnxRuntimeCuda.Options


def test_options_reach_the_provider() -> None:
    options = Options(
        device_id=1,
        cuda_graph=True,
        prefer_nhwc=True,
        conv_search="heuristic",
        conv_workspace=False,
        fuse_conv_bias=True,
        tf32=True,
        attention="cudnn",
        memory_limit_bytes=1 << 30,
    )
    assert provider_options(options) == {
        "device_id": "1",
        "enable_cuda_graph": "1",
        "prefer_nhwc": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "0",
        "fuse_conv_bias": "1",
        "use_tf32": "1",
        "sdpa_kernel": "8",
        "gpu_mem_limit": "1073741824",
    }


def test_float32_is_float32_unless_said() -> None:
    """ONNX Runtime's own default rounds it to TF32."""
    assert provider_options(Options())["use_tf32"] == "0"


def test_what_the_provider_reports_is_told_by_our_names() -> None:
    options = Options(cuda_graph=True, conv_search="default", attention="flash")
    told = settings(provider_options(options))
    assert told == {
        "cuda_graph": True,
        "prefer_nhwc": False,
        "conv_workspace": True,
        "fuse_conv_bias": False,
        "tf32": False,
        "conv_search": "default",
        "attention": "flash",
    }
    assert settings({"sdpa_kernel": "3"}) == {"attention": "3"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"conv_search": "fast"}, "conv_search must be one of exhaustive, heuristic, default, got 'fast'"),
        ({"attention": "trt"}, "attention must be one of auto, flash, efficient, cudnn, math, got 'trt'"),
        ({"device_id": -1}, "device_id and memory_limit_bytes must be >= 0"),
        ({"cuda_graf": True}, "has no option 'cuda_graf'. Did you mean 'cuda_graph'?"),
    ],
)
def test_refuses_options(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        options_from(Options, table, "[runtime.options]")
    assert message in str(raised.value)


def test_options_that_change_nothing_are_known() -> None:
    names = set(Options.__dataclass_fields__)
    assert set(OnnxRuntimeCuda.affects) <= names


# ── What it says where it cannot run ─────────────────────────────────────────────────────────────────────────────────


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, linear: Artifact) -> None:
    """The driver's library is really not found: under a name that no machine has."""
    monkeypatch.setattr(_cuda_driver, "_LIBRARY", "libcuda.so.none")
    _cuda_driver.load.cache_clear()
    try:
        for call in (OnnxRuntimeCuda().version, lambda: OnnxRuntimeCuda().open(linear, Options())):
            with pytest.raises(EngineError) as raised:
                call()
            assert str(raised.value) == (
                "no NVIDIA driver on this machine: libcuda.so.none cannot be loaded. "
                "This needs a machine with an NVIDIA GPU and its driver, which nvidia-smi lists."
            )
            assert raised.value.exit_code == 6
    finally:
        _cuda_driver.load.cache_clear()


def test_two_builds_at_once(tmp_path: Path) -> None:
    """Real metadata of two distributions on the path: refused before the damaged package is imported."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.31.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edgekit.runtimes.onnxruntime_cuda import PLUGIN\n"
        "PLUGIN().version()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files in the folder "
        "'onnxruntime'. Keep one: pip uninstall -y onnxruntime onnxruntime-gpu && "
        'pip install "onnxruntime-gpu[cuda,cudnn]"'
    ) in done.stderr


class FakeDriver:
    """NVIDIA's driver library as machines of each kind have it: the calls that `_cuda_driver` makes, in C's manner."""

    def __init__(self, cuda: int = 13000, gpus: int = 1, init: int = 0, capability: tuple[int, int] = (9, 0)) -> None:
        self.cuda, self.gpus, self.init, self.capability = cuda, gpus, init, capability

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:  # noqa: N802
        return self._set(out, self.cuda)

    def cuDeviceGetCount(self, out: Any) -> int:  # noqa: N802
        return self._set(out, self.gpus)

    def cuDeviceGet(self, out: Any, index: int) -> int:  # noqa: N802
        return self._set(out, index)

    def cuDeviceGetName(self, out: Any, size: int, device: Any) -> int:  # noqa: N802
        out.value = b"NVIDIA Test"
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:  # noqa: N802
        return self._set(out, 80 << 30)

    def cuDeviceGetAttribute(self, out: Any, key: int, device: Any) -> int:  # noqa: N802
        return self._set(out, self.capability[key - 75])

    @staticmethod
    def _set(out: Any, value: int) -> int:
        out._obj.value = value
        return 0


def test_a_driver_describes_its_gpus() -> None:
    found = _cuda_driver.CudaDriver(FakeDriver(cuda=13010)).describe()
    assert found == _cuda_driver.Driver((13, 1), (_cuda_driver.Gpu("NVIDIA Test", (9, 0), 80 << 30),))


def test_a_driver_too_old_names_the_cuda_that_is_needed() -> None:
    driver = _cuda_driver.CudaDriver(FakeDriver(cuda=12040)).describe()
    with pytest.raises(EngineError) as raised:
        _cuda_driver.require(driver, "onnxruntime-gpu 1.31.1", "13.0")
    assert str(raised.value) == (
        "NVIDIA's driver is too old: it runs CUDA up to 12.4, and onnxruntime-gpu 1.31.1 is built for CUDA 13.0. "
        "Install a driver for CUDA 13, 580 or later, or a build of the engine for CUDA 12."
    )


@pytest.mark.parametrize("cuda", [13000, 13020, 14000])
def test_a_driver_that_is_new_enough(cuda: int) -> None:
    """Every later one, and every minor version of the same."""
    assert (
        _cuda_driver.require(_cuda_driver.CudaDriver(FakeDriver(cuda=cuda)).describe(), "x", "13.1").name
        == "NVIDIA Test"
    )


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for library in (FakeDriver(init=100), FakeDriver(gpus=0)):
        with pytest.raises(
            EngineError, match=r"NVIDIA's driver finds no GPU \(CUDA_VISIBLE_DEVICES is ''\)\. This needs"
        ):
            _cuda_driver.CudaDriver(library).describe()


@pytest.mark.parametrize(("init", "message"), [(803, "do not fit together"), (999, "cuInit says error 999")])
def test_a_driver_that_does_not_work(init: int, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        _cuda_driver.CudaDriver(FakeDriver(init=init))


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = _cuda_driver.CudaDriver(FakeDriver()).describe()
    with pytest.raises(EngineError, match="there is no GPU 3; this machine has 0: NVIDIA Test"):
        _cuda_driver.require(driver, "x", "13.0", 3)


def test_a_build_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed onnxruntime is one; only the driver is made up."""
    if "onnxruntime-gpu" in {item.name for item in importlib.metadata.distributions()}:
        pytest.skip("onnxruntime-gpu is installed here: pip install onnxruntime instead")
    monkeypatch.setattr(_cuda_driver, "load", lambda: _cuda_driver.CudaDriver(FakeDriver()))
    with pytest.raises(EngineError) as raised:
        OnnxRuntimeCuda().version()
    assert "that is installed is a build without CUDA. Replace it: pip uninstall -y onnxruntime && " in str(
        raised.value
    )


def test_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`preload_dlls` prints them, in these words (1.31.1), and raises nothing."""
    from edgekit.runtimes import onnxruntime_cuda

    class Ort:
        __version__ = "1.31.1"

        @staticmethod
        def preload_dlls() -> None:
            print("Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file: No such file")
            print("Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.")

    monkeypatch.setattr(onnxruntime_cuda, "_CUDNN", "libcudnn.so.none")
    with pytest.raises(EngineError) as raised:
        onnxruntime_cuda._load_libraries(Ort, OnnxRuntimeCuda.install)
    assert str(raised.value) == (
        "CUDA's libraries for onnxruntime-gpu 1.31.1 are missing: libcublasLt.so.13, libcudnn.so.none. "
        'Install them: pip install "onnxruntime-gpu[cuda,cudnn]"'
    )


def test_memory_is_asked_of_the_driver() -> None:
    class Memory(FakeDriver):
        def cuDevicePrimaryCtxRetain(self, out: Any, device: Any) -> int:  # noqa: N802
            return self._set(out, 7)

        def cuCtxPushCurrent_v2(self, context: Any) -> int:  # noqa: N802
            assert context.value == 7
            return 0

        def cuCtxPopCurrent_v2(self, out: Any) -> int:  # noqa: N802
            return 0

        def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
            return self._set(free, 5 << 30)

    assert _cuda_driver.CudaDriver(Memory()).free_bytes(0) == 5 << 30

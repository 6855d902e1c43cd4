"""What the int8 kernels of three ARM CPUs compute, against x86: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgekit
from edgekit.bundle import open_bundle
from edgekit.contracts import Artifact, Quiet, TensorSpec
from edgekit.devices import remote_device
from edgekit.devices.staging import StagingDevice
from edgekit.errors import EngineError

pytestmark = pytest.mark.slow
NET = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(16 * 12 * 12, 5),
    ), torch.randn(1, 3, 16, 16)
"""
FP32_REL_L2 = 1e-6  # sums of up to 2304 float32 terms in another order


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Precision → a bundle for cpu-arm64, exported here."""
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "net.py").write_text(NET)
    np.savez(folder / "images.npz", input=np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype("f"))
    made = {}
    for precision, candidate in (("int8", "onnxruntime int8 static"), ("fp32", "onnxruntime fp32")):
        made[precision] = folder / f"{precision}.edgekit"
        source, data = f"{folder / 'net.py'}:build", str(folder / "images.npz")
        result = edgekit.export(source, "cpu-arm64", data=data, output=made[precision], candidates=[candidate])
        assert result.chosen == candidate
    return made


@pytest.mark.parametrize("cpu", ["max", "cortex-a76", "cortex-a53"])
def test_the_self_test_passes_and_outputs_are_those_of_x86(
    cpu: str, bundles: dict[str, Path], arm64_device: Callable[[str], Any], ssh_config: Callable[[Path], None]
) -> None:
    device = arm64_device(cpu)
    ssh_config(device.config)
    images = np.random.default_rng(1).standard_normal((4, 1, 3, 16, 16)).astype(np.float32)
    with remote_device(device.url) as remote:
        for precision, folder in bundles.items():
            with open_bundle(folder) as bundle:
                remote.push(bundle, Quiet())
                feeds = [{"input": image} for image in images]
                with bundle.session(threads=1) as session:
                    here = np.stack([session.run(item)["output"] for item in feeds])
                with remote.open(bundle.artifact, "onnxruntime", {"threads": 1}, feeds[:1]) as worker:
                    there = np.stack([item["output"] for item in worker.run_many(feeds)])
            if precision == "int8":
                done = remote.execute(["run.py"], remote.session.push(folder), 120)
                assert done["code"] == 0, done["err"]
                assert "self-test passed on onnxruntime" in done["out"]
                np.testing.assert_array_equal(there, here)
            else:
                assert np.linalg.norm(there - here) <= FP32_REL_L2 * np.linalg.norm(here)


def matmul(folder: Path, op_type: str, dtype: type[np.generic]) -> tuple[Artifact, dict[str, np.ndarray]]:
    """y = x · w with sums of 128 terms, x [64, 128]."""
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(dtype) for shape in ((64, 128), (128, 32)))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, kind, [64, size]) for name, size in (("x", 128), ("y", 32))]
    node = helper.make_node(op_type, ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
    path = folder / f"{op_type}-{np.dtype(dtype).name}"
    path.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path / "model.onnx")
    name = np.dtype(dtype).name
    specs = [(TensorSpec(key, name, (64, size)),) for key, size in (("x", 128), ("y", 32))]
    return Artifact(path / "model.onnx", "onnx", "fp32", *specs), {"x": x}


@pytest.mark.parametrize(("cpu", "half", "bf16"), [("max", True, True), ("cortex-a53", False, False)])
def test_kernels_of_16_bits_are_used_where_the_cpu_has_them(
    cpu: str,
    half: bool,
    bf16: bool,
    tmp_path: Path,
    arm64_device: Callable[[str], Any],
    ssh_config: Callable[[Path], None],
) -> None:
    """The engine itself would go on in fp32 without a word."""
    device = arm64_device(cpu)
    ssh_config(device.config)
    with remote_device(device.url) as remote:
        staging = StagingDevice(remote)

        def run(artifact: Artifact, feeds: dict[str, np.ndarray], **options: Any) -> np.ndarray:
            with staging.open(artifact, "onnxruntime", {"threads": 1, **options}, [feeds]) as worker:
                return worker.run(feeds)["y"].astype(np.float64)

        artifact, feeds = matmul(tmp_path, "Gemm", np.float16)
        with staging.open(artifact, "onnxruntime", {"threads": 1}, [feeds]) as worker:
            layers, _ = worker.profile(0.01)
        assert [item.op_type for item in layers] == (["Gemm"] if half else ["Cast", "Gemm", "Cast"])

        artifact, feeds = matmul(tmp_path, "MatMul", np.float32)
        if not bf16:
            with pytest.raises(EngineError, match="bf16_gemm needs BF16 instructions, which this CPU does not have"):
                run(artifact, feeds, bf16_gemm=True)
            return
        exact, coarse = run(artifact, feeds), run(artifact, feeds, bf16_gemm=True)
        assert 1e-4 < np.linalg.norm(coarse - exact) / np.linalg.norm(exact) < 1e-2  # bfloat16 holds 8 bits
        with pytest.raises(EngineError, match="bf16_gemm would change nothing: it is for MatMul alone"):
            run(*matmul(tmp_path, "Gemm", np.float32), bf16_gemm=True)

"""What the int8 kernels of three ARM CPUs compute, against x86: the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.contracts import Quiet
from edgekit.devices import remote_device

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
        command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", "cpu-arm64", "--json"]
        words = ["--data", "images.npz", "--candidate", candidate, "-o", str(made[precision])]
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["chosen"] == candidate
    return made


@pytest.mark.parametrize("cpu", ["max", "cortex-a76", "cortex-a53"])
def test_outputs_are_those_of_x86(
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
                np.testing.assert_array_equal(there, here)
            else:
                assert np.linalg.norm(there - here) <= FP32_REL_L2 * np.linalg.norm(here)


def test_bf16_products_run_where_the_cpu_has_them_and_are_refused_elsewhere(
    bundles: dict[str, Path], arm64_device: Callable[[str], Any], ssh_config: Callable[[Path], None]
) -> None:
    """The engine itself would go on in fp32 without a word."""
    from edgekit.errors import EngineError

    device = arm64_device("cortex-a76")
    ssh_config(device.config)
    with remote_device(device.url) as remote, open_bundle(bundles["fp32"]) as bundle:
        remote.push(bundle, Quiet())
        with pytest.raises(EngineError, match="bf16_gemm needs BF16 instructions, which this CPU does not have"):
            remote.open(bundle.artifact, "onnxruntime", {"bf16_gemm": True})
    device = arm64_device("max")
    ssh_config(device.config)
    image = {"input": np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)}
    with remote_device(device.url) as remote, open_bundle(bundles["fp32"]) as bundle:
        remote.push(bundle, Quiet())
        with remote.open(bundle.artifact, "onnxruntime", {"threads": 1}, [image]) as worker:
            exact = worker.run(image)["output"]
        with remote.open(bundle.artifact, "onnxruntime", {"threads": 1, "bf16_gemm": True}, [image]) as worker:
            assert "bf16" in worker.info.in_force["precision"]
            coarse = worker.run(image)["output"]
    error = np.linalg.norm(coarse - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 2e-2  # bfloat16 holds 8 bits: really used, and no more than rounding

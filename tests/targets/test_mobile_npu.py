"""A Snapdragon's NPU from end to end, on Qualcomm's own emulator: `edgekit export` and what becomes of the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("htp")]

NET = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.norm, self.mlp, self.act = nn.LayerNorm(16), nn.Linear(16, 16), act

    def forward(self, x):
        return x + self.act(self.mlp(self.norm(x)))

class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x) * x

def net(act):
    torch.manual_seed(0)
    return nn.Sequential(Layer(act), Layer(act), nn.Linear(16, 4)).eval(), torch.randn(1, 6, 16)

def gelu():
    return net(nn.GELU())

def erf():
    return net(Erf())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("npu")
    (place / "net.py").write_text(NET)
    x = np.random.default_rng(0).standard_normal((12, 6, 16)).astype(np.float32)
    np.savez(place / "data.npz", input=x)
    return place


@pytest.fixture(scope="module")
def exported(folder: Path) -> dict[str, Any]:
    """The result of `edgekit export --json`; the bundle lies in ``folder``."""
    command = [sys.executable, "-m", "edgekit", "export", "net.py:gelu", "--target", "snapdragon-8-elite"]
    options = ["--data", "data.npz", "--json", "-q"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield


def edgekit(*words: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_candidate_runs_whole_on_the_htp_and_is_compared_twice(exported: dict[str, Any]) -> None:
    """With PyTorch, and with ONNX Runtime's CPU kernels over the same integers."""
    rows = {item["name"]: item for item in exported["candidates"]}
    assert list(rows) == ["htp int8", "htp w8a16", "htp w4a16", "htp fp16"]
    assert not any(item["rejected"] for item in rows.values())
    assert exported["chosen"] == "htp int8"
    assert set(exported["placement"]) == {"HTP"}
    # One step of rounding after each of a dozen integer operators, each of which may shift the next by one.
    assert rows["htp int8"]["same_graph"]["max_lsb"] <= 4
    assert rows["htp int8"]["same_graph"]["samples"] == 12
    assert rows["htp fp16"]["same_graph"]["max_lsb"] is None
    # fp16's 11 bits and 16-bit activations are far closer to PyTorch than 8 bits; 4-bit weights are not.
    db = {name: item["parity"]["sqnr_db"] for name, item in rows.items()}
    assert db["htp int8"] > 25
    assert min(db["htp fp16"], db["htp w8a16"]) > db["htp int8"] + 6
    assert db["htp w4a16"] < db["htp w8a16"] - 6


def test_no_latency_is_told(exported: dict[str, Any]) -> None:
    assert exported["measured"] is False
    assert exported["emulated"] == "Qualcomm's HTP emulator"
    assert exported["not_measured_because"] == (
        "verified on the emulator (Qualcomm's HTP emulator); latency needs a device"
    )
    assert all(item["latency"] is None for item in exported["candidates"])


@pytest.mark.parametrize("command", ["bench", "compare"])
def test_the_emulators_latency_is_refused(
    command: str, exported: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(exported["bundle"])
    assert edgekit(command, bundle, *([bundle] if command == "compare" else []), "-q") == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "Qualcomm's HTP emulator stands for the device here: its latency says nothing about the device" in err


def test_the_bundle_says_where_it_was_verified_and_holds_none_of_qualcomms_libraries(exported: dict[str, Any]) -> None:
    bundle = Path(exported["bundle"])
    readme = (bundle / "README.md").read_text()
    assert "Verified on the emulator (Qualcomm's HTP emulator), not on the device" in readme
    assert "latency needs a device" in readme
    assert "com.qualcomm.qti:qnn-runtime" in readme
    parity = json.loads((bundle / "manifest.json").read_text())["parity"]
    assert parity["emulated"] == "Qualcomm's HTP emulator"
    assert parity["same_graph"]["max_lsb"] <= 4
    assert {path.name for path in (bundle / "model").iterdir()} == {"model.onnx", "model_qnn.bin"}
    assert not [path for path in bundle.rglob("*") if path.suffix in (".so", ".dll") or "Qnn" in path.name]


def test_the_bundle_runs_by_itself_and_refuses_to_bench(exported: dict[str, Any]) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "run.py", *words]
        return subprocess.run(command, cwd=exported["bundle"], capture_output=True, text=True, timeout=120)

    assert run().stdout.startswith("self-test passed on onnxruntime_qnn ")
    benched = run("bench")
    assert (benched.returncode, benched.stdout) == (6, "")
    assert "none is reported" in benched.stderr


def test_a_context_binary_for_another_device_is_refused(
    exported: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opened with the options of another SoC, as its own manifest would tell there."""
    from edgekit.bundle import open_bundle
    from edgekit.devices.local import LocalDevice
    from edgekit.errors import EngineError

    with open_bundle(exported["bundle"]) as bundle, pytest.raises(EngineError) as raised:
        LocalDevice().open(bundle.artifact, bundle.manifest.runtime.name, bundle.options(soc_model=57))
    assert "compiled for Snapdragon 8 Elite (soc_model 69), and is opened for Snapdragon 8 Gen 3" in str(raised.value)
    assert raised.value.exit_code == 6


def test_a_refused_operator_is_an_error_that_names_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["net.py:erf", "--target", "mobile-npu", "--data", "data.npz", "-q", "-o", "refused.edgekit"]
    words += ["--candidate", "htp int8"]
    assert edgekit("export", *words) == 5
    err = capsys.readouterr().err
    assert "edgekit: 2 of " in err and " nodes would run on the CPU, which target 'mobile-npu' does not allow:" in err
    assert "  Erf  (0.act)  QNN: operators of type `Erf` are not supported\n" in err
    assert "  Erf  (1.act)  same\n" in err
    assert "Use GELU's tanh form, or allow it: --allow-fallback Erf" in err
    assert not Path("refused.edgekit").exists()


def test_an_operator_that_the_user_allows_runs_on_the_cpu_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["net.py:erf", "--target", "mobile-npu", "--data", "data.npz", "--allow-fallback", "Erf", "--json", "-q"]
    assert edgekit("export", *words, "--candidate", "htp int8", "-o", "allowed.edgekit") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["placement"]) == {"HTP", "CPU"}
    assert result["candidates"][0]["options"]["fallback"] == ["Erf"]
    done = subprocess.run([sys.executable, "-I", "allowed.edgekit/run.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("self-test passed")


@pytest.mark.parametrize("words", [["--dynamic", "input:0"], []])
def test_free_dimensions_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for, or in the file."""
    import onnx
    from onnx import helper

    source = "net.py:gelu"
    if not words:
        ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4])] for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *ends)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "free.onnx")
        source, words = "free.onnx", ["--input", "x:float32:batch=2x4"]
    assert edgekit("export", source, "--target", "mobile-npu", "-q", "-o", "free.edgekit", *words) == 2
    err = capsys.readouterr().err
    assert "target 'mobile-npu' takes static shapes only" in err
    if source == "free.onnx":
        assert "input 'x float32 batchx4' has a free dimension. Fix the sizes: --input x:float32:2x4" in err

"""The target `web` end to end: from PyTorch to a bundle that was checked and measured in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import main
from edgekit.examples.digits import data, net
from edgekit.runtimes._onnxruntime_web.package import Package

ROUNDS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.dense = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.dense(x).round().relu()

def build():
    return Net().eval(), torch.randn(1, 4)
"""
SOFTWARE = """
name = "software"
extends = "web"
[[candidates]]
name = "webgpu fp32"
options = { backend = "webgpu", threads = 1, adapter = "software" }
"""


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def edgekit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Exit code, the JSON object, and what went to standard error."""
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--json", "-q"])
    told = capsys.readouterr()
    return int(stopped.value.code or 0), json.loads(told.out) if told.out.strip() else None, told.err


@pytest.mark.slow
def test_digits_in_the_browser(
    tmp_path: Path, web_engine: Package, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(net, "EPOCHS", 1)  # not its best, but a network that was trained on real data
    data.write(tmp_path)
    net.train(tmp_path)
    (tmp_path / "net.py").write_bytes(Path(net.__file__).read_bytes())
    candidates = ["--candidate", "wasm fp32", "--candidate", "wasm int8 static"]
    sets = ["--data", "test.npz", "--calibration-data", "calibration.npz", "--samples", "40", "--metric", "top1"]
    code, result, _ = edgekit(
        capsys,
        "export",
        "net.py:build",
        "--target",
        "web",
        *candidates,
        *sets,
        "--threads",
        "2",
        "--max-drop",
        "0.1",
        "--max-time",
        "1",
    )
    assert code == 0
    rows = {row["name"]: row for row in result["candidates"]}
    assert set(rows) == {"wasm fp32", "wasm int8 static"}
    for row in rows.values():
        assert row["rejected"] is None
        assert row["options"]["threads"] == 2
        assert row["options"]["crossOriginIsolated"] is True
        assert row["latency"]["p50_s"]["value"] > 0
    # The engine itself against PyTorch: rounding alone in fp32; in int8 what quantization costs this network.
    assert rows["wasm fp32"]["parity"]["sqnr_db"] > 100
    assert rows["wasm int8 static"]["parity"]["sqnr_db"] > 25
    assert result["placement"].keys() == {"CPU"}
    bundle = tmp_path / result["bundle"]
    assert (bundle / "web" / "ort" / "package.json").is_file()

    code, benched, _ = edgekit(
        capsys, "bench", str(bundle), "--device", "browser", "--seconds", "0.4", "--processes", "1"
    )
    assert code == 0
    assert benched["device"]["url"] == "browser"
    assert "hrom" in benched["device"]["browser"]
    assert (benched["runtime"]["name"], benched["runtime"]["version"]) == ("onnxruntime_web", web_engine.version)
    assert benched["runtime"]["in_force"]["threads"] == 2
    assert benched["latency"]["n"] > 10
    assert benched["placement"] == result["placement"]
    assert benched["memory"]["peak_rss_bytes"] > 50e6
    assert "process of its own" in benched["not_measured"]["memory.peak_above_engine_bytes"]
    assert 0 <= benched["harness"]["p50_s"] < 1e-4


@pytest.mark.slow
def test_a_node_that_webgpu_does_not_take_is_exit_5_by_its_name(
    tmp_path: Path, web_engine: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(ROUNDS)
    (tmp_path / "software.toml").write_text(SOFTWARE)
    words = ["export", "net.py:build", "--target", "software.toml", "--candidate", "webgpu fp32"]
    code, _, said = edgekit(capsys, *words)
    assert code == 5
    assert "would run on the CPU, which target 'software' does not allow" in said
    assert "Round" in said
    assert "--allow-fallback Round" in said


@pytest.mark.slow
def test_inspect_asks_the_engine_by_webassembly_which_needs_no_gpu(
    tmp_path: Path, web_engine: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(ROUNDS)
    code, result, _ = edgekit(capsys, "inspect", "net.py:build", "--target", "web")
    assert code == 0
    assert [(item["runtime"], item["takes"]) for item in result["engines"]] == [("onnxruntime_web", True)]


@pytest.mark.slow
def test_without_a_browser_it_is_exit_6_with_the_line_that_installs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_BROWSER", "/opt/nowhere")
    (tmp_path / "net.py").write_text(ROUNDS)
    code, _, said = edgekit(capsys, "export", "net.py:build", "--target", "web")
    assert code == 6
    assert "browser '/opt/nowhere' is not a program. Name another, or install one: apt install chromium" in said

"""`export --device`: candidates are checked, and where that means something measured, on the device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    np.savez(folder / "images.npz", input=np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype("f"))
    return folder


def export(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--data", "images.npz", "--json", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a stand-in for adb that runs everything on this machine: a remote device that is not emulated."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "adb").write_text('#!/bin/sh\nexec sh -c "$5"\n')
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "phone"))
    return f"adb://SERIAL1?python={sys.executable}"


def test_the_fastest_on_the_device_is_picked(project: Path, phone: str, tmp_path: Path) -> None:
    two = ["--candidate", "onnxruntime fp32", "--candidate", "onnxruntime int8 static"]
    done = export(project, "--target", "cpu-onnxruntime", "--device", phone, "--max-time", "3", "--threads", "1", *two)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["device"]["url"] == phone
    assert result["measured"] is True
    rows = {item["name"]: item for item in result["candidates"]}
    assert rows["onnxruntime int8 static"]["parity"]["sqnr_db"] > 20
    picked = rows[result["chosen"]]
    assert picked["latency"]["processes"] >= 1
    gain = rows["onnxruntime int8 static"]["latency"]["speedup_over_fp32"]
    assert (picked["precision"] == "fp32") or gain["value"] >= 1.05
    assert "self-test passed on onnxruntime" in result["self_test"]
    assert "Measured on the device" in (project / "build.edgekit" / "README.md").read_text()
    runs = tmp_path / "phone/edgekit/runs"
    assert list(runs.iterdir()) == [], "the session's copies go with it"
    sent = [path.stat().st_size for path in (tmp_path / "phone/edgekit/blobs").iterdir()]
    assert len(sent) < 120, "files that candidates share are there once"


def test_a_device_that_the_target_is_not_for(project: Path, phone: str) -> None:
    done = export(project, "--target", "raspberry-pi-5", "--device", phone)
    assert done.returncode == 2
    assert f"device '{phone}' is x86_64, target 'raspberry-pi-5' is for aarch64" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_is_away_is_noticed_before_any_work(project: Path) -> None:
    done = export(project, "--target", "raspberry-pi-5", "--device", "ssh://127.0.0.1:1")
    assert done.returncode == 6
    assert "ssh://127.0.0.1:1" in done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 6


def test_on_an_emulated_board_the_numbers_are_checked_and_nothing_is_timed(
    project: Path, arm64_device: Callable[[str], Any], ssh_config: Callable[[Path], None]
) -> None:
    device = arm64_device("cortex-a76")
    ssh_config(device.config)
    two = [word for name in ("int8 static", "fp16") for word in ("--candidate", f"onnxruntime {name}")]
    done = export(project, "--target", "raspberry-pi-5", "--device", device.url, "--samples", "4", *two)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["device"]["machine"], result["device"]["emulated"]) == ("aarch64", "qemu-aarch64")
    assert result["measured"] is False
    assert "emulated by qemu-aarch64" in result["not_measured_because"]
    assert result["chosen"] == "onnxruntime int8 static"
    rows = {item["name"]: item for item in result["candidates"]}
    assert rows["onnxruntime fp16"]["parity"]["sqnr_db"] > 45
    assert all(item["latency"] is None for item in rows.values())
    assert "self-test passed on onnxruntime" in result["self_test"]
    assert device.runs() == []

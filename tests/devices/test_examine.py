"""``edgekit doctor --device`` on the ARM64 device."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices import remote_device
from edgekit.devices.examine import examine_device

Start = Callable[[str], Any]


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgekit", "doctor", *words], capture_output=True, text=True)


@pytest.fixture
def device(arm64_device: Start, ssh_config: Callable[[Path], None]) -> Any:
    found = arm64_device("cortex-a76")
    ssh_config(found.config)
    return found


@pytest.mark.slow
def test_what_is_there(device: Any) -> None:
    with remote_device(device.url) as remote:
        report = examine_device(remote, "raspberry-pi-5")
    assert report.missing == []
    assert [part.name for part in report.engines] == ["onnxruntime"]
    assert report.engines[0].version is not None
    assert report.device["emulated"] == "qemu-aarch64"
    assert report.cache == "/root/.cache/edgekit"


@pytest.mark.slow
def test_what_is_missing_is_installed_from_here(device: Any, holds_schema: Callable[[str, Any], None]) -> None:
    engine = device.root / "opt/engine"
    aside = engine.rename(device.root / "opt/aside")
    try:
        done = doctor("--device", device.url, "--target", "cpu-arm64")
        assert done.returncode == 6
        assert "/usr/bin/python3 -m pip install numpy" in done.stdout
        assert f"edgekit doctor --device '{device.url}' --install" in done.stdout
        assert f"device '{device.url}' is not ready: numpy: numpy is not installed; onnxruntime" in done.stderr
        done = doctor("--device", device.url, "--target", "cpu-arm64", "--install", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ready"] is True
        holds_schema("doctor", json.loads(done.stdout))
    finally:
        aside.rename(engine)
        done = doctor("--device", device.url, "--clean", "--json")
    assert json.loads(done.stdout)["deleted"] == "/root/.cache/edgekit"
    holds_schema("doctor", json.loads(done.stdout))
    assert not device.cache.exists()


def test_options_that_need_a_device() -> None:
    done = doctor("--install")
    assert done.returncode == 2
    assert "--install and --clean are about a remote device" in done.stderr


@pytest.mark.slow
def test_what_the_boards_system_brings_is_not_to_be_had_by_pip(device: Any) -> None:
    with remote_device(device.url) as remote:
        (missing,) = examine_device(remote, "jetson").missing
    assert missing.name == "tensorrt" and not missing.by_pip
    assert missing.install == "apt install python3-libnvinfer python3-numpy"
    assert missing.problem is not None
    assert missing.problem.startswith(f"tensorrt is not installed. Install it: {missing.install}")

"""One failure is one row: what is raised in a candidate, by whomever, ends that candidate alone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.api.export import export
from edgekit.errors import DataError, EdgekitError, ParityError
from edgekit.pipeline.failure import unexpected


@pytest.fixture(autouse=True)
def pair(two_engines: Callable[..., str]) -> None:
    two_engines("pair")


def test_a_bug_in_one_exporter_is_its_row_and_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.exporters.openvino_ir import OpenVinoIr

    def write(self: object, *arguments: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(OpenVinoIr, "write", write)
    result = export("net.py:build", "pair.toml", max_time_s=1)
    assert result.chosen == "onnxruntime"
    row = next(item for item in result.candidates if item.name == "openvino")
    assert row.rejected == (
        "unexpected IndexError: list index out of range. Its trace: .edgekit/reports/build-openvino-trace.txt"
    )
    trace = (folder / ".edgekit" / "reports" / "build-openvino-trace.txt").read_text()
    assert "IndexError: list index out of range" in trace and "test_failure.py" in trace


def test_where_all_fail_it_is_exit_1_with_every_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.exporters.onnx import OnnxFile
    from edgekit.exporters.openvino_ir import OpenVinoIr

    def write(self: object, *arguments: object) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(OpenVinoIr, "write", write)
    monkeypatch.setattr(OnnxFile, "write", write)
    with pytest.raises(EdgekitError) as caught:
        export("net.py:build", "pair.toml", max_time_s=1)
    assert caught.value.exit_code == 1
    assert caught.value.what == "no candidate of target 'pair' can be used"
    assert [line.partition(":")[0] for line in caught.value.details] == ["openvino", "onnxruntime"]
    assert not (folder / "build.edgekit").exists()


def test_one_cause_for_all_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that cannot be read a second time: every candidate meets that, and the error keeps its exit code."""
    from edgekit.accuracy.expected import ReferenceRun

    def gone(self: object) -> None:
        raise DataError("sample 3 of 'camera' cannot be read", fix="Plug the camera in.")

    monkeypatch.setattr(ReferenceRun, "__iter__", gone)
    with pytest.raises(DataError) as caught:
        export("net.py:build", "pair.toml", max_time_s=1)
    assert str(caught.value) == "sample 3 of 'camera' cannot be read. Plug the camera in."


def test_a_full_disk_is_everybodys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.exporters.openvino_ir import OpenVinoIr

    def write(self: object, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.xml")

    monkeypatch.setattr(OpenVinoIr, "write", write)
    with pytest.raises(OSError, match="No space left"):
        export("net.py:build", "pair.toml", max_time_s=1)


def test_an_engine_that_is_killed_is_its_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the engine dies by a signal as it opens the model, as one that meets a bad kernel does."""
    (folder / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Kill:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'openvino' and 'edgekit.measure.worker' in ' '.join(sys.orig_argv):\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.meta_path.insert(0, Kill())\n"
    )
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", "pair.toml", "--json"]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*command, "--max-time", "1"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    rows = {item["name"]: item["rejected"] for item in value["candidates"]}
    assert value["chosen"] == "onnxruntime" and rows["onnxruntime"] is None
    assert "was killed by SIGSEGV while it was asked to open" in rows["openvino"]


def test_a_trace_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = unexpected(ValueError(""), "net candidate/1", tmp_path / "file" / "reports")
    assert str(error).startswith("unexpected ValueError: no message. Its trace could not be written to ")
    assert "net-candidate-1-trace.txt (Not a directory)" in str(error)


UP = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 4, 3), torch.nn.ReLU()), torch.randn(1, 4, 8, 8)
"""
INT8 = """
[tolerance.int8]
sqnr_db = 120.0
[[candidates]]
runtime = "openvino"
name = "int8"
precision = "int8"
format = "openvino_ir"
[candidates.export_options]
quantize = "nncf"
"""


def test_a_miss_that_cannot_be_repaired_stays_a_miss(folder: Path) -> None:
    """NNCF quantizes what our ranking has no plan for: that there is nothing to rank is no answer to the user."""
    (folder / "up.py").write_text(UP)
    (folder / "up.toml").write_text(f'name = "up"\ndescription = "int8 alone"\n{INT8}')
    np.savez(folder / "x.npz", input=np.random.default_rng(0).standard_normal((8, 4, 8, 8)).astype(np.float32))
    with pytest.raises(ParityError) as caught:
        export("up.py:build", "up.toml", data="x.npz", max_time_s=1)
    assert "int8: parity: " in caught.value.details[0], caught.value

"""The commands on a real bundle: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.cli import main

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)), (torch.randn(1, 1, 8, 8),)

def broken():
    raise ValueError("expected 3 channels, got 1")
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        assert value["schema"] == 1
        return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data, and the bundle that `edgekit export` made of them."""
    path = tmp_path_factory.mktemp("work")
    (path / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((6, 1, 8, 8)).astype(np.float32)
    np.savez(path / "data.npz", input=images, labels=rng.integers(0, 10, 6))
    np.savez(path / "plain.npz", input=images)
    done = process(
        path, "export", "net.py:build", "--target", "cpu-onnxruntime", "--candidate", "onnxruntime fp32",
        "--data", "plain.npz", "--threads", "1", "-o", "net.edgekit",
    )  # fmt: skip
    assert done.code == 0, done.err
    (path / "export.txt").write_text(done.out, encoding="utf-8")
    return path


def process(folder: Path, *words: str) -> Done:
    """Run edgekit in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *words],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONSAFEPATH": "1"},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def edgekit(folder: Path, *words: str) -> Done:
    """Run edgekit in this process, which has torch loaded already."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(main, list(words))
    return Done(result.exit_code, result.stdout, result.stderr)


def test_export_prints_its_picture(folder: Path) -> None:
    lines = (folder / "export.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("source      net.py:build   Sequential, 2.97 k parameters")
    assert lines[1].startswith("exported    ONNX opset 20, ")
    assert any(line.endswith("◀ picked") and "onnxruntime fp32" in line for line in lines)
    assert any(line.startswith("bundle      net.edgekit   ") for line in lines)


def test_export_will_not_replace_unasked(folder: Path) -> None:
    done = edgekit(folder, "export", "net.py:build", "--target", "cpu", "-o", "net.edgekit")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("edgekit: 'net.edgekit' exists")


def test_a_factory_that_raises_shows_its_own_line(folder: Path) -> None:
    done = process(folder, "export", "net.py:broken", "--target", "cpu", "--json")
    assert done.code == 3
    error = done.json["error"]
    assert error["message"] == "net.py:broken raised ValueError at net.py:10: expected 3 channels, got 1"
    assert error["exit_code"] == 3
    assert 'raise ValueError("expected 3 channels, got 1")' in "\n".join(error["details"])
    assert not (folder / "broken.edgekit").exists()


def test_bundle_verify(folder: Path) -> None:
    done = edgekit(folder, "bundle", "verify", "net.edgekit")
    assert done.code == 0
    assert done.out.startswith("net.edgekit   intact: ")
    value = edgekit(folder, "bundle", "verify", "net.edgekit", "--json").json
    assert value["runtime"]["name"] == "onnxruntime"
    assert value["target"] == "cpu-onnxruntime"


def test_pack_and_unpack_are_equal(folder: Path) -> None:
    packed = edgekit(folder, "bundle", "pack", "net.edgekit", "-o", "two.edgekit.zip", "--json").json
    assert packed["packed"] == "two.edgekit.zip"
    assert packed["size_bytes"] == (folder / "two.edgekit.zip").stat().st_size
    assert edgekit(folder, "bundle", "unpack", "two.edgekit.zip").code == 0
    one, two = (edgekit(folder, "bundle", "verify", name, "--json").json for name in ("net.edgekit", "two.edgekit"))
    assert one["sha256"] == two["sha256"]


def test_a_damaged_bundle_exits_7(folder: Path) -> None:
    edgekit(folder, "bundle", "pack", "net.edgekit", "-o", "bad.edgekit.zip")
    edgekit(folder, "bundle", "unpack", "bad.edgekit.zip")
    model = folder / "bad.edgekit" / "model" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    for words in (["bundle", "verify"], ["bundle", "run"], ["bench"], ["inspect"]):
        done = edgekit(folder, *words, "bad.edgekit")
        assert (done.code, done.out) == (7, ""), words
        assert "edgekit: 'model/model.onnx' in 'bad.edgekit' is damaged" in done.err


def test_bundle_run_without_data_is_the_self_test(folder: Path) -> None:
    done = edgekit(folder, "bundle", "run", "net.edgekit")
    assert done.code == 0
    assert done.out.startswith("self-test passed on onnxruntime ")
    assert edgekit(folder, "bundle", "run", "net.edgekit", "--json").json["passed"] is True


def test_bundle_run_on_data(folder: Path) -> None:
    done = edgekit(folder, "bundle", "run", "net.edgekit", "--data", "plain.npz", "-o", "out.npz", "--json")
    (name, spec), *_ = done.json["outputs"].items()
    assert spec == {"dtype": "float32", "shape": [6, 10]}
    with np.load(folder / "out.npz") as arrays:
        assert arrays[name].shape == (6, 10)
    assert "6 samples\n" in edgekit(folder, "bundle", "run", "net.edgekit", "--data", "plain.npz").out


def test_bundle_run_refuses_an_output_without_data(folder: Path) -> None:
    done = edgekit(folder, "bundle", "run", "net.edgekit", "-o", "out.npz")
    assert done.code == 2
    assert "-o is for the outputs of --data" in done.err


def test_a_bundle_without_a_verb_is_told_the_verbs(folder: Path) -> None:
    done = edgekit(folder, "bundle", "net.edgekit")
    assert done.code == 2
    assert "Say what to do with it: edgekit bundle pack|run|unpack|verify net.edgekit" in done.err


def test_bench(folder: Path) -> None:
    value = edgekit(folder, "bench", "net.edgekit", "--seconds", "0.5", "--processes", "1", "--json").json
    p50 = value["latency"]["p50_s"]
    if p50 is None:  # this machine was too noisy just now: it must say so, twice
        assert value["not_measured"]["latency.p50_s"].startswith("p50 needs ") and value["verdict"] == "noisy"
    else:
        assert p50["value"] > 0
    assert value["latency"]["n"] > 0
    assert value["verdict"] in ("steady", "noisy", "drifting")
    done = edgekit(folder, "bench", "net.edgekit", "--seconds", "0.5", "--processes", "2")
    assert done.code == 0
    assert "p50         " in done.out
    assert "2 processes" in done.out or "p50         not stated: p50 needs " in done.out


def test_evaluate(folder: Path) -> None:
    done = edgekit(
        folder, "evaluate", "net.edgekit", "--data", "data.npz", "--metric", "top1", "--source", "net.py:build"
    )
    assert done.code == 0, done.err
    assert "drop        none" in done.out
    value = edgekit(folder, "evaluate", "net.edgekit", "--data", "data.npz", "--metric", "top1", "--json").json
    assert value["metric"]["name"] == "top1"
    assert value["samples"] == 6


def test_inspect_a_bundle(folder: Path) -> None:
    done = edgekit(folder, "inspect", "net.edgekit")
    assert done.code == 0
    assert "target      cpu-onnxruntime, made " in done.out
    value = edgekit(folder, "inspect", "net.edgekit", "--json").json
    assert value["manifest"]["runtime"]["name"] == "onnxruntime"


def test_quiet_prints_the_result_alone(folder: Path) -> None:
    done = process(folder, "inspect", "net.py:build", "-q")
    assert done.code == 0
    assert done.err == ""
    assert done.out.startswith("source      net.py:build")


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["export", "gone.onnx", "--target", "cpu"], 3, "edgekit: there is no file gone.onnx"),
        (["export", "net.py:biuld", "--target", "cpu"], 3, "Did you mean 'build'?"),
        (["export", "net.py:build", "--target", "cpuu"], 2, "edgekit: target 'cpuu' is not known. Did you mean 'cpu'?"),
        (["export", "net.py:build", "--target", "cpu", "--metric", "top1"], 2, "needs labels"),
        (["export", "net.py:build", "--target", "cpu", "--data", "data.npz"], 2, "the data have labels but no metric"),
        (["export", "net.py:build", "--target", "cpu", "--candidate", "x"], 2, "target 'cpu' has no candidate 'x'"),
        (["export", "net.py:build", "--target", "cpu", "--samples", "0"], 2, "--samples must be 1 or more, got 0"),
        (["export", "net.py:build", "--target", "cpu", "-o", "no/where"], 2, "does not exist"),
        (["bench", "gone.edgekit"], 7, "edgekit: 'gone.edgekit' does not exist"),
        (["evaluate", "net.edgekit", "--data", "data.npz", "--metric", "top11"], 2, "Did you mean 'top1'?"),
        (["inspect", "net.edgekit", "--target", "cpu"], 2, "is a bundle, made for one target already"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(folder: Path, words: list[str], code: int, line: str) -> None:
    before = sorted(folder.rglob("*"))
    done = edgekit(folder, *words)
    assert (done.code, done.out) == (code, ""), done.err
    assert line in done.err
    assert "Traceback" not in done.err
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == [
        path for path in before if "__pycache__" not in path.parts
    ]


_CORE_ONLY = """
import sys
for name in ("torch", "onnx", "onnx_ir", "onnxscript", "ml_dtypes", "openvino", "nncf", "transformers", "sklearn"):
    sys.modules[name] = None  # as if it were not installed
from edgekit.cli import main
main(sys.argv[1:])
"""


def on_a_board(folder: Path, *words: str) -> Done:
    """Run edgekit where only the core and ONNX Runtime are installed."""
    done = subprocess.run([sys.executable, "-c", _CORE_ONLY, *words], cwd=folder, capture_output=True, encoding="utf-8")
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["targets", "list"],
        ["doctor"],
        ["inspect", "net.edgekit"],
        ["bundle", "run", "net.edgekit"],
        ["bundle", "run", "net.edgekit", "--data", "plain.npz"],
        ["bench", "net.edgekit", "--seconds", "0.2", "--processes", "1"],
        ["evaluate", "net.edgekit", "--data", "data.npz", "--metric", "top1"],
    ],
    ids=" ".join,
)
def test_what_a_board_does_needs_no_torch_and_no_onnx(folder: Path, words: list[str]) -> None:
    done = on_a_board(folder, *words, "--json")
    assert done.code == 0, done.err
    assert done.json


@pytest.mark.parametrize("words", [["inspect", "net.py:build"], ["export", "net.py:build", "--target", "cpu"]])
def test_what_needs_torch_says_how_to_get_it(folder: Path, words: list[str]) -> None:
    done = on_a_board(folder, *words)
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("edgekit: ")
    assert "not installed" in done.err
    assert "pip install" in done.err

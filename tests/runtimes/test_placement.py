"""No silent fallback: a node that would run elsewhere than on the target's device is an error, unless it is allowed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.api.export import export
from edgekit.cli import main
from edgekit.contracts import NodePlacement, Placement
from edgekit.errors import PlacementError
from edgekit.measure.opening import misplaced

NET = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 4)), torch.randn(1, 8)
"""
# A third party's engine: ONNX Runtime, which claims that all but Gelu runs on an NPU.
ENGINE = """
from edgekit.contracts import NodePlacement, Placement
from edgekit.runtimes.onnxruntime import OnnxRuntime

class Npu(OnnxRuntime):
    name = "npu"

    def open(self, artifact, options):
        session = super().open(artifact, options)
        nodes = [
            NodePlacement(node.name, node.op_type, "CPU", reason="NPU: operators of type `Gelu` are not supported")
            if node.op_type == "Gelu"
            else NodePlacement(node.name, node.op_type, "HTP")
            for node in session.placement().nodes
        ]
        session.placement = lambda: Placement(tuple(nodes))
        return session

PLUGIN = Npu
"""
TARGET = """
name = "npu-board"
[runtime]
name = "npu"
[[candidates]]
name = "npu fp32"
runtime = "npu"
[tolerance.fp32]
rel_l2 = 1e-3
[measure]
device = "HTP"
processes = 1
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed plug-in, its target, and a model, in the current folder."""
    info = tmp_path / "acme_npu-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-npu\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edgekit.runtimes]\nnpu = acme_npu:Npu\n")
    (tmp_path / "acme_npu.py").write_text(ENGINE)
    (tmp_path / "npu-board.toml").write_text(TARGET)
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the workers
    monkeypatch.delitem(sys.modules, "acme_npu", raising=False)
    monkeypatch.chdir(tmp_path)
    plugins._found.cache_clear()
    yield tmp_path
    plugins._found.cache_clear()


def test_a_fallback_is_an_error_with_the_nodes_and_the_engines_reason(board: Path) -> None:
    with pytest.raises(PlacementError) as caught:
        export("net.py:build", "npu-board.toml")
    assert caught.value.exit_code == 5
    text = str(caught.value)
    assert "1 of 3 nodes would run on the CPU, which target 'npu-board' does not allow" in text
    assert "Gelu  (1)  NPU: operators of type `Gelu` are not supported" in text
    assert text.endswith("--allow-fallback Gelu")
    assert not list(board.glob("*.edgekit"))


def test_a_fallback_that_is_allowed_by_name(board: Path) -> None:
    result = export("net.py:build", "npu-board.toml", allow_fallback=["Gelu"], max_time_s=2)
    assert result.placement == {"HTP": 2, "CPU": 1}
    manifest = json.loads((result.bundle / "manifest.json").read_text())
    assert manifest["placement"] == {"HTP": 2, "CPU": 1}


def test_another_name_allows_nothing(board: Path) -> None:
    with pytest.raises(PlacementError, match="--allow-fallback Gelu"):
        export("net.py:build", "npu-board.toml", allow_fallback=["Conv"])


def test_the_command_line_ends_with_5(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "net.py:build", "--target", "npu-board.toml", "-q"])
    assert stopped.value.code == 5
    assert "Gelu  (1)  NPU: operators" in capsys.readouterr().err


CPU = NodePlacement("gelu", "Gelu", "CPU", reason="no driver")
GPU = NodePlacement("conv", "Conv", "CUDA")


@pytest.mark.parametrize(
    ("nodes", "expected", "wrong"),
    [
        ((GPU,), {"CUDA": 1}, False),
        ((GPU, CPU), {"CUDA": 1, "CPU": 1}, False),
        ((GPU, CPU), {"CUDA": 2}, True),
        ((CPU,), {}, False),  # a bundle that knows nothing
    ],
)
def test_a_bundle_is_measured_where_it_was_exported_for(
    nodes: tuple[NodePlacement, ...], expected: dict[str, int], wrong: bool
) -> None:
    error = misplaced(Placement(nodes), expected)
    assert (error is not None) == wrong
    if error is not None:
        assert "1 of 2 nodes run on the CPU here; the bundle was exported with all of them on the CUDA" in str(error)
        assert "Gelu  (gelu)  no driver" in str(error)

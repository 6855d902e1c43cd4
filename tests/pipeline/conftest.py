"""A small network and a target of two engines, for whatever an export does with its candidates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

NET = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)), torch.randn(2, 16)
"""
TARGET = """
name = "{name}"
description = "two engines"
{head}
[tolerance.fp32]
rel_l2 = 1e-4
[[candidates]]
runtime = "openvino"
name = "openvino"
precision = "fp32"
format = "openvino_ir"
[[candidates]]
runtime = "onnxruntime"
name = "onnxruntime"
precision = "fp32"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``net.py:build``."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two_engines(folder: Path) -> Callable[..., str]:
    """Writes ``NAME.toml``, a target of ONNX Runtime and OpenVINO in fp32, with ``head`` among its first lines."""

    def write(name: str, head: str = "") -> str:
        (folder / f"{name}.toml").write_text(TARGET.format(name=name, head=head))
        return f"{name}.toml"

    return write

"""A network in a file, as users have it."""

from __future__ import annotations

from pathlib import Path

import pytest

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)
    def forward(self, image):
        return torch.relu(self.norm(self.conv(image)))

def build(width: int = 4, name: str = "x"):
    return Net(width), torch.randn(1, 3, 8, 8)

def bare():
    return Net()

def broken(channels=1):
    if channels != 3:
        raise ValueError(f"expected 3 channels, got {channels}")

def half():
    return Net().half(), (torch.randn(1, 3, 8, 8, dtype=torch.float16),)

def klass():
    return Net

constant = 3
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    monkeypatch.chdir(tmp_path)
    return path

"""A project as the pages of docs/ make one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network of README, the data of docs/data.md, its bundle, and the export's kept result."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(python_block("README.md", "def build"))
    make = [sys.executable, "-c", python_block("docs/data.md", "np.savez")]
    export = [sys.executable, "-m", "edgekit", "export", "net.py:build", "-t", "cpu", "--data", "test.npz"]
    export += ["--metric", "top1", "--candidate", "onnxruntime fp32", "--max-time", "2"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    for command in (make, export):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def python_block(page: str, text: str) -> str:
    blocks: list[str] = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return next(block for block in blocks if text in block)

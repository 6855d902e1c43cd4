"""edgekit's files as a clone holds them, and the wheel that is built of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("edgekit", "exporters", "runtimes", "targets", "examples")


@pytest.fixture(scope="session")
def clone() -> Callable[[Path], Path]:
    """The files an install needs, as a fresh clone holds them: installing leaves traces that are not to lie in ours."""

    def copy(to: Path) -> Path:
        for name in SHIPPED:
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
            shutil.copy(ROOT / name, to)
        return to

    return copy


@pytest.fixture(scope="session")
def wheel(clone: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = clone(tmp_path_factory.mktemp("source"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("edgekit-*.whl"))

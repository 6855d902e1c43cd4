"""A third party's engine, from its source tree to a bundle on a device, by its entry points alone."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ACME = Path(__file__).parents[1] / "third_party" / "acme"
NET = """
import torch

def build():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    return net, torch.randn(1, 1, 8, 8)
"""
BOARD = """
name = "our-gateway"
extends = "cpu-base"
description = "Our gateway, by the Acme engine"
[runtime]
name = "acme"
[[candidates]]
name = "acme fp32"
precision = "fp32"
"""


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with edgekit's and Acme's wheels. What both require is this environment's."""
    folder = tmp_path_factory.mktemp("acme")
    shutil.copytree(ACME, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, folder / "source"], check=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    made = folder / "venv" / "bin" / "python"
    wheels = [wheel, next(folder.glob("acme_edgekit-*.whl"))]
    subprocess.run([*pip, "--python", made, "install", "-q", "--no-deps", *wheels], check=True)
    place = subprocess.run(
        [made, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    )
    paths = [path for path in sys.path if path.endswith("site-packages")] or site.getsitepackages()
    (Path(place.stdout.strip()) / "zz-shared.pth").write_text("\n".join(paths))
    return made


def edgekit(python: Path, cwd: Path, *words: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run([python, "-m", "edgekit", *words, "--json"], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_its_entry_points_are_found(python: Path, tmp_path: Path) -> None:
    code = "from edgekit import plugins; print(plugins.load('runtimes', 'acme')().version())"
    assert subprocess.run([python, "-P", "-c", code], capture_output=True, text=True).stdout[0].isdigit()
    targets = {item["name"]: item for item in edgekit(python, tmp_path, "targets", "list")["targets"]}
    assert targets["acme-board"]["candidates"] == ["acme fp32"]
    where = subprocess.run(
        [python, "-P", "-c", "import edgekit; print(edgekit.__file__)"], capture_output=True, text=True
    )
    assert str(python.parents[1]) in where.stdout, "the wheel is what runs"


def test_from_a_profile_to_a_bundle_that_passes_its_self_test(python: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "our-gateway.toml").write_text(BOARD)
    result = edgekit(python, tmp_path, "export", "net.py:build", "--target", "./our-gateway.toml")
    assert result["chosen"] == "acme fp32"
    assert result["placement"]["CPU"] > 0
    assert "self-test passed on acme" in result["self_test"]
    # On the device neither edgekit nor the Acme package is installed: the bundle brings its adapter along.
    # (This Python has edgekit installed, so importing it is made to fail, as it would there.)
    program = "import runpy, sys; sys.modules['edgekit'] = None; runpy.run_path('run.py', run_name='__main__')"
    device = [sys.executable, "-I", "-c", program]
    alone = subprocess.run(device, cwd=tmp_path / "build.edgekit", capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    assert "self-test passed on acme" in alone.stdout


def test_it_passes_the_kit_its_author_runs(python: Path, tmp_path: Path) -> None:
    shutil.copy(ACME / "test_acme.py", tmp_path)
    command = [python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout

"""edgekit as people install it: from a wheel with the core alone, and editable; run in the clone and elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("edgekit", "exporters", "runtimes", "targets", "examples")
WINDOWS = os.name == "nt"
pytestmark = pytest.mark.slow
Clone = Callable[[Path], Path]


def make_venv(folder: Path) -> Path:
    """A virtual environment that sees no other; its Python."""
    venv.create(folder, with_pip=False, symlinks=not WINDOWS)
    return folder / ("Scripts/python.exe" if WINDOWS else "bin/python")


def run(command: list[object], cwd: Path) -> str:
    """What it prints; its errors are the test's failure."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(python: Path, *arguments: object) -> None:
    """Our pip, installing into another environment."""
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", *arguments], ROOT)


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and what it requires, no extra: as on a small board."""
    python = make_venv(tmp_path_factory.mktemp("core"))
    pip(python, "-c", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture(scope="module")
def editable(core: Path, clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Python of an environment with an editable install, and the clone that it points to."""
    source = clone(tmp_path_factory.mktemp("clone"))
    python = make_venv(tmp_path_factory.mktemp("editable"))
    pip(python, "-c", ROOT / "constraints.txt", "-e", source)
    return python, source


def test_every_package_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT) for name in SHIPPED for path in (ROOT / name).rglob("__init__.py")}
    installed = {".".join(path.parts if path.parts[0] == "edgekit" else ("edgekit", *path.parts)) for path in found}
    assert installed == set(declared)

    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in found:  # an example without __init__.py is run from a clone
        for kind in ("*.py", "*.toml", "py.typed"):
            for path in (ROOT / folder).glob(kind):
                inside = path.relative_to(ROOT).as_posix()
                assert (inside if inside.startswith("edgekit/") else f"edgekit/{inside}") in packed


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgekit"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["targets", "list"], ["doctor"]], ids=" ".join)
def test_the_core_alone_runs_without_torch_or_onnx(core: Path, tmp_path: Path, words: list[str]) -> None:
    for module in ("torch", "onnx", "onnxruntime", "openvino"):
        lookup = f"import importlib.util as u; print(u.find_spec({module!r}) is None)"
        assert run([core, "-c", lookup], tmp_path) == "True\n"
    command = core.with_name("edgekit.exe" if WINDOWS else "edgekit")
    printed = run([command, *words], tmp_path)
    assert printed.strip()
    if words == ["targets", "list"]:
        assert "raspberry-pi-5" in printed


def test_from_the_wheel_in_the_clone_and_elsewhere(core: Path, clone: Clone, tmp_path: Path) -> None:
    source = clone(tmp_path / "clone")
    elsewhere = run([core, "-m", "edgekit", "targets", "list"], tmp_path)
    assert "raspberry-pi-5" in elsewhere
    # In the clone's root Python finds the clone's edgekit/ first, without exporters, runtimes and targets inside.
    assert run([core, "-m", "edgekit", "targets", "list"], source) == elsewhere


def test_editable_in_the_clone_and_elsewhere(editable: tuple[Path, Path], tmp_path: Path) -> None:
    python, source = editable
    elsewhere = run([python, "-m", "edgekit", "targets", "list"], tmp_path)
    assert "raspberry-pi-5" in elsewhere
    assert run([python, "-m", "edgekit", "targets", "list"], source) == elsewhere
    where = "import edgekit.runtimes.onnxruntime as m; print(m.__file__)"
    assert Path(run([python, "-c", where], tmp_path).strip()) == source / "runtimes" / "onnxruntime.py"


def test_a_clone_that_is_not_installed_says_so(tmp_path: Path, core: Path, clone: Clone) -> None:
    source = clone(tmp_path / "clone")
    bare = make_venv(tmp_path / "bare")
    pip(bare, "-c", ROOT / "constraints.txt", "click", "numpy", "packaging")
    done = subprocess.run(
        [bare, "-m", "edgekit", "targets", "list"], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "edgekit is imported from a folder but not installed" in done.stderr
    assert "Traceback" not in done.stderr

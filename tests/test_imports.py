"""What each floor may import: read from the source, and from sys.modules after a start."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit
import edgekit.runtimes

ROOT = Path(edgekit.__file__).parent
RUNTIMES = Path(next(iter(edgekit.runtimes.__path__)))
FLOOR = {"contracts", "errors", "bundle", "measure", "runtimes"}
# Installed beside numpy with every engine that needs it; looked for, never required.
OPTIONAL = {"ml_dtypes"}
ENGINES = {"onnxruntime", "openvino", "torch", "onnx", "tensorrt"}
HEAVY = {
    "torch",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "transformers",
    "optimum",
    "sklearn",
}


def floor_files() -> list[Path]:
    files = [ROOT / "contracts.py", ROOT / "errors.py"]
    for folder in (ROOT / "bundle", ROOT / "measure", RUNTIMES):
        files += sorted(folder.rglob("*.py"))
    return files


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(dotted name, level, whether at import time) of every import in a file; `if TYPE_CHECKING` blocks never run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, int, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from walk(child, top)
            return
        if isinstance(node, ast.Import):
            yield from ((item.name, 0, top) for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module, node.level, top
            else:
                yield from ((item.name, node.level, top) for item in node.names)
        inner = top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner)

    yield from walk(tree, True)


def depth(path: Path) -> int:
    """Packages between a floor file and the floor's root: 0 for contracts.py, 1 for measure/latency.py."""
    base = RUNTIMES.parent if path.is_relative_to(RUNTIMES) else ROOT
    return len(path.relative_to(base).parts) - 1


HOST_ONLY = {"write.py", "archive.py"}  # of bundle/: they make bundles and do not ship in them


def vendored() -> list[Path]:
    return [
        path for path in floor_files() if not (path.parent.name == "bundle" and path.name in HOST_ONLY | {"run.py"})
    ]


@pytest.mark.parametrize("path", vendored(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_device_floor_imports_the_standard_library_numpy_and_itself(path: Path) -> None:
    for name, level, top in imports(path):
        first = name.partition(".")[0]
        if level == 0:
            allowed = first in sys.stdlib_module_names or first in {"numpy"} | OPTIONAL
            assert allowed or (first in ENGINES and not top), f"{path.name} imports {name}"
        elif level > depth(path):
            assert first in FLOOR, f"{path.name} imports {name}, which is not of the device floor"


@pytest.mark.parametrize("path", vendored(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_device_floor_imports_itself_by_relative_names(path: Path) -> None:
    absolute = [name for name, level, _ in imports(path) if level == 0 and name.partition(".")[0] == "edgekit"]
    assert not absolute, f"{path.name} must import {absolute} relatively: it ships under another package's name"


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_only_click_errors_and_each_other(path: Path) -> None:
    for name, level, top in imports(path):
        first = name.partition(".")[0]
        if not top:
            continue
        if level == 0:
            assert first in sys.stdlib_module_names or first == "click", f"{path.name} imports {name} at import time"
        elif level == 2:
            assert first in {"errors", "__version__"}, f"{path.name} imports ..{name} at import time"


def loaded_by(program: str) -> set[str]:
    """The top-level packages in sys.modules after a program."""
    code = (
        f"{program}\nimport json, sys\nsys.stderr.write(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


CALL = """
import sys
from edgekit.cli import main
try:
    main({words!r})
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""


def test_import_edgekit_loads_nothing_heavy() -> None:
    assert not loaded_by("import edgekit") & (HEAVY | {"numpy", "click"})


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["export", "--help"], ["targets", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    assert not loaded_by(CALL.format(words=words)) & (HEAVY | {"numpy"})


def test_targets_list_needs_no_torch_and_no_engine() -> None:
    assert not loaded_by(CALL.format(words=["targets", "list"])) & HEAVY


def test_help_imports_no_command() -> None:
    code = f"{CALL.format(words=['--help'])}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stderr.split() if name.startswith("edgekit")}
    assert ours == {
        "edgekit",
        "edgekit.errors",
        "edgekit.cli",
        "edgekit.cli.app",
        "edgekit.cli.boundary",
        "edgekit.cli.group",
        "edgekit.cli.stop_signals",
    }


def test_the_python_api_stays_callable() -> None:
    """`edgekit.bench` is the function also after the module of that name was imported through it."""
    code = (
        "import edgekit\n"
        "for name in edgekit.__all__:\n"
        "    if name != '__version__':\n"
        "        assert callable(getattr(edgekit, name)), name\n"
        "        assert callable(getattr(edgekit, name)), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

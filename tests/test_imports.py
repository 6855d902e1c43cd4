"""Who may import whom: read from the source, and from sys.modules after a start."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit
import edgekit.exporters
import edgekit.runtimes

ROOT = Path(edgekit.__file__).parent
RUNTIMES = Path(next(iter(edgekit.runtimes.__path__)))
EXPORTERS = Path(next(iter(edgekit.exporters.__path__)))

GROUND = [
    "_reaper",
    "context",
    "contracts",
    "errors",
    "facts",
    "graph",
    "json_output",
    "placement",
    "plain",
    "plugins",
    "quiet",
    "results",
    "tempdir",
    "units",
    "user_code",
    "version",
]
"""Small flat modules that any room of the host may build on, and `json_output`, a folder of types."""
RULES = {
    # The device floor, which every bundle carries: see below for its own, stricter rule.
    "measure": "contracts errors",
    "runtimes": "contracts errors facts measure",
    "bundle": "contracts errors facts tempdir units measure",
    # What the user named.
    "data": "ground",
    "sources": "ground",
    "target": "ground measure",
    # What is done to a graph, and where.
    "quantization": "ground runtimes",
    "passes": "ground quantization",
    "module_passes": "ground data",
    "devices": "ground measure runtimes bundle target",
    "exporters": "ground measure runtimes sources quantization devices",
    # What is known of it.
    "accuracy": "ground measure runtimes data sources target",
    "analysis": "ground measure sources target quantization passes exporters",
    # Its way to a bundle.
    "pipeline": "ground measure bundle data sources target passes module_passes devices exporters accuracy analysis",
    "search": "ground pipeline analysis",
    "api": "ground measure runtimes bundle data sources target devices accuracy analysis pipeline search",
    # What a person sees.
    "results_store": "ground measure",
    "report": "ground measure bundle devices accuracy analysis results_store api",
    "cli": "ground measure bundle data target devices results_store report api examples",
    "front": "version bundle api",
    "testing": "ground measure bundle sources target passes exporters",
    "ground": "ground measure",
}
"""Room → the rooms (or single modules of the ground) that it may import, inside functions and for types alone too.

Each names rooms that stand before it, so no arrow runs upward. `module_passes` and `search` are yet to come.
"""
FLOOR = {"contracts", "errors", "facts", "version", "bundle", "measure", "runtimes"}
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


def installed() -> dict[str, Path]:
    """Every module of the package, by its installed name without ``edgekit.``; '' is the package itself."""
    found = {}
    for base, folder in ((ROOT, ROOT), (RUNTIMES, RUNTIMES.parent), (EXPORTERS, EXPORTERS.parent)):
        for path in base.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = installed()


def room(module: str) -> str:
    first = module.partition(".")[0]
    if first in ("", "__main__"):
        return "front" if not first else "cli"
    return "ground" if first in GROUND else first


def imported(module: str) -> Iterator[str]:
    """The modules of ours that one imports anywhere in its text."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name[8:] for item in node.names if item.name.startswith("edgekit."))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
                base = ".".join(filter(None, (*above, node.module)))
            elif node.module == "edgekit" or (node.module or "").startswith("edgekit."):
                base = (node.module or "")[8:]
            else:
                continue
            for item in node.names:
                inner = f"{base}.{item.name}" if base else item.name
                yield inner if inner in MODULES else base


def breaches(rules: dict[str, str]) -> list[str]:
    """``a imports b``, for each import that a room's rule does not allow."""
    found = []
    for module in MODULES:
        own = room(module)
        allowed = {own, *rules[own].split()} if own in rules else set()
        for other in imported(module):
            names = {room(other), other.partition(".")[0]}
            if other != module and not names & allowed:
                found.append(
                    f"edgekit.{module or '__init__'} imports edgekit.{other}: '{own}' may not import '{room(other)}'"
                )
    return found


def test_every_room_imports_what_its_rule_allows() -> None:
    assert not breaches(RULES)


def test_a_breach_is_named_with_both_modules() -> None:
    told = breaches({**RULES, "pipeline": "ground"})
    assert any(
        "edgekit.pipeline.pack imports edgekit.bundle: 'pipeline' may not import 'bundle'" in line for line in told
    )


def test_rules_go_downward() -> None:
    """A room's rule names only rooms whose own rules, followed to the end, do not lead back to it."""

    def below(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        assert name not in seen, f"a circle: {' → '.join([*seen, name])}"
        rooms = {other for other in RULES.get(name, "").split() if other in RULES and other not in (name, "ground")}
        return rooms.union(*(below(other, seen | {name}) for other in rooms))

    for name in RULES:
        assert name not in below(name)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: set(imported(module)) - {module, ""} for module in MODULES}
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in graph.get(module, ()):
                walk(other, (*path, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def test_nobody_imports_what_another_modules_underscore_hides() -> None:
    """``from .read import _helper``: what is shared has a public name."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("edgekit")):
                names = [
                    item.name for item in node.names if item.name.startswith("_") and not item.name.startswith("__")
                ]
                inner = [name for name in names if not any(known.endswith(f".{name}") for known in MODULES)]
                assert not inner, f"edgekit.{module} imports {', '.join(inner)} of {node.module}"


def floor_files() -> list[Path]:
    files = [ROOT / "contracts.py", ROOT / "errors.py", ROOT / "facts.py", ROOT / "version.py"]
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


HOST_ONLY = {
    "write.py",
    "archive.py",
    "readme.py",
    "relative.py",
}  # of bundle/: not in a bundle


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
            assert first in {"errors", "version"}, f"{path.name} imports ..{name} at import time"


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
        "edgekit.version",
        "edgekit.cli",
        "edgekit.cli.app",
        "edgekit.cli.boundary",
        "edgekit.cli.group",
        "edgekit.cli.stop_signals",
        "edgekit.cli.streams",
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

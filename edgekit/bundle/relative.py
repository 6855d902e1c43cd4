"""A third party's adapter, made to find edgekit inside the bundle: its imports of ``edgekit`` become relative.

It imports ``edgekit.contracts``; in a bundle the same module has another name, one of its own for each bundle, so that
two bundles and an installed edgekit can live in one program.
"""

from __future__ import annotations

import ast
import re


def with_relative_imports(source: str, depth: int) -> str:
    """``source`` with every import of ``edgekit``, in any of Python's forms, told relative to the module's own place.

    Everything else stays as it is, to the byte. Text that is no Python is returned unchanged.

    Args:
        source: a module's text.
        depth: packages between the bundle's ``edgekit`` and the module: 1 for ``runtimes/acme.py``.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    raw = source.encode()
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        text = raw[begin:end].decode()
        if isinstance(node, ast.Import):
            changed = _plain(node, depth) if any(_is_ours(item.name) for item in node.names) else text
        elif node.level == 0 and _is_ours(node.module or ""):
            rest = (node.module or "").removeprefix("edgekit").removeprefix(".")
            changed = re.sub(r"^from\s+edgekit[\w.]*", f"from {'.' * (depth + 1)}{rest}", text)
        else:
            continue
        edits.append((begin, end, changed))
    for begin, end, changed in sorted(edits, reverse=True):
        raw = raw[:begin] + changed.encode() + raw[end:]
    return raw.decode()


def adapters_imported(source: str) -> set[str]:
    """The adapters of edgekit that a module imports by their installed names: ``onnxruntime`` of
    ``from edgekit.runtimes.onnxruntime import OnnxRuntime`` or ``from edgekit.runtimes import onnxruntime``.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named.update(item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            named.update(f"{node.module}.{item.name}" for item in node.names)
    parts = [name.split(".") for name in named]
    return {item[2] for item in parts if item[:2] == ["edgekit", "runtimes"] and len(item) > 2}


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "edgekit"


def _plain(node: ast.Import, depth: int) -> str:
    """``import edgekit.errors``, ``import os, edgekit.errors as errors`` → one line that binds the same names."""
    parts = []
    for item in node.names:
        if not _is_ours(item.name):
            parts.append(f"import {item.name}" + (f" as {item.asname}" if item.asname else ""))
            continue
        package, _, last = item.name.rpartition(".")
        if last != "edgekit":
            above = package.removeprefix("edgekit").removeprefix(".")
            parts.append(f"from {'.' * (depth + 1)}{above} import {last} as {item.asname or '_'}")
        if item.asname is None or last == "edgekit":  # the name `edgekit` itself is bound, and used with dots
            root = f'__import__("sys").modules[__package__.rsplit(".", {depth})[0]]'
            parts.append(f"{item.asname or 'edgekit'} = {root}")
    return "; ".join(parts)

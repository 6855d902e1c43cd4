"""Keeps a ``.pt2`` from running code when it is opened.

``torch.export.load`` trusts its file: it unpickles what the archive marks as pickled, evaluates symbolic sizes with
sympy (which runs Python), calls whatever function of torch a node names, and loads compiled libraries. So the archive
is read first and refused if it asks for any of that, and torch is held to ``weights_only`` for the rest.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SourceError


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Hold every ``torch.load`` inside to ``weights_only=True``, by the switch torch has for it."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def refuse_code(path: Path) -> None:
    """Refuse an archive that would run code when loaded.

    Raises:
        SourceError: it is no zip archive, or holds pickled objects, compiled code, or an expression that is more than
            arithmetic.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            seen: set[str] = set()
            for info in archive.infolist():
                name = info.filename.lower()  # torch's reader takes either case
                if name in seen:  # of two entries, torch might read the other
                    raise SourceError(f"{path} is refused: it holds '{info.filename}' twice", fix=_SAVE)
                seen.add(name)
                if "/aotinductor/" in name or name.endswith((".so", ".pyd", ".dll", ".dylib")):
                    raise SourceError(f"{path} is refused: it holds compiled code ({info.filename})", fix=_SAVE)
                if name.endswith(".json"):
                    _refuse_in_json(path, info.filename, json.loads(archive.read(info)))
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not an exported program: {error}", fix=_SAVE) from error


_SAVE = "Write it again: torch.export.save(torch.export.export(net, example), path)"


def _refuse_in_json(path: Path, name: str, value: Any) -> None:
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise SourceError(
                f"{path} is refused: {name} marks {value.get('path_name', 'an entry')} as pickled, and unpickling can "
                "run any code",
                fix="Keep plain tensors in the module's parameters and buffers and save it again.",
            )
        text = value.get("expr_str")
        if isinstance(text, str) and not _is_arithmetic(text):
            raise SourceError(f"{path} is refused: {name} holds {text[:80]!r}, which is not arithmetic on sizes")
        target = value.get("target")
        if isinstance(target, str) and "inputs" in value and not _is_operator(target):
            raise SourceError(f"{path} is refused: {name} calls {target[:80]!r}, which is not an operator of a model")
        for child in value.values():
            _refuse_in_json(path, name, child)
    elif isinstance(value, list):
        for child in value:
            _refuse_in_json(path, name, child)


_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Load, ast.Constant, ast.Call,
    ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = {
    "Abs", "Add", "And", "BooleanFalse", "BooleanTrue", "CeilToInt", "CleanDiv", "Eq", "Equality", "Float", "FloatPow",
    "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity", "IntTrueDiv", "Integer",
    "IsNonOverlappingAndDenseIndicator", "LShift", "Le", "LessThan", "Lt", "Max", "Min", "Mod", "ModularIndexing",
    "Mul", "Ne", "Not", "Or", "Piecewise", "Pow", "PowByNatural", "PythonMod", "RShift", "Rational", "RoundDecimal",
    "RoundToInt", "StrictGreaterThan", "StrictLessThan", "Symbol", "ToFloat", "TruncToFloat", "TruncToInt",
    "Unequality", "Where", "bitwise_and", "bitwise_or", "ceiling", "floor",
}  # fmt: skip


def _is_arithmetic(text: str) -> bool:
    """Whether ``text`` only computes with numbers, symbols and the functions torch's shapes are made of."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError):
        return False
    for node in nodes:
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Name) and node.id.startswith("__"):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, bool)) and not _is_symbol(node):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            return False
    return True


def _is_symbol(node: ast.Constant) -> bool:
    """``'s31'``, as in ``Symbol('s31', positive=True)``."""
    return isinstance(node.value, str) and node.value.isidentifier() and not node.value.startswith("_")


_OPERATOR = re.compile(
    r"torch\.ops\.(?!load_library|loaded_libraries|import_module)[a-z]\w*(\.(?!__\w*__)\w+){1,2}"
    r"|torch\.sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(abs|add|and_|eq|floordiv|ge|getitem|gt|inv|invert|le|lshift|lt|mod|mul|ne|neg|not_|or_|pos|pow"
    r"|rshift|sub|truediv|xor)"
)


def _is_operator(target: str) -> bool:
    """Whether a node's target, which torch looks up by name and calls, is an operator: not ``torch.hub.load``."""
    return _OPERATOR.fullmatch(target) is not None

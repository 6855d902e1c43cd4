"""``.pt2``: a program saved by ``torch.export.save``, opened without letting it run code.

``torch.export.load`` alone is not safe: it unpickles what the archive marks as pickled, evaluates symbolic sizes with
sympy, which runs Python, and loads compiled libraries. So the archive is read first and refused if it asks for any of
that, and torch is held to ``weights_only`` for the rest.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..contracts import Array
from ..errors import SourceError, UsageError
from ..source import Source
from . import build, capture
from .flags import FreeAxis, parse_dynamic
from .flat import to_numpy


def load(spec: str, path: Path, inputs: Sequence[str], dynamic: Sequence[str]) -> Source:
    """Open a ``.pt2`` with the example inputs saved in it.

    Raises:
        SourceError: it is damaged, holds code, or has no example inputs.
        UsageError: ``--input`` is given, or ``--dynamic`` names a dimension that the program fixed.
    """
    if inputs:
        raise UsageError(f"--input does not apply: {spec} brings its own inputs and has fixed their shapes")
    _refuse_code(path)
    try:
        with capture.quiet(), _weights_only():
            program = torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{spec} cannot be read: {' '.join(str(error).split())[:300]}",
            fix=f"Save it again with this version of torch ({torch.__version__}): torch.export.save(program, …)",
        ) from error
    if program.example_inputs is None:
        raise SourceError(f"{spec} holds no example inputs", fix="Save it again with torch.export.save")
    args, kwargs = program.example_inputs
    source = build.from_module(
        spec,
        "exported-program",
        path.stem,
        _module(program),
        tuple(args),
        dict(kwargs),
        dynamic=(),
        description="exported program",
        path=path,
    )
    source.parameters = sum(tensor.numel() for _, tensor in program.named_parameters())
    source.program = program
    return _name_dimensions(source, program, dynamic)


def _module(program: torch.export.ExportedProgram) -> torch.nn.Module:
    with capture.quiet():
        module: torch.nn.Module = program.module()
    return module


def _name_dimensions(source: Source, program: torch.export.ExportedProgram, dynamic: Sequence[str]) -> Source:
    """Name the dimensions the program left free: as ``--dynamic`` says, else ``batch`` and ``NAME_dimAXIS``."""
    index = {item.name: position for position, item in enumerate(source.inputs)}
    ranks = [(item.name, len(item.shape)) for item in source.inputs]
    asked = {(item.input, item.axis): item for item in (parse_dynamic(text, ranks, {}) for text in dynamic)}
    axes: list[FreeAxis] = []
    for node, item in zip(capture.tensor_placeholders(program), source.inputs, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            if not isinstance(size, int):
                default = parse_dynamic(f"{item.name}:{axis}", ranks, {})
                axes.append(asked.pop((item.name, axis), default))
    for left in asked.values():
        raise UsageError(
            f"--dynamic {left.input}:{left.axis}: the exported program has fixed this dimension",
            fix="Free it where the program is made: torch.export.export(…, dynamic_shapes=…)",
        )
    if axes:
        names = capture.dimension_names(program, [(index[item.input], item) for item in axes])
        source.inputs = capture.input_specs(program, [item.name for item in source.inputs], names)
        source.outputs = capture.output_specs(program, [item.name for item in source.outputs], names)
    return source


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
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


def _refuse_code(path: Path) -> None:
    """Refuse an archive that would run code when loaded.

    Raises:
        SourceError: it is no zip archive, or holds pickled objects, compiled code, or an expression that is more than
            arithmetic.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if "/aotinductor/" in name or name.endswith((".so", ".pyd", ".dll", ".dylib")):
                    raise SourceError(f"{path} is refused: it holds compiled code ({name})", fix=_SAVE)
                if name.endswith(".json"):
                    _refuse_in_json(path, name, json.loads(archive.read(name)))
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no exported program: {error}", fix=_SAVE) from error


_SAVE = "Write it with torch.export.save(torch.export.export(net, example), path)"


def _refuse_in_json(path: Path, name: str, value: Any) -> None:
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise SourceError(
                f"{path} is refused: {name} marks {value.get('path_name', 'an entry')} as pickled, and unpickling can "
                "run any code",
                fix="Keep plain tensors in the module's parameters and buffers and save it again",
            )
        text = value.get("expr_str")
        if isinstance(text, str) and not _is_arithmetic(text):
            raise SourceError(f"{path} is refused: {name} holds {text[:80]!r}, which is no arithmetic over sizes")
        for child in value.values():
            _refuse_in_json(path, name, child)
    elif isinstance(value, list):
        for child in value:
            _refuse_in_json(path, name, child)


_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Load, ast.Constant, ast.Call,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = {
    "Add", "And", "CeilToInt", "CleanDiv", "Eq", "FloatPow", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "Gt",
    "Identity", "IntTrueDiv", "Integer", "IsNonOverlappingAndDenseIndicator", "LShift", "Le", "Lt", "Max", "Min",
    "Mod", "ModularIndexing", "Mul", "Ne", "Not", "Or", "Piecewise", "Pow", "PowByNatural", "PythonMod", "RShift",
    "Rational", "RoundDecimal", "RoundToInt", "Symbol", "ToFloat", "TruncToFloat", "TruncToInt", "Where", "abs",
    "bitwise_and", "bitwise_or", "ceiling", "floor",
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
        if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, bool)):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            return False
    return True


class _Tracer(torch.fx.Interpreter):
    """Runs a traced graph and keeps, for each run of operators from one module, the last tensor."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.found: list[tuple[str, Array]] = []
        self._last: tuple[str, torch.Tensor] | None = None

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one node; when the module changes, what the one before computed last was its output."""
        value = super().run_node(n)
        first = next((item for item in value if isinstance(item, torch.Tensor)), None) if _is_list(value) else value
        if n.op == "call_function" and isinstance(first, torch.Tensor):
            path = _path(n)
            if self._last is not None and self._last[0] != path:
                self.flush()
            self._last = (path, first.detach().clone())
        return value

    def flush(self) -> None:
        """Keep the last tensor of the module that just ended."""
        if self._last is not None and self._last[0]:
            self.found.append((self._last[0], to_numpy(self._last[1])))
        self._last = None


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _path(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def layer_outputs(flat: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> Iterator[tuple[str, Array]]:
    """(path of the module the operators came from, the last tensor they computed), in the order of the trace."""
    from torch.utils import _pytree

    graph = flat.get_submodule("model")
    assert isinstance(graph, torch.fx.GraphModule)
    args, kwargs = flat.rebuilt(tensors)  # type: ignore[operator]
    tracer = _Tracer(graph)
    leaves = _pytree.tree_leaves((args, kwargs))
    with torch.no_grad():
        tracer.run(*leaves, enable_io_processing=False)
    tracer.flush()
    return iter(tracer.found)

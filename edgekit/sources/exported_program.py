"""``.pt2``: a program saved by ``torch.export.save``, opened without letting it run code.

``torch.export.load`` alone is not safe (see `pt2_guard`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..contracts import Array
from ..errors import SourceError, UsageError
from ..source import Source
from . import build, capture, pt2_guard
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
    pt2_guard.refuse_code(path)
    try:
        with capture.quiet(), pt2_guard.weights_only():
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
        module: torch.nn.Module = program.module(check_guards=False)  # guards are Python text, run by exec
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

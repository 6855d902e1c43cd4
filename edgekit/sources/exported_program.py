"""``.pt2``: a program saved by ``torch.export.save``, opened without letting it run code.

``torch.export.load`` alone is not safe (see `pt2_guard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import SourceError, UsageError
from ..quiet import TORCH, quiet
from . import build, capture, pt2_guard
from .flags import FreeAxis, parse_dynamic
from .source import Source


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
        with quiet(*TORCH), pt2_guard.weights_only():
            program = torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{spec} cannot be read: {' '.join(str(error).split())[:300]}",
            fix=f"Save it again with this version of torch ({torch.__version__}): torch.export.save(program, …)",
        ) from error
    if program.example_inputs is None:
        raise SourceError(f"{spec} holds no example inputs", fix="Save it again with torch.export.save.")
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
    if source.state:  # another program than the saved one: its buffers are inputs and outputs
        assert source.flat is not None
        made = build.capture_program(source, source.flat, _free_axes(source, program, dynamic))
        made.parameters = sum(tensor.numel() for _, tensor in program.named_parameters())
        return made
    source.parameters = sum(tensor.numel() for _, tensor in program.named_parameters())
    source.program = program
    return _name_dimensions(source, program, dynamic)


def _module(program: torch.export.ExportedProgram) -> torch.nn.Module:
    with quiet(*TORCH):
        module: torch.nn.Module = program.module(check_guards=False)  # guards are Python text, run by exec
    return module


def _name_dimensions(source: Source, program: torch.export.ExportedProgram, dynamic: Sequence[str]) -> Source:
    """Name the dimensions the program left free."""
    index = {item.name: position for position, item in enumerate(source.inputs)}
    axes = _free_axes(source, program, dynamic)
    if axes:
        names = capture.dimension_names(program, [(index[item.input], item) for item in axes])
        source.inputs = capture.input_specs(program, [item.name for item in source.inputs], names)
        source.outputs = capture.output_specs(program, [item.name for item in source.outputs], names)
    return source


def _free_axes(source: Source, program: torch.export.ExportedProgram, dynamic: Sequence[str]) -> list[FreeAxis]:
    """The dimensions the program left free, named as ``--dynamic`` says, else ``batch`` and ``NAME_dimAXIS``."""
    ranks = [(item.name, len(item.shape)) for item in source.inputs]
    asked = {(item.input, item.axis): item for item in (parse_dynamic(text, ranks, {}) for text in dynamic)}
    axes: list[FreeAxis] = []
    own = source.inputs[: len(source.inputs) - len(source.state)]
    for node, item in zip(capture.tensor_placeholders(program), own, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            if not isinstance(size, int):
                default = parse_dynamic(f"{item.name}:{axis}", ranks, {})
                axes.append(asked.pop((item.name, axis), default))
    for left in asked.values():
        raise UsageError(
            f"--dynamic {left.input}:{left.axis}: the exported program has fixed this dimension",
            fix="Free it where the program is made: torch.export.export(…, dynamic_shapes=…)",
        )
    return axes

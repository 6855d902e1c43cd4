"""When an engine or its converter refuses an operator: where in the user's model it is.

Engines name an operator in words of their own. ONNX Runtime: "implementation for Det(11) node with name 'n'"; OpenVINO:
"No conversion rule found for operations: Det-11"; ExecuTorch and LiteRT: "aten._linalg_det.default".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..graph import module_path

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

FIX = "Write it with other operators there, or choose a target whose engine has it."
_SHOWN = 8
_ONNX = re.compile(r"\b([A-Za-z]\w*)(?:\(-?\d+\)|-\d+)?(?: node with name '([^']*)')?")
_ATEN = re.compile(r"\baten\.\w+\.\w+")


def located(error: EngineError, graph: ir.Model, program: torch.export.ExportedProgram | None = None) -> EngineError:
    """``error``, and where the operators that it names are; itself where it names none or already says what to do.

    Args:
        error: its ``what`` holds the engine's words.
        graph: the graph that the engine was given, or the one it was made from.
        program: for converters that take the PyTorch program.
    """
    if error.details or error.fix:
        return error
    places = list(dict.fromkeys([*_in_graph(error.what, graph), *_in_program(error.what, program)]))
    if not places:
        return error
    more = [f"and {len(places) - _SHOWN} more"] if len(places) > _SHOWN else []
    found = EngineError(error.what, details=[*places[:_SHOWN], *more], fix=FIX)
    found.__cause__ = error
    return found


def _in_graph(text: str, graph: ir.Model) -> Iterator[str]:
    """``Det  (head)``, for each node named or, where only an operator is named, for each node of that operator."""
    names = {node.name for node in graph.graph}
    for match in _ONNX.finditer(text):
        operator, name = match[1], match[2]
        if match[0] == operator:
            continue  # a word like any other: "Cast", "If"
        for node in graph.graph:
            if node.op_type == operator and (name not in names or node.name == name):
                yield f"{operator}  ({module_path(node) or node.name})"


def _in_program(text: str, program: torch.export.ExportedProgram | None) -> Iterator[str]:
    """``aten._linalg_det.default  head (Head)  net.py:8 in forward: …``."""
    names = set(_ATEN.findall(text.replace("torch._ops.", "")))
    if program is None or not names:
        return
    from ..sources.fx_nodes import line_of, module_of

    nodes = [node for node in program.graph.nodes if str(node.target) in names]
    if not nodes:  # converters name what is left after their decompositions, which are core ATen's
        with contextlib.suppress(Exception):  # the engine's error matters, not one met in looking for its place
            nodes = [node for node in program.run_decompositions().graph.nodes if str(node.target) in names]
    for node in nodes:
        yield "  ".join(filter(None, (str(node.target), module_of(node), line_of(node))))

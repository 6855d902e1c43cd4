"""Why torch could not export a model, in one message that a person can act on."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import user_code
from ..errors import SourceError
from ..sources.fx_nodes import line_of, module_of

if TYPE_CHECKING:
    import torch

    from ..sources.source import Source


@dataclass(frozen=True, slots=True)
class Cause:
    """A known way to fail: what torch's message looks like, what it means, what usually helps."""

    pattern: str  # searched in "TypeName: message" of the error and of those behind it, and in the module's class
    what: str
    fix: str


CAUSES = (
    Cause(
        r"PackedSequence",
        "it packs a batch by its lengths (pack_padded_sequence), and a graph has no packed sequences",
        "Give the layer the padded batch: a forward one answers the same at the real steps. A bidirectional one would "
        "read the padding first: export it for one sequence without padding, with a free length (--dynamic)",
    ),
    Cause(
        r"GuardOnDataDependent|data-dependent",
        "its Python code decides on the values of a tensor, so one export cannot stand for every input",
        "Replace the if or while by torch.where(condition, a, b), torch.cond or torch.while_loop; "
        "move checks of the input out of forward",
    ),
    Cause(
        r"DispatchError|No ONNX function found|No decompositions registered",
        "ONNX has no operator for {operator}",
        "Write it with operators that ONNX has, or leave it out of the model and compute it in the app",
    ),
    Cause(
        r"Constraints violated|ConstraintViolationError|specialized",
        "a dimension that was asked to be free is made constant by the model",
        "Drop that --dynamic, or take the size from x.shape instead of a number in view, reshape, expand or a loop",
    ),
    Cause(
        r"\.numpy\(\)|numpy\.ndarray|can't convert .* to numpy",
        "its Python code takes a tensor to numpy, which a graph cannot follow",
        "Stay in torch: torch.* has almost every function of numpy's",
    ),
    Cause(
        r"autograd\.Function|AutogradFunction|autograd_function",
        "it uses a custom autograd function that torch.export cannot follow",
        "For inference call its forward computation directly, or make it a torch.library.custom_op",
    ),
    Cause(
        r"leaf Variable that requires grad|in-place|inplace|is being mutated|Mutating",
        "it changes a tensor in place where torch.export does not allow it",
        "Compute a new tensor instead: x = x + 1, torch.cat, torch.where, index_put",
    ),
    Cause(
        r"Unsupported input type|unsupported input",
        "forward takes something that is neither a tensor nor a container of tensors",
        "Put a module around it whose forward takes tensors only",
    ),
    Cause(
        r"ScriptModule|ScriptFunction|torch\.jit",
        "it holds TorchScript, which torch.export cannot follow",
        "Build it from its Python classes instead of torch.jit.load or torch.jit.script",
    ),
    Cause(
        r"complex",
        "it computes with complex numbers in a way that ONNX cannot",
        "Keep real and imaginary parts as two real tensors (torch.view_as_real)",
    ),
)
_UNKNOWN = Cause("", "torch could not follow it", "See the report; a smaller forward or plainer operators often help")


def explain(source: Source, error: Exception, report: Path) -> SourceError:
    """The error to raise for torch's ``error``; the full account goes to the file ``report``.

    It names the PyTorch module, the user's line and the operator as far as the error tells, and what usually helps.
    """
    chain = list(_chain(error))
    node = next((found for item in chain if (found := _fx_node(item.__traceback__)) is not None), None)
    operator = _operator(chain, node)
    text = "\n".join(f"{type(item).__name__}: {item}" for item in chain)
    module = _module(source, chain, node)
    told = "\n".join([text, module, "PackedSequence" if _packed(chain) else ""])
    cause = next((item for item in CAUSES if re.search(item.pattern, told)), _UNKNOWN)
    details = []
    if module:
        details.append(f"module    {module}")
    line = _line(chain, node)
    if line:
        details.append(f"line      {line}")
    if operator:
        details.append(f"operator  {operator}")
    details += _dimensions(source, text)
    details.append(f"torch     {_first_line(chain)}")
    details.append(f"report    {_write(report, source, error, details)}")
    return SourceError(
        f"{source.spec} cannot be exported: {cause.what.format(operator=operator or 'one of its operators')}",
        details=details,
        fix=cause.fix,
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _walk(trace: TracebackType | None) -> Iterator[Any]:
    """The Python frames of a traceback, innermost first."""
    found = []
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return reversed(found)


def _fx_node(trace: TracebackType | None) -> torch.fx.Node | None:
    """The node that torch's ONNX translation was working on: the innermost frame's local of that type."""
    import torch

    for frame in _walk(trace):
        if "/onnx/" in frame.f_code.co_filename.replace("\\", "/"):
            for value in list(frame.f_locals.values()):
                if isinstance(value, torch.fx.Node):
                    return value
    return None


def _operator(chain: list[BaseException], node: torch.fx.Node | None) -> str:
    """``aten._linalg_eigh.default``."""
    if node is not None:
        return str(node.target)
    for item in chain:
        match = re.search(r"op='([\w.:]+)', overload='(\w+)'", str(item))
        if match:
            return f"{match[1]}.{match[2]}"
        calls = re.findall(r"torch\.ops\.([\w.]+)\(", str(getattr(item, "partial_fx_graph", "")))
        if calls:  # the last operator that was traced is the one whose value was asked for
            return str(calls[-1])
    return ""


def _module(source: Source, chain: list[BaseException], node: torch.fx.Node | None) -> str:
    """``body.1 (Inner)``: the innermost of the user's modules in which it went wrong."""
    if node is not None and (found := module_of(node)):
        return found
    if source.module is None:
        return ""
    paths = {id(module): path for path, module in source.module.named_modules()}
    for item in chain:
        for frame in _walk(item.__traceback__):
            owner = frame.f_locals.get("self")
            if id(owner) in paths:
                return f"{paths[id(owner)] or 'the model itself'} ({type(owner).__name__})"
    return ""


def _packed(chain: list[BaseException]) -> bool:
    """Whether it went wrong over a packed sequence: in a layer that was given one, or where one is made or opened."""
    from torch.nn.utils import rnn

    for item in chain:
        for frame in _walk(item.__traceback__):
            if frame.f_code.co_filename == rnn.__file__:
                return True
            if any(isinstance(value, rnn.PackedSequence) for value in list(frame.f_locals.values())):
                return True
    return False


def _line(chain: list[BaseException], node: torch.fx.Node | None) -> str:
    """``net.py:8 in forward: if x.sum() > 0:``, the innermost line of the user's own code."""
    if node is not None and (found := line_of(node)):
        return found
    for item in chain:
        lines = user_code.lines(item.__traceback__)
        if lines:
            return lines[-1]
    return ""


def _dimensions(source: Source, text: str) -> list[str]:
    """One line for each free dimension that torch says the model fixes, in the words of ``--dynamic``."""
    found: dict[str, None] = {}
    for index, axis, reason in re.findall(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\]([^\n]*)", text):
        constant = re.search(r"constant \((\d+)\)", reason)
        if constant and int(index) < len(source.inputs):
            item = source.inputs[int(index)]
            name = item.shape[int(axis)]
            found[f"dimension {axis} of input '{item.name}' ('{name}') is made constant: {constant[1]}"] = None
    return [*found, *_where_made_constant(source)] if found else []


def _where_made_constant(source: Source) -> list[str]:
    """The user's lines at which a free dimension became a number, found by tracing once more and listening to torch."""
    from ..sources import capture

    if source.flat is None:
        return []
    watch = _Watch()
    free = [{axis: d for axis, d in enumerate(item.shape) if isinstance(d, str)} for item in source.inputs]
    with contextlib.suppress(Exception):  # it fails as before: only what is logged on the way is of interest
        capture.capture(source.flat, tuple(t.detach() for t in source.flat.tensors.value), free, watch)
    return [f"line      {line}" for line in dict.fromkeys(watch.lines)]


class _Watch(logging.Handler):
    """Keeps the user's line whenever torch logs that a symbol got a constant value."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called by torch in the middle of the user's forward."""
        if re.match(r"set_replacement \w+ = \d+", record.getMessage()):
            own = [frame for frame in traceback.extract_stack() if user_code.is_users(frame.filename)]
            if own:
                last = own[-1]
                self.lines.append(f"{user_code.short(last.filename)}:{last.lineno} in {last.name}: {last.line}")


def _first_line(chain: list[BaseException]) -> str:
    """What torch says first, of the innermost error with a message."""
    item = next((item for item in reversed(chain) if str(item).strip()), chain[0])
    return " ".join(str(item).strip().splitlines()[0].split())[:300]


def _write(report: Path, source: Source, error: Exception, details: list[str]) -> str:
    """Write the full account: what is known, torch's whole traceback and, where it got that far, its program."""
    parts = [f"edgekit could not export {source.spec} ({source.description})", *details, ""]
    parts += ["".join(traceback.format_exception(error))]
    if source.program is not None:
        parts += ["The captured program:", str(source.program)]
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("\n".join(parts), encoding="utf-8")
    except OSError as problem:
        return f"could not be written to {report}: {problem.strerror}"
    return str(report)

"""A PyTorch module and example inputs → a `Source`. What the factory and Hugging Face kinds share."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contracts import Feeds, StatePair, TensorSpec
from ..errors import EdgekitError, SourceError
from . import capture, tree
from .flags import FreeAxis, check_sizes, parse_dynamic
from .flat import FlatModule, forward_failure, to_numpy
from .memory import LiftedModule, Memory, as_buffers, carried
from .quantized import refuse_packed
from .source import Kind, Source

_NUMPY_DTYPES = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A module in eval mode, float32, on the CPU."""

    module: torch.nn.Module
    converted: bool  # its weights were of another floating-point type; example inputs are converted likewise
    notes: tuple[str, ...]  # a sentence on each thing that had to be changed


def prepare(module: torch.nn.Module, *, owned: bool) -> Prepared:
    """``module`` in the form that it is exported in.

    A module that is not ``owned`` (the caller keeps it) is copied before it is changed.
    """
    floats = {p.dtype for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()} - {torch.float32}
    devices = {p.device.type for p in [*module.parameters(), *module.buffers()]} - {"cpu"}
    if "meta" in devices:
        raise SourceError(f"{type(module).__name__} has weights on the 'meta' device: it was never given values")
    training = any(part.training for part in module.modules())
    if not owned and (floats or devices or training):
        module = copy.deepcopy(module)
    notes = []
    if floats:
        names = ", ".join(sorted(capture.dtype_name(item) for item in floats))
        notes.append(f"weights in {names} were converted to float32, the precision of the reference")
        module = module.float()
    if devices:
        module = module.cpu()
    return Prepared(module.eval(), bool(floats), tuple(notes))


def from_module(
    spec: str,
    kind: Kind,
    name: str,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    dynamic: Sequence[str],
    free: Sequence[FreeAxis] = (),
    usual: dict[tuple[str, int], str] | None = None,
    description: str = "",
    converted: bool = False,
    notes: Sequence[str] = (),
    path: Path | None = None,
    made: Collection[str] = (),
) -> Source:
    """Run ``module`` (already `prepare`d) once on its example inputs and describe it.

    ``free`` are dimensions that were made free otherwise than by ``--dynamic``; ``usual`` names axes for it.
    ``converted``: see `Prepared`. ``made`` names the arguments that nobody gave.

    Raises:
        SourceError: ``forward`` refuses the inputs, raises, or returns what is no tensor.
        UsageError: a ``--dynamic`` does not fit.
    """
    refuse_packed(spec, module)
    args, kwargs = tree.convert(args, converted), tree.convert(kwargs, converted)
    flat = FlatModule(module, args, kwargs)
    example = {n: to_numpy(_checked(spec, n, t)) for n, t in zip(flat.input_names, flat.tensors.value, strict=True)}
    if not example:
        raise SourceError(f"{spec}: the example inputs hold no tensor")
    ranks = [(n, array.ndim) for n, array in example.items()]
    asked = [*free, *(parse_dynamic(text, ranks, usual or {}) for text in dynamic)]
    axes = list({(item.input, item.axis): item for item in asked}.values())
    check_sizes(axes, example)

    memory = Memory(module)
    try:
        names, tensors, dropped = _outputs(spec, flat.result(), example)
        written = memory.written()
        tensors = [tensor.clone() for tensor in tensors] if written else tensors  # may be the memory itself
        memory.refuse_loose()
        memory.restore()
        again = flat.result()
    except EdgekitError:
        raise
    except Exception as error:
        raise forward_failure(spec, module, error, example) from error
    _check_repeatable(spec, names, tensors, _outputs(spec, again, example)[1])
    memory.restore()
    pairs: tuple[StatePair, ...] = ()
    if written and (lifted := _lifted(spec, module, flat, written)) is not None:
        flat, count = lifted, len(lifted.buffer_paths)
        example |= {n: to_numpy(t) for n, t in zip(flat.input_names[-count:], flat.tensors.value[-count:], strict=True)}
        taken = {*example, *names}
        ends = [tree.unique(tree.valid_name(path), taken, "_out") for path in lifted.buffer_paths]
        pairs = tuple(StatePair(n, end, True) for n, end in zip(flat.input_names[-count:], ends, strict=True))
        names, tensors = [*names, *ends], [*tensors, *flat.tensors.value[-count:]]
    source = Source(
        spec=spec,
        kind=kind,
        name=name,
        description=description or type(module).__name__,
        inputs=tuple(TensorSpec(n, a.dtype.name, a.shape) for n, a in example.items()),
        outputs=tuple(
            TensorSpec(n, capture.dtype_name(t.dtype), tuple(t.shape)) for n, t in zip(names, tensors, strict=True)
        ),
        example=example,
        parameters=sum(p.numel() for p in module.parameters()),
        module=module,
        path=path,
        notes=(*notes, *(f"argument '{key}' is fixed at {value!r}" for key, value in flat.fixed.items()), *dropped),
        flat=flat,
        made=frozenset(made),
        state=pairs,
        initial={pair.input: example[pair.input] for pair in pairs},
    )
    return source if kind == "exported-program" else capture_program(source, flat, axes)


def resized(source: Source, feeds: Feeds) -> Source:
    """The same model with the shapes of ``feeds``, and those as example inputs; its free dimensions stay free.

    Args:
        source: of a factory or a Hugging Face model.
        feeds: for some of the inputs, or all; the others keep their example.

    Raises:
        SourceError: ``forward`` refuses them.
    """
    assert source.flat is not None and source.module is not None
    own = [name for name in source.flat.input_names if name not in {pair.input for pair in source.state if pair.buffer}]
    given = {**{name: source.example[name] for name in own}, **feeds}
    args, kwargs = source.flat.rebuilt(torch.from_numpy(np.array(given[name], order="C")) for name in own)
    free = [
        FreeAxis(spec.name, axis, size, chosen=True)
        for spec in source.inputs
        if spec.name in own
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    ]
    made = from_module(
        source.spec,
        source.kind,
        source.name,
        source.module,
        args,
        kwargs,
        dynamic=(),
        free=free,
        description=source.description,
        notes=source.notes,
        path=source.path,
        made=source.made - feeds.keys(),
    )
    made.notes = tuple(dict.fromkeys(made.notes))
    return made


def _lifted(spec: str, module: torch.nn.Module, flat: FlatModule, written: Sequence[str]) -> LiftedModule | None:
    """``flat`` with those of its ``written`` buffers as inputs and outputs that carry something over; None: none does.

    Raises:
        SourceError: such a buffer changes its shape or dtype from call to call.
    """
    as_buffers(module, written)
    lifted = LiftedModule(flat, written, [module.get_buffer(path) for path in written])
    tensors = tuple(tensor.detach() for tensor in lifted.tensors.value)
    try:
        matter = carried(capture.capture(lifted, tensors, [{} for _ in tensors]), len(written))
    except Exception:  # noqa: BLE001
        return lifted  # the capture that follows fails alike, and tells why
    if not matter:
        return None
    paths = [written[i] for i in matter]
    if len(paths) < len(written):
        lifted = LiftedModule(flat, paths, [module.get_buffer(path) for path in paths])
    with torch.no_grad():
        ends = lifted(*lifted.tensors.value)[-len(paths) :]
    for path, before, after in zip(paths, lifted.tensors.value[-len(paths) :], ends, strict=True):
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise SourceError(
                f"{spec}: forward leaves {capture.dtype_name(after.dtype)} {list(after.shape)} in the buffer '{path}', "
                f"which was {capture.dtype_name(before.dtype)} {list(before.shape)}",
                fix="Give it its final size at first: what goes from one run to the next has one shape.",
            )
    return lifted


def capture_program(source: Source, flat: FlatModule, axes: Sequence[FreeAxis]) -> Source:
    """Capture the program now: only it knows which output dimensions depend on the inputs' dimensions or values."""
    index = {item.name: position for position, item in enumerate(source.inputs)}
    free: list[dict[int, str]] = [{} for _ in source.inputs]
    for item in axes:
        free[index[item.input]][item.axis] = item.dim
    source.inputs = tuple(
        TensorSpec(spec.name, spec.dtype, tuple(names.get(axis, size) for axis, size in enumerate(spec.shape)))
        for spec, names in zip(source.inputs, free, strict=True)
    )
    tensors = tuple(tensor.detach() for tensor in flat.tensors.value)
    try:
        program = capture.capture(flat, tensors, free)
    except Exception as error:  # noqa: BLE001
        # The exporter raises it again, with the report that only it can write; nothing is lost here.
        source.capture_error = error
        return source
    names = capture.dimension_names(program, [(index[item.input], item) for item in axes])
    source.program = program
    source.inputs = capture.input_specs(program, [item.name for item in source.inputs], names)
    source.outputs = capture.output_specs(program, [item.name for item in source.outputs], names)
    return source


def _checked(spec: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
    dtype = capture.dtype_name(tensor.dtype)
    if dtype not in _NUMPY_DTYPES:
        raise SourceError(f"{spec}: input '{name}' is {dtype}, which no engine takes", fix="Use float32 or int64.")
    if tensor.layout != torch.strided:
        raise SourceError(f"{spec}: input '{name}' is a sparse tensor", fix="Give a dense one.")
    return tensor


def _check_repeatable(spec: str, names: list[str], first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    """A graph answers the same inputs alike, every time; a model that does not cannot be compared with its export.

    Raises:
        SourceError: two calls with the same inputs gave different outputs.
    """
    for name, a, b in zip(names, first, second, strict=True):
        if a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-5, equal_nan=True):
            continue
        by = f" by {(a.double() - b.double()).abs().max().item():.3g}" if a.shape == b.shape and a.numel() else ""
        raise SourceError(
            f"{spec}: two calls of forward with the same inputs gave different outputs ('{name}' differs{by}): it "
            "draws random numbers, or keeps state where it cannot be found",
            fix="Take the random tensor as an input of forward, give dropout training=self.training, and keep state in "
            "buffers (register_buffer), or take it as an input and return the new one.",
        )


def _outputs(spec: str, result: Any, taken: dict[str, Any]) -> tuple[list[str], list[torch.Tensor], list[str]]:
    """Name and tensor of each output, and a note on each plain number that was left out.

    Raises:
        SourceError: there is no tensor among them, or something that is neither a tensor nor a plain value.
    """
    names = tree.output_names(result, taken)
    kept: list[str] = []
    tensors: list[torch.Tensor] = []
    notes: list[str] = []
    for name, (_, leaf) in zip(names, tree.leaves(result), strict=True):
        if isinstance(leaf, torch.Tensor):
            if capture.dtype_name(leaf.dtype) not in _NUMPY_DTYPES:
                raise SourceError(
                    f"{spec}: output '{name}' is {capture.dtype_name(leaf.dtype)}, which ONNX engines do not return",
                    fix="Return torch.view_as_real of it." if leaf.is_complex() else "Return float32.",
                )
            kept.append(name)
            tensors.append(leaf)
        elif isinstance(leaf, (bool, int, float, str)):
            notes.append(f"output '{name}' is the Python value {leaf!r}, not a tensor, and is left out")
        else:
            cache = "Cache" in type(leaf).__name__
            raise SourceError(
                f"{spec}: output '{name}' is a {type(leaf).__name__}, which cannot be an output of a graph",
                fix="Set model.config.use_cache = False." if cache else "Return tensors in dicts, lists or tuples.",
            )
    if not tensors:
        raise SourceError(f"{spec}: forward returned no tensor, but {result!r:.80}")
    return kept, tensors, notes

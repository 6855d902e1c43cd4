"""What an ``.onnx`` file says of its shapes, checked by running it.

Files are wrong about themselves: an output of another rank, a batch that is free at the input and 1 at the output, one
symbol for two dimensions that have nothing to do with each other, a free dimension that works at one size alone. Here
each free dimension is tried at a second size, and what the outputs then look like is what the rest of the export goes
by.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contracts import Feeds, Outputs, TensorSpec
from ..errors import EngineError, SourceError
from .evaluators import Evaluator, TooSlowError, open_evaluator
from .resize import is_batch, other_sizes, resized

if TYPE_CHECKING:
    from ..sources.source import Source

GUESSES = (32, 64, 48, 128, 224, 256, 16, 320, 512, 640, 8)
"""Sizes that are tried for dimensions of made-up inputs of which nothing is known; the first at which the file runs."""

SOMETHING = 1e-4
"""Outputs that all stay below this on made-up inputs tell nothing: a float32 sigmoid is no finer than 3e-8."""
CONFIRM_S = 10.0


def check_claims(source: Source) -> None:
    """Put ``source``'s shapes right: its example's sizes (where they are guesses), its free dimensions, its outputs.

    Anything but an ``.onnx`` file is left alone, and so is one that nothing here can run, or not on the user's sample:
    its reference says why.

    Raises:
        SourceError: no made-up size works, or the batch is free by the file's word and works at one size alone.
    """
    if source.kind != "onnx" or source.path is None:
        return
    evaluator = _open(source.path)
    if evaluator is None:
        return
    base = _guess(source, evaluator) if source.guessed else _run(evaluator, source.example)
    if not isinstance(base, dict):
        if not source.guessed:
            return
        names = ", ".join(f"'{dim}'" for dim in sorted(source.guessed))
        raise SourceError(
            f"{source.spec} runs at none of the sizes that were guessed for {names}",
            details=[f"{evaluator.title}: {base}"],
            fix="Say the sizes: --input NAME:DTYPE:SHAPE, or give samples: --data",
        )
    _split_shared(source, evaluator)
    _join_batch(source, evaluator)
    sizes = source.example_dims()
    seen: list[tuple[Mapping[str, int], Outputs]] = [(sizes, base)]
    for dim, size in sizes.items():
        seen += _second(source, evaluator, dim, size)
    source.outputs = tuple(_output(spec, seen, source.inputs) for spec in source.outputs)
    source.settled = True


def _open(path: Path) -> Evaluator | None:
    for name in ("onnxruntime", "onnx.reference"):
        try:
            return open_evaluator(name, path)
        except EngineError:
            continue
    return None


def _run(evaluator: Evaluator, feeds: Feeds) -> Outputs | str:
    """The outputs, or why there are none: an answer without a number is none."""
    try:
        found = evaluator.run(feeds)
    except EngineError as error:
        return error.what
    empty = [name for name, value in found.items() if isinstance(value, np.ndarray) and not value.size]
    return f"output '{empty[0]}' is empty" if empty else found


def _guess(source: Source, evaluator: Evaluator) -> Outputs | str:
    """Set the sizes that nobody gave to the first at which the file runs, answers something, and others run it too.

    ONNX Runtime also runs what the specification has no result for (a window larger than the picture), and a network
    may answer zeros to a picture that is too small: such inputs show nothing. Where no size is so good, the first at
    which the file runs at all.

    Returns:
        The outputs there; or why it runs at none.
    """
    unknown = [dim for dim in sorted(source.guessed) if not is_batch(dim, source.inputs)]
    first: tuple[Feeds, Outputs] | None = None
    why = ""
    lonely = _of_scarce(source, unknown)
    tried: list[dict[str, int]] = [dict.fromkeys(unknown, size) for size in GUESSES] if unknown else [{}]
    if lonely and len(lonely) < len(unknown):
        tried += [{**sizes, **dict.fromkeys(lonely, 1)} for sizes in tried]
    for sizes in tried:
        feeds = resized(source.example, source.inputs, sizes)
        found = _run(evaluator, feeds)
        if not isinstance(found, dict):
            why = why or found
            continue
        first = first or (feeds, found)
        if not unknown or (_alive(found) and _confirmed(source.path, feeds)):
            first = feeds, found
            break
    if first is None:
        return why
    source.example = dict(first[0])
    return first[1]


def _of_scarce(source: Source, unknown: Sequence[str]) -> list[str]:
    """Free dimensions of inputs that state others too, which may be a batch that does not stand first: [2, ?, 128], the
    state of a recurrent network.
    """
    mixed = [spec for spec in source.inputs if any(isinstance(size, int) and size > 1 for size in spec.shape)]
    return [dim for dim in unknown if any(dim in spec.shape for spec in mixed)]


def _alive(outputs: Outputs) -> bool:
    return any(
        not isinstance(value, np.ndarray)
        or value.dtype.kind != "f"
        or float(np.max(np.abs(value), initial=0.0)) > SOMETHING
        for value in outputs.values()
    )


def _confirmed(path: Path | None, feeds: Feeds) -> bool:
    """Whether an evaluator with other code runs it too, and finds numbers."""
    assert path is not None
    for name in ("onnx.reference", "openvino"):
        try:
            deadline = time.perf_counter() + CONFIRM_S
            found = open_evaluator(name, path, deadline=deadline).run(feeds)
        except TooSlowError:
            return True
        except EngineError:
            continue
        arrays = [value for value in found.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        if all(np.isfinite(array).all() for array in arrays):
            return True
    return False


def _split_shared(source: Source, evaluator: Evaluator) -> None:
    """Give dimensions of one name their own names where they stand at different axes and the file runs without it."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, spec in enumerate(source.inputs):
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((number, axis))
    for dim, found in places.items():
        if len(found) < 2 or len({axis for _, axis in found}) == 1:
            continue
        shapes = [list(spec.shape) for spec in source.inputs]
        names = []
        for number, axis in found[1:]:
            names.append(f"{source.inputs[number].name}_dim{axis}")
            shapes[number][axis] = names[-1]
        apart = tuple(
            TensorSpec(spec.name, spec.dtype, tuple(shape)) for spec, shape in zip(source.inputs, shapes, strict=True)
        )
        # Sizes that no broadcasting makes equal: 2, 3, 5, 7, ….
        sizes = dict(zip([dim, *names], (2, 3, 5, 7, 11, 13), strict=False))
        if isinstance(_run(evaluator, resized(source.example, apart, sizes)), dict):
            source.inputs = apart
            source.notes += (f"the dimensions named '{dim}' do not depend on each other, so each has its own name",)


def _join_batch(source: Source, evaluator: Evaluator) -> None:
    """A batch that runs at another size only together with a nameless dimension of an input that is no batch by its
    place ([2, ?, 128], the state of a recurrent network): both are one, and have one name.
    """
    sizes = source.example_dims()
    for dim in [dim for dim in sizes if is_batch(dim, source.inputs)]:
        other = other_sizes(sizes[dim])[0]
        if isinstance(_run(evaluator, resized(source.example, source.inputs, {dim: other})), dict):
            continue
        for partner in _of_scarce(source, [name for name in sizes if name != dim and sizes[name] == sizes[dim]]):
            both = resized(source.example, source.inputs, {dim: other, partner: other})
            if isinstance(_run(evaluator, both), dict):
                source.inputs = tuple(
                    TensorSpec(spec.name, spec.dtype, tuple(dim if size == partner else size for size in spec.shape))
                    for spec in source.inputs
                )
                source.notes += (f"dimension '{partner}' is '{dim}', without which it runs at {sizes[dim]} alone",)
                break


def _second(source: Source, evaluator: Evaluator, dim: str, size: int) -> list[tuple[Mapping[str, int], Outputs]]:
    """What the file answers at another size of ``dim``; where it has none, the dimension is fixed, or refused."""
    sizes, why = source.example_dims(), ""
    for other in other_sizes(size):
        found = _run(evaluator, resized(source.example, source.inputs, {dim: other}))
        if isinstance(found, dict):
            return [({**sizes, dim: other}, found)]
        why = why or f"at {other}, {evaluator.title}: {found}"
    if is_batch(dim, source.inputs):
        owner = next(spec for spec in source.inputs if dim in spec.shape)
        fixed = "x".join(str(size if item == dim else item) for item in owner.shape)
        raise SourceError(
            f"'{dim}' of input '{owner.name}' is free by the word of {source.spec}, but it runs at {size} alone",
            details=[why],
            fix=f"Fix it: --input {owner.name}:{owner.dtype}:{fixed}",
        )
    source.inputs = tuple(
        TensorSpec(spec.name, spec.dtype, tuple(size if item == dim else item for item in spec.shape))
        for spec in source.inputs
    )
    source.notes += (f"dimension '{dim}' is free by the file's word and runs at {size} alone: it is fixed there",)
    return []


def _output(
    spec: TensorSpec, seen: Sequence[tuple[Mapping[str, int], Outputs]], inputs: Sequence[TensorSpec]
) -> TensorSpec:
    """An output's shape as it was seen: a size that the file states and every run has, the name of a free dimension
    that it follows, else a name of its own.
    """
    shapes = [np.shape(found[spec.name]) for _, found in seen if isinstance(found.get(spec.name), np.ndarray)]
    if len(shapes) != len(seen) or len({len(shape) for shape in shapes}) > 1:
        return spec
    free = {dim for item in inputs for dim in item.shape if isinstance(dim, str)}
    stated = spec.shape if len(spec.shape) == len(shapes[0]) else (None,) * len(shapes[0])
    shape: list[int | str] = []
    for axis, (claim, *sizes) in enumerate(zip(stated, *shapes, strict=True)):
        follows = [dim for dim in free if [at[dim] for at, _ in seen] == sizes and len(set(sizes)) > 1]
        if len(set(sizes)) == 1 and claim == sizes[0]:
            shape.append(sizes[0])
        else:
            shape.append(follows[0] if follows else f"{spec.name}_dim{axis}")
    return TensorSpec(spec.name, spec.dtype, tuple(shape))

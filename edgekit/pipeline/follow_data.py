"""Samples of another size than the example inputs: the model is taken at the size that the data have.

A factory's example inputs, or those that were made up for a Hugging Face model, fix the shapes of what is exported.
Data are what the model will see, so their first sample decides instead. A file (``.onnx``, ``.pt2``) has fixed its
shapes itself, and so has whoever stated them by ``--input`` or ``--example``: there the data are refused, with both
shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..contracts import Feeds, TensorSpec
from ..data.dataset import Dataset
from ..data.first import first_sample
from ..data.images import keeps_sizes
from ..data.load import load_with_values
from ..errors import DataError, EdgekitError
from ..measure.stream import frame_inputs
from ..sources.flags import flag_for
from ..sources.source import NoExampleError, Source
from ..sources.state import growing_hint

Stated = str | None
"""The option that has stated the shapes: ``--input``, ``--example``; for calibration data ``--data``; None."""


def load_at_data(load: Callable[[Sequence[str]], Source], data: str | None, preprocess: str | None) -> Source:
    """A source; where it does not say what its model takes, the first sample of the data does.

    Args:
        load: loads it with further ``--input`` flags.
        data: what `load_data` takes; None: there are none.
        preprocess: how an image folder becomes input arrays.

    Raises:
        SourceError: see `load_source`.
        DataError: the data cannot be read.
    """
    try:
        return load(())
    except NoExampleError as error:
        first = None if data is None else first_sample(data, error.needed, preprocess)
        if first is None:
            raise
    return load([flag_for(name, array).removeprefix("--input ") for name, array in first.items()])


def read_data(
    model: Source,
    data: str,
    preprocess: str | None,
    stated: Stated,
    settle: Callable[[Source], None],
    valued: Collection[str] = (),
) -> tuple[Source, Dataset]:
    """The samples that ``data`` names, and the model at their size.

    Args:
        model: as it was loaded; ``settle``d.
        data: what `load_data` takes.
        preprocess: how an image folder becomes input arrays.
        stated: see `Stated`.
        settle: gives a source its state.
        valued: inputs that have the example's value in all samples, where the data do not hold them.

    Raises:
        DataError: they do not fit, and the model cannot be taken at their size; names both shapes.
    """
    inputs, optional = frame_inputs(model.inputs, model.state)
    values = {name: model.example[name] for name in valued if name in model.example}
    read = partial(load_with_values, data, values=values, preprocess=preprocess, optional=optional)
    try:
        return model, read(inputs)
    except DataError as error:
        free = None if keeps_sizes(data, preprocess) else _of_any_size(read, inputs)
        if free is None:  # it is not their size
            hint = growing_hint(model)
            if hint and not error.fix:
                raise DataError(error.what, details=error.details, fix=f"{hint[0].upper()}{hint[1:]}") from error
            raise
        first = next(free.feeds())
        fix = _what_fixes(model, stated, first) or _differing(free)
        if fix:
            raise DataError(error.what, details=error.details, fix=error.fix or fix) from error
    taken = at_size(model, first, data)
    settle(taken)
    inputs, _ = frame_inputs(taken.inputs, taken.state)
    return taken, read(inputs)


def at_size(model: Source, feeds: Feeds, data: str) -> Source:
    """``model`` with the shapes of a sample, which may lack its state.

    Raises:
        DataError: ``forward`` does not take them; names both shapes.
    """
    from ..sources.build import resized

    changed = [
        (spec, feeds[spec.name].shape) for spec in model.inputs if spec.name in feeds and spec.refuses(feeds[spec.name])
    ]
    told = [
        f"'{spec.name}' is {_shape(shape)} as in {Path(data).name}, not {_shape(spec.shape)}" for spec, shape in changed
    ]
    try:
        taken = resized(model, feeds)
    except EdgekitError as error:
        raise DataError(
            f"the samples of {data} have another size than the example inputs of {model.spec}, and the model does not "
            f"take them: {'; '.join(told)}",
            details=(error.what, *error.details),
            fix="Give samples of the model's size, or example inputs of theirs.",
        ) from error
    taken.notes += tuple(f"{line} as in the example inputs" for line in told)
    return taken


def _of_any_size(read: Callable[..., Dataset], inputs: tuple[TensorSpec, ...]) -> Dataset | None:
    """The samples where only their size does not fit; their batch is the model's where that is possible."""
    for first_axis in (1, 0):
        free = tuple(
            replace(
                spec,
                shape=tuple(
                    f"_{spec.name}_{axis}" if axis >= first_axis else size for axis, size in enumerate(spec.shape)
                ),
            )
            for spec in inputs
        )
        try:
            return read(free)
        except DataError:
            continue
    return None


def _what_fixes(model: Source, stated: Stated, first: Feeds) -> str:
    """What to do where the model's shapes cannot follow the data; empty: they can."""
    if model.kind in ("onnx", "exported-program"):
        return "The file fixes this size: give samples of it, or free the dimension where the file is made."
    if stated == "--data":
        return "The samples of --data have this size: calibrate with such."
    if stated == "--example":
        return "--example states this size: leave it out, and the first sample is the example."
    if stated is not None:
        return f"State the samples' size: {' '.join(flag_for(name, array) for name, array in first.items())}"
    return ""


def _differing(samples: Dataset) -> str:
    """How to free the dimensions in which samples differ; empty: they are all of one size."""
    sizes: dict[tuple[str, int], set[int]] = {}
    for feeds in samples.feeds():
        for name, array in feeds.items():
            for axis, size in enumerate(array.shape):
                sizes.setdefault((name, axis), set()).add(size)
    flags = [f"--dynamic {name}:{axis}" for (name, axis), found in sizes.items() if len(found) > 1]
    return f"The samples differ in size: {' '.join(flags)}" if flags else ""


def _shape(shape: tuple[int | str, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"

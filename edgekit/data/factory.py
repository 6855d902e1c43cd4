"""``file.py:factory``: a function that yields feeds or (feeds, label), called anew for each pass."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts import Array, TensorSpec
from ..errors import DataError, SourceError
from . import fit
from .dataset import Dataset, Sample


def is_factory(spec: str) -> bool:
    """Whether ``spec`` has the form ``file.py:name``, ``package.module:name`` or ``file.py``."""
    main = spec.partition("?")[0]
    return bool(re.fullmatch(r".+\.py(:\w+)?|[A-Za-z_][\w.]*:[A-Za-z_]\w*", main))


def load(spec: str, inputs: tuple[TensorSpec, ...], limit: int, optional: Collection[str] = ()) -> Dataset:
    """Call the factory once, count and check its samples, and keep none of them.

    Raises:
        DataError: see `edgekit.data.load.load_data`.
    """
    from .. import user_code

    target, _, query = spec.partition("?")
    try:
        function, _ = user_code.find(target, "a function that yields feeds or (feeds, label)")
    except SourceError as error:
        raise DataError(error.what, details=error.details, fix=error.fix) from error
    arguments = user_code.arguments(spec, query, function)

    def start() -> Iterator[Any]:
        try:
            made = function(**arguments)
            if isinstance(made, Mapping) or not isinstance(made, Iterable):
                raise DataError(
                    f"{target} returned a {type(made).__name__}, not an iterable of feeds",
                    fix="Write it as a generator that yields {'NAME': array}, or ({'NAME': array}, label).",
                )
            yield from made
        except (DataError, GeneratorExit):
            raise
        except Exception as error:
            raise DataError(
                f"{target} {user_code.raised(error)}", details=user_code.lines(error.__traceback__)
            ) from error

    if optional:  # the first sample tells whether they are there
        first: object = next(start(), {})
        feeds = first[0] if isinstance(first, tuple) and len(first) == 2 else first
        inputs = fit.present(feeds if isinstance(feeds, Mapping) else (), inputs, optional)
    counted, labelled, notes = _survey(spec, start, inputs, limit)

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        wanted = set(indices)
        last = max(wanted)
        found = 0
        for index, item in enumerate(itertools.islice(start(), last + 1)):
            if index in wanted:
                found += 1
                yield _sample(item, inputs, f"sample {index} of {spec}")[0]
        if found < len(wanted):
            raise DataError(
                f"{target} yielded {counted} samples at first and fewer in a later pass",
                fix="Let it start from the beginning on every call: open files inside the function.",
            )

    return Dataset(target.rpartition(":")[2] or target, spec, fetch, counted, has_labels=labelled, notes=notes)


def _survey(
    spec: str, start: Callable[[], Iterator[Any]], inputs: tuple[TensorSpec, ...], limit: int
) -> tuple[int, bool, list[str]]:
    """Go through all samples once: their number, whether they have labels, and notes."""
    count, labels, notes = 0, 0, set[str]()
    iterator = start()
    for index, item in enumerate(itertools.islice(iterator, limit)):
        sample, found = _sample(item, inputs, f"sample {index} of {spec}")
        notes |= found
        count += 1
        labels += sample.label is not None
    if 0 < labels < count:
        raise DataError(f"{spec} yields a label with {labels} of {count} samples; either all or none must have one")
    if count == limit:
        notes.add(f"only the first {limit} samples were taken")
    return count, labels > 0, sorted(notes)


def _sample(item: object, inputs: tuple[TensorSpec, ...], where: str) -> tuple[Sample, set[str]]:
    """``feeds``, ``(feeds, label)``, and for a model of one input also ``array`` and ``(array, label)``.

    Raises:
        DataError: it is something else, or does not fit.
    """
    feeds, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(feeds, Mapping):
        if len(inputs) != 1 or isinstance(feeds, (tuple, list, str)) or feeds is None:
            raise DataError(
                f"{where} is a {type(feeds).__name__}, not feeds",
                fix=f"Yield a dict of arrays with the keys {', '.join(spec.name for spec in inputs)}",
            )
        feeds = {inputs[0].name: feeds}
    fitted, notes = fit.fit_feeds(feeds, inputs, where)
    return Sample(fitted, None if label is None else as_label(label, where)), notes


def as_label(value: object, where: str) -> Array:
    """A label as an array of one axis at least: 3 → [3]; texts stay texts.

    Raises:
        DataError: it is no number, no text and no array of them, or holds NaN.
    """
    if isinstance(value, str) or (isinstance(value, (list, tuple)) and value and isinstance(value[0], str)):
        return np.atleast_1d(np.asarray(value, np.str_))
    label = np.atleast_1d(fit.as_array(value, "label", where))
    fit.check_finite(label, "label", where)
    return label

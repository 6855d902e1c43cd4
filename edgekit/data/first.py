"""The first sample as the data have it, for a model that does not say what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Array, TensorSpec
from ..errors import DataError, SourceError
from . import arrow, factory, fit, images, npz


def first_sample(data: str, names: Sequence[str], preprocess: str | None = None) -> dict[str, Array] | None:
    """The arrays of the first sample with a batch axis; None: the data's form does not tell them without the model.

    float64 becomes float32, as everywhere in data.

    Args:
        data: what `load_data` takes.
        names: the arguments that the model needs: an array without a name is the only one's.
        preprocess: how an image becomes an array.

    Raises:
        DataError: the data cannot be read.
    """
    path = Path(data)
    if path.is_dir():
        return None if arrow.is_arrow(path) or len(names) != 1 else _image(data, path, names[0], preprocess)
    if factory.is_factory(data):
        return _made(data, names)
    if path.suffix == ".npz" and path.is_file():
        arrays = npz.open_arrays(path)
        found = {name: array[:1] for name, array in arrays.items() if name in names or name not in npz.LABELS}
        return _float32(found) if all(array.ndim for array in arrays.values()) else None
    return None


def _image(data: str, path: Path, name: str, preprocess: str | None) -> dict[str, Array]:
    loaded = images.load(data, path, (TensorSpec(name, "float32", ("n", "a", "b", "c")),), preprocess)
    return dict(next(loaded.feeds()))


def _made(data: str, names: Sequence[str]) -> dict[str, Array] | None:
    from .. import user_code

    target, _, query = data.partition("?")
    try:
        function, _ = user_code.find(target, "a function that yields feeds or (feeds, label)")
        made: Any = function(**user_code.arguments(data, query, function))
        item = next(iter(made), None) if isinstance(made, Iterable) and not isinstance(made, Mapping) else None
    except SourceError as error:
        raise DataError(error.what, details=error.details, fix=error.fix) from error
    except Exception as error:
        raise DataError(f"{target} {user_code.raised(error)}", details=user_code.lines(error.__traceback__)) from error
    feeds = item[0] if isinstance(item, tuple) and len(item) == 2 else item
    if not isinstance(feeds, Mapping):
        if len(names) != 1 or feeds is None or isinstance(feeds, (tuple, list, str)):
            return None
        feeds = {names[0]: feeds}
    return _float32({str(name): fit.as_array(value, str(name), data) for name, value in feeds.items()})


def _float32(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: np.array(array, np.float32 if array.dtype == np.float64 else array.dtype.newbyteorder("="))
        for name, array in arrays.items()
    }

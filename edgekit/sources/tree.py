"""Names for the leaves of whatever a ``forward`` takes and returns.

A dictionary gives its keys, a dataclass, named tuple or Hugging Face ModelOutput its fields, a list or tuple its
positions; levels are joined by a dot. So ``{"feat": [a, b], "loss": None}`` has the leaves ``feat.0`` and ``feat.1``
(None is no output), a lone tensor is ``output``, and a tuple is ``output_0``, ``output_1``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def leaves(value: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Every leaf that is not None, with its path, in order."""
    return list(_walk(value, ()))


def _walk(value: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    if value is None:
        return
    children = _children(value)
    if children is None:
        yield path, value
        return
    for key, child in children:
        yield from _walk(child, (*path, key))


def _children(value: Any) -> list[tuple[str, Any]] | None:
    """The named parts of a container, or None where ``value`` is a leaf."""
    if isinstance(value, Mapping):  # a Hugging Face ModelOutput is one
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (list, tuple)):
        return [(str(index), child) for index, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None


def output_names(value: Any, taken: Iterable[str]) -> list[str]:
    """A valid, unique name for each leaf of a ``forward``'s result, none of them in ``taken`` (the inputs' names).

    A name that is taken gets the suffix ``_out`` (then ``_out2``, …).
    """
    positional = isinstance(value, (list, tuple)) and not hasattr(value, "_fields")
    used = set(taken)
    names = []
    for path, _ in leaves(value):
        if not path:
            base = "output"
        elif positional:
            base = ".".join((f"output_{path[0]}", *path[1:]))
        else:
            base = ".".join(path)
        names.append(unique(valid_name(base), used, "_out"))
    return names


def input_names(paths: Iterable[tuple[str, ...]]) -> list[str]:
    """A valid, unique name for each tensor that ``forward`` takes: its argument, then where it lies in it."""
    used: set[str] = set()
    return [unique(valid_name(".".join(path)), used, "_in") for path in paths]


def valid_name(text: str) -> str:
    """``text`` with everything that an engine or a file format might choke on replaced by ``_``."""
    cleaned = re.sub(r"[^A-Za-z0-9_.\-]", "_", text) or "_"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned


def unique(base: str, used: set[str], suffix: str) -> str:
    """``base``, or the first of it with ``suffix``, ``suffix2``, … that is not in ``used``, which it is added to."""
    name, number = base, 1
    while name in used:
        number += 1
        name = f"{base}{suffix}" if number == 2 else f"{base}{suffix}{number - 1}"
    used.add(name)
    return name


def convert(value: Any, half_to_float: bool) -> Any:
    """A copy of example arguments ready to be called with: tensors detached, contiguous, on the CPU, arrays as tensors.

    ``half_to_float``: reduced-precision tensors become float32, as the module's weights did.
    """
    import numpy as np
    import torch

    if isinstance(value, np.ndarray):
        # Its own memory, of this machine's byte order; a scalar stays one.
        value = torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))
    if isinstance(value, torch.Tensor):
        wide = half_to_float and value.is_floating_point()
        return value.detach().to(device="cpu", dtype=torch.float32 if wide else None)
    return _map(value, lambda child: convert(child, half_to_float))


def rebuild(value: Any, replacement: Iterable[Any]) -> Any:
    """A copy of ``value`` (dicts, lists, tuples, named tuples, dataclasses) with its tensors replaced in order."""
    return _rebuild(value, iter(replacement))


def _rebuild(value: Any, fresh: Iterator[Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return next(fresh)
    return _map(value, lambda child: _rebuild(child, fresh))


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container of the same type with ``change`` applied to each part; anything else as it is."""
    if isinstance(value, Mapping):
        return type(value)({key: change(child) for key, child in value.items()})  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(child) for child in value))
    if isinstance(value, (list, tuple)):
        return type(value)([change(child) for child in value])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: change(getattr(value, f.name)) for f in dataclasses.fields(value)})
    return value

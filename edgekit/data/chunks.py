"""Samples on their way to a worker: as many at a time as fit into a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK_BYTES = 32 * 2**20


def in_chunks(samples: Iterable[T], size: Callable[[T], int], limit_bytes: int = CHUNK_BYTES) -> Iterator[list[T]]:
    """The samples in lists, each closed as soon as it has reached ``limit_bytes``; at least one sample a list.

    Args:
        samples: in order.
        size: sample → bytes; see `nbytes`.
        limit_bytes: of a list.
    """
    chunk: list[T] = []
    held_bytes = 0
    for sample in samples:
        chunk.append(sample)
        held_bytes += size(sample)
        if held_bytes >= limit_bytes:
            yield chunk
            chunk, held_bytes = [], 0
    if chunk:
        yield chunk


def nbytes(arrays: Mapping[str, Any]) -> int:
    """The bytes of a model's inputs or outputs: arrays, sequences of arrays, empty optionals (None)."""
    return sum(_nbytes(value) for value in arrays.values())


def _nbytes(value: Any) -> int:
    if value is None:
        return 0
    return sum(map(_nbytes, value)) if isinstance(value, list) else int(value.nbytes)

"""Samples that fit the model: gone through any number of times, at most one of them in memory at a time.

Beside that one there is what the operating system maps in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..contracts import Array, Feeds
from ..errors import DataError


class Sample(NamedTuple):
    """One set of feeds, and the labels of its items: shape [B, …] for a batch of B, or None where there are none."""

    feeds: Feeds
    label: Array | None


Fetch = Callable[[Sequence[int]], Iterable[Sample]]
"""Indices in ascending order → those samples, in that order; every call starts anew."""


class Dataset:
    """A finite sequence of samples that can be gone through again and again.

    Args:
        name: short, for tables: "digits.npz".
        spec: what the user wrote.
        fetch: yields the samples of given indices.
        length: number of samples.
        has_labels: whether every sample has a label.
        notes: what was changed or left out, one sentence each.
        made_up: what of the samples nobody gave: "images 1x3x32x32"; None: they are the user's.

    Raises:
        DataError: there are no samples.
    """

    def __init__(
        self,
        name: str,
        spec: str,
        fetch: Fetch,
        length: int,
        *,
        has_labels: bool,
        notes: Sequence[str] = (),
        made_up: str | None = None,
    ) -> None:
        if length < 1:
            raise DataError(f"{spec} holds no samples")
        self.name = name
        self.spec = spec
        self.has_labels = has_labels
        self.notes = tuple(notes)
        self.made_up = made_up
        self._fetch = fetch
        self._indices: Sequence[int] = range(length)

    @classmethod
    def from_example(cls, feeds: Feeds, spec: str = "example inputs", made_up: str | None = None) -> Dataset:
        """The one sample that a source brings."""
        kept = {name: np.asarray(array) for name, array in feeds.items()}
        return cls(
            spec, spec, lambda indices: (Sample(kept, None) for _ in indices), 1, has_labels=False, made_up=made_up
        )

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Dataset({self.spec!r}, {len(self)} samples{', labels' if self.has_labels else ''})"

    @property
    def indices(self) -> Sequence[int]:
        """Each sample's place in what the user gave, from 0."""
        return self._indices

    @property
    def note(self) -> str:
        """All notes as one text."""
        return "; ".join(self.notes)

    def samples(self) -> Iterator[Sample]:
        """Each sample in order. Every call starts anew.

        Raises:
            DataError: a sample cannot be read, or does not fit the model; says which.
        """
        return iter(self._fetch(self._indices))

    def feeds(self) -> Iterator[Feeds]:
        """Each sample's feeds in order. Every call starts anew."""
        return (sample.feeds for sample in self.samples())

    def without_labels(self) -> Dataset:
        """The same samples with their labels left out."""
        fetch = self._fetch

        def bare(indices: Sequence[int]) -> Iterator[Sample]:
            return (Sample(sample.feeds, None) for sample in fetch(indices))

        other = copy.copy(self)
        other.has_labels, other._fetch = False, bare
        return other

    def with_constants(self, constants: Feeds) -> Dataset:
        """The same samples, each with these inputs beside its own."""
        fetch = self._fetch

        def whole(indices: Sequence[int]) -> Iterator[Sample]:
            return (Sample({**constants, **sample.feeds}, sample.label) for sample in fetch(indices))

        other = copy.copy(self)
        other._fetch = whole
        return other

    def head(self, count: int) -> Dataset:
        """The first ``count`` samples, or all of them: what follows one another stays together."""
        part = copy.copy(self)
        part._indices = self._indices[:count]
        return part

    def take(self, count: int) -> Dataset:
        """At most ``count`` samples, evenly strided over the whole, so that ordered classes are all met.

        Raises:
            DataError: ``count`` is below 1.
        """
        if count < 1:
            raise DataError(f"at least 1 sample must be taken from {self.spec}, got {count}")
        if count >= len(self):
            return self
        chosen = [self._indices[i * len(self) // count] for i in range(count)]
        part = Dataset(self.name, self.spec, self._fetch, len(self), has_labels=self.has_labels, notes=self.notes)
        part._indices = chosen
        return part

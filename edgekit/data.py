"""Calibration and evaluation data: what ``--data`` names → samples that fit the model.

A `Dataset` can be gone through any number of times and holds at most one sample in memory at a time beside what the
operating system maps in. What a model should never get (a wrong name, shape or dtype, NaN, infinity) is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .contracts import Array, Feeds, TensorSpec
from .errors import DataError

DEFAULT_LIMIT = 10_000


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

    Raises:
        DataError: there are no samples.
    """

    def __init__(
        self, name: str, spec: str, fetch: Fetch, length: int, *, has_labels: bool, notes: Sequence[str] = ()
    ) -> None:
        if length < 1:
            raise DataError(f"{spec} holds no samples")
        self.name = name
        self.spec = spec
        self.has_labels = has_labels
        self.notes = tuple(notes)
        self._fetch = fetch
        self._indices: Sequence[int] = range(length)

    @classmethod
    def from_example(cls, feeds: Feeds, spec: str = "example inputs") -> Dataset:
        """The one sample that a source brings."""
        kept = {name: np.asarray(array) for name, array in feeds.items()}
        return cls(spec, spec, lambda indices: (Sample(kept, None) for _ in indices), 1, has_labels=False)

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Dataset({self.spec!r}, {len(self)} samples{', labels' if self.has_labels else ''})"

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


def load_data(
    spec: str,
    inputs: tuple[TensorSpec, ...],
    *,
    preprocess: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Dataset:
    """Open the data that ``spec`` names and check that it fits ``inputs``.

    Args:
        spec: an ``.npz`` file whose arrays are named as the inputs, plus optional ``labels``, first axis samples; a
            folder of images with one sub-folder a class (``preprocess`` is needed); ``file.py:factory`` returning an
            iterable of feeds or (feeds, label); a folder written by Hugging Face's ``save_to_disk``.
        inputs: the model's inputs. A sample has the batch size they state, or 1 where it is free.
        preprocess: for images: see `edgekit.datasets.images.parse_preprocess`.
        limit: number of samples after which a factory's iterable is cut off.

    Raises:
        DataError: it is missing, unreadable, empty, or does not fit; says what, and what was expected.
        UsageError: ``preprocess`` is malformed, or given for what is no image folder.
        EngineError: a package that this form needs is not installed.
    """
    from .datasets import arrow, factory, images, npz

    path = Path(spec)
    is_images = path.is_dir() and not arrow.is_arrow(path)
    if preprocess is not None and not is_images:
        from .errors import UsageError

        raise UsageError(f"--preprocess is for image folders; '{spec}' is none")
    if is_images:
        return images.load(spec, path, inputs, preprocess)
    if path.is_dir():
        return arrow.load(spec, path, inputs)
    if factory.is_factory(spec):
        return factory.load(spec, inputs, limit)
    if not path.exists():
        raise DataError(
            f"there is no {spec}",
            fix="--data takes an .npz file, an image folder, file.py:factory, or a folder written by save_to_disk",
        )
    if path.suffix == ".npz":
        return npz.load(spec, path, inputs)
    if path.suffix == ".npy" and len(inputs) == 1:
        return npz.load(spec, path, inputs)
    raise DataError(
        f"{spec} is no data edgekit can read",
        fix=f"Save it as .npz: numpy.savez('data.npz', {', '.join(f'{item.name}=…' for item in inputs)}, labels=…)",
    )

"""Which samples something was measured on: a hash over their feeds and labels, in order."""

from __future__ import annotations

import hashlib

import numpy as np

from ..contracts import Array
from .dataset import Sample


class SamplesDigest:
    """Add samples, then ask for the hash. Equal samples with equal labels in the same order have the same one."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, sample: Sample) -> None:
        """Take one sample into account."""
        for name in sorted(sample.feeds):
            self._array(name, sample.feeds[name])
        if sample.label is not None:
            self._array("", np.asarray(sample.label))

    def hexdigest(self) -> str:
        """Of all that were added."""
        return self._hash.hexdigest()

    def _array(self, name: str, array: Array) -> None:
        self._hash.update(f"{len(name)}:{name}:{array.dtype.name}:{array.shape}".encode())
        self._hash.update(np.ascontiguousarray(array).tobytes())

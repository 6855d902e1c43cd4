"""No engine: answers zeros of the right shapes at once. Timing it prices the harness itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Array, Artifact, Feeds, Outputs, Placement, Session, StatePair, TensorSpec
from ._values import extended_dtype, is_plain, is_tensor, prepare


class Null:
    """Opens anything, by what the artifact says of its inputs and outputs; the file is never read."""

    name = "null"
    formats = ("onnx", "openvino-ir", "exported-program")
    install = "pip install numpy"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options, without effect."""

        threads: int = 0

    def version(self) -> str:
        """Numpy's version, the only thing it runs on."""
        return np.__version__

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open."""
        return NullSession(artifact, options.threads)


class NullSession:
    """Zeros, or empty strings, or empty sequences."""

    def __init__(self, artifact: Artifact, threads: int, state: Sequence[str] = ()) -> None:
        self._artifact = artifact
        self._threads = threads
        self._state = state  # inputs that a stream keeps

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The artifact's own account, without the state of a stream."""
        return tuple(spec for spec in self._artifact.inputs if spec.name not in self._state)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The artifact's own account."""
        return self._artifact.outputs

    def run(self, feeds: Feeds) -> Outputs:
        """Zeros. A free dimension has the size that the feeds give it by name, else 1."""
        prepare(feeds, self.inputs)
        sizes = _free_sizes(self.inputs, feeds)
        return {spec.name: _zeros(spec, sizes) for spec in self.outputs}

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """The cheapest call that Python has."""
        prepare(feeds, self.inputs)
        return _nothing

    def open_steps(self, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> NullSession:
        """A stream costs nothing either."""
        return NullSession(self._artifact, self._threads, tuple(pair.input for pair in pairs))

    def set_state(self, state: Feeds) -> None:
        """It keeps none."""

    def state(self) -> Outputs:
        """It keeps none."""
        return {}

    def placement(self) -> Placement:
        """No nodes run."""
        return Placement(unknown="the null runtime runs no nodes")

    def in_force(self) -> dict[str, Any]:
        """The options as given."""
        return {"threads": self._threads, "precision": self._artifact.precision}

    def close(self) -> None:
        """Nothing to free."""


def _nothing() -> None:
    return None


def _free_sizes(inputs: tuple[TensorSpec, ...], feeds: Feeds) -> dict[str, int]:
    return {
        want: got
        for spec in inputs
        for want, got in zip(spec.shape, np.shape(feeds[spec.name]), strict=False)
        if isinstance(want, str)
    }


def _zeros(spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
    shape = tuple(size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape)
    if spec.dtype == "string" or not is_tensor(spec.dtype):
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, np.dtype(spec.dtype) if is_plain(spec.dtype) else extended_dtype(spec.dtype))


PLUGIN = Null

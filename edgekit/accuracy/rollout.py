"""A stream in the reference: frames in order, each with the state that the reference itself has come to.

A model with memory is checked twice. Step by step, each sample with the reference's state, as any other model. And
rolled out: both sides get the same frames and each keeps its own state, as it will in an app; what is then apart is
what the engine's own errors have become (`drift`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contracts import Array, Feeds, Outputs, Progress, StatePair, TensorSpec
from ..data.chunks import nbytes
from ..data.dataset import Dataset, Sample
from ..errors import DataError, EdgekitError
from ..measure.stream import first_state, has_state, without_state
from . import made_up_frames
from .expected import MEMORY_BUDGET_BYTES, ReferenceRun
from .reference import Reference

if TYPE_CHECKING:
    from ..sources.source import Source

DEFAULT_STEPS = 64
"""Steps of a rollout where none are stated: the memory of small recurrent cells is some tens of steps long."""

ONE = "the example input, over and over"
"""The frames of a rollout without data where nothing of the example can be varied."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The reference's stream."""

    expected: ReferenceRun  # a sample a step: the frame, the reference's own state, and its outputs
    pairs: tuple[StatePair, ...]
    initial: Feeds  # the state before the first step, by the inputs' names
    frames: str  # where they come from, in words
    varied: bool  # whether there is more than one

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.expected)

    def frame(self, feeds: Feeds) -> Outputs:
        """The feeds that are no state."""
        return without_state(feeds, self.pairs)


class Rolled:
    """Frames with the state that a reference comes to, as samples; computed once, in order.

    Args:
        frames: samples without the model's state, or without some of it, in order.
        reference: computes the states; `reference` is the same one, and spares the second run of a sample.
        inputs: all of the model's.
        pairs: its state.
        given: the state before the first frame, where it is not zero.
        workdir: an existing folder for states that do not fit into memory.
    """

    def __init__(
        self,
        frames: Dataset,
        reference: Reference,
        inputs: Sequence[TensorSpec],
        pairs: Sequence[StatePair],
        given: Feeds,
        workdir: Path,
    ) -> None:
        self._frames, self._inputs, self._pairs, self._given = frames, tuple(inputs), tuple(pairs), given
        self._workdir = workdir
        self._run = reference.run
        self._last: tuple[object, Outputs] | None = None  # what was run last, and its outputs
        self._states: list[Outputs | Path] = []  # before each frame, as far as it was run
        self._held_bytes = 0
        self.reference = dataclasses.replace(reference, run=self._remember)

    def dataset(self) -> Dataset:
        """The samples."""
        frames = self._frames
        return Dataset(
            frames.name, frames.spec, self._fetch, len(frames), has_labels=frames.has_labels, notes=frames.notes
        )

    def _remember(self, feeds: Feeds) -> Outputs:
        outputs = self._step(len(self._states) - 1, feeds)
        self._last = (feeds, outputs)
        return outputs

    def _step(self, index: int, feeds: Feeds) -> Outputs:
        try:
            return self._run(feeds)
        except EdgekitError as error:
            if index == 0:
                raise
            raise DataError(
                f"step {index + 1} of the stream, with the state of the one before, fails: {error.what}",
                details=error.details,
                fix="Name the model's state: --state OUT=IN (or, where it has none: --state none)",
            ) from error

    def _fetch(self, indices: Sequence[int]) -> Iterator[Sample]:
        wanted, last = set(indices), max(indices)
        for index, sample in enumerate(itertools.islice(self._frames.samples(), last + 1)):
            feeds = {**self._state(index, sample.feeds), **sample.feeds}
            if index in wanted:
                yield Sample(feeds, sample.label)
            if index < last and index + 1 >= len(self._states):
                known = self._last is not None and self._last[0] is feeds
                outputs = self._last[1] if known and self._last is not None else self._step(index, feeds)
                self._keep({pair.input: self._next(pair, outputs) for pair in self._pairs})

    def _next(self, pair: StatePair, outputs: Outputs) -> Array:
        array = np.asarray(outputs[pair.output])
        reason = next(spec for spec in self._inputs if spec.name == pair.input).refuses(array)
        if reason:
            raise DataError(
                f"the state '{pair.output}' cannot be fed again: {reason}",
                fix="Name the model's state: --state OUT=IN (or, where it has none: --state none)",
            )
        return array

    def _state(self, index: int, frame: Feeds) -> Outputs:
        if not self._states:
            self._keep(first_state(self._pairs, self._inputs, self._given, frame))
        kept = self._states[index]
        if not isinstance(kept, Path):
            return kept
        with np.load(kept, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _keep(self, state: Outputs) -> None:
        self._held_bytes += nbytes(state)
        if self._held_bytes <= MEMORY_BUDGET_BYTES:
            self._states.append(state)
            return
        path = self._workdir / f"state-{len(self._states)}.npz"
        np.savez(path, **state)  # type: ignore[arg-type]  # numpy's stub takes **kwds for its options only
        self._states.append(path)


def with_state(dataset: Dataset, source: Source, reference: Reference, folder: Path) -> tuple[Dataset, Reference]:
    """Samples that bring a model's whole state along, and what to run over them.

    Where the data hold frames alone, in the order of one stream, the state is the one that the reference comes to.

    Args:
        dataset: as the data have it.
        source: the model.
        reference: what runs it.
        folder: an existing one, for states that do not fit into memory.
    """
    if not source.state or has_state(next(dataset.samples()).feeds, source.state):
        return dataset, reference
    rolled = Rolled(dataset, reference, source.inputs, source.state, source.initial, folder)
    return rolled.dataset(), rolled.reference


def whole_example(source: Source, frame: Feeds) -> Outputs:
    """A sample of the data as example inputs: with the model's first state where it brings none."""
    return {**first_state(source.state, source.inputs, source.initial, frame), **frame}


def roll_out(
    data: Dataset | None,
    source: Source,
    reference: Reference,
    steps: int,
    folder: Callable[[str], Path],
    progress: Progress,
) -> Rollout:
    """The reference's own stream over the data's samples in order, or over made-up frames like the example.

    Args:
        data: the samples as they were given, with the model's state or without; None: there are none.
        source: the model; has state.
        reference: what runs it.
        steps: how many; the samples come again where there are fewer.
        folder: name → a fresh folder for what does not fit into memory.
        progress: where to say how far it is.

    Raises:
        DataError: the reference's state cannot be fed again, or becomes NaN.
    """
    if data is not None:
        return _roll(data, True, source, reference, steps, folder, progress)
    samples = _made_up(source, steps)
    try:
        return _roll(samples, False, source, reference, steps, folder, progress)
    except DataError:
        if len(samples) == 1:
            raise
    # The reference itself has no answer to frames that nobody gave (NaN): no fault of the model's.
    return _roll(Dataset.from_example(source.example, ONE), False, source, reference, steps, folder, progress)


def _roll(
    samples: Dataset,
    given: bool,
    source: Source,
    reference: Reference,
    steps: int,
    folder: Callable[[str], Path],
    progress: Progress,
) -> Rollout:
    """See `roll_out`; ``given``: the samples are the user's."""
    first = next(samples.samples()).feeds
    stated = given and has_state(first, source.state)
    initial = dict(source.initial)
    if stated:
        initial |= {pair.input: first[pair.input] for pair in source.state}
    frames = _frames(samples, source.state, steps)
    rolled = Rolled(frames, reference, source.inputs, source.state, initial, folder("states"))
    expected = ReferenceRun(rolled.dataset(), rolled.reference, folder("rollout"), progress)
    begun = expected.first(1)[0].feeds
    told = _told(samples, expected, source.state, steps, stated) if given else samples.name
    return Rollout(
        expected, source.state, {pair.input: begun[pair.input] for pair in source.state}, told, len(samples) > 1
    )


def _made_up(source: Source, steps: int) -> Dataset:
    """The example, and frames like it where something of it is a signal."""
    varying = made_up_frames.signals(source.example, {pair.input for pair in source.state})
    if not varying:
        return Dataset.from_example(source.example, ONE)

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        return (Sample(made_up_frames.frame(source.example, varying, index), None) for index in indices)

    told = f"made-up frames (noise in {', '.join(varying)}, of the example's range)"
    return Dataset(told, "made-up frames", fetch, steps, has_labels=False)


def _frames(samples: Dataset, pairs: Sequence[StatePair], steps: int) -> Dataset:
    """``steps`` samples without state, in order, over and over."""
    first = samples.head(steps)

    def fetch(indices: Sequence[int]) -> Iterator[Sample]:
        wanted, last = set(indices), max(indices)
        again = itertools.chain.from_iterable(first.samples() for _ in itertools.count())
        for index, sample in enumerate(itertools.islice(again, last + 1)):
            if index in wanted:
                yield Sample(without_state(sample.feeds, pairs), sample.label)

    return Dataset(samples.name, samples.spec, fetch, steps, has_labels=False)


def _told(samples: Dataset, expected: ReferenceRun, pairs: Sequence[StatePair], steps: int, stated: bool) -> str:
    count = min(len(samples), steps)
    if not stated:
        which = f"the {'first ' if len(samples) > steps else ''}{count} samples of {samples.name}"
        return f"{which} in order{', over and over' if len(samples) < steps else ''}"
    rolled = [sample.feeds for sample in expected.first(count)]
    given = [sample.feeds for sample in samples.head(count).samples()]
    if all(_same(ours, theirs, pairs) for ours, theirs in zip(rolled, given, strict=True)):
        more = ", over and over" if len(samples) < steps else ""
        return f"{count} samples of {samples.name}, which are one stream by their states{more}"
    return f"{count} samples of {samples.name} in order, which are not one stream by their states"


def _same(ours: Mapping[str, Array], theirs: Mapping[str, Array], pairs: Sequence[StatePair]) -> bool:
    """Whether the data's state is the reference's own, as nearly as floating point has it."""
    return all(
        np.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-3 * float(np.max(np.abs(theirs[name]), initial=1e-6)))
        for name in (pair.input for pair in pairs)
        if ours[name].shape == theirs[name].shape
    )

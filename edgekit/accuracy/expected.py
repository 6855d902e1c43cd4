"""The samples a candidate is checked on, with the reference's outputs for each: run once, used by every candidate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..contracts import Array, Feeds, Outputs, Progress
from ..data.chunks import nbytes
from ..data.digest import SamplesDigest
from ..errors import DataError
from .metric import make_metric, refuse_undefined

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from .reference import Reference

MEMORY_BUDGET_BYTES = 256 * 2**20
"""Reference outputs up to this size stay in memory; the rest goes to the work folder."""


class Checked(NamedTuple):
    """One sample with what PyTorch (or another reference) answers to it."""

    feeds: Feeds
    label: Array | None
    expected: Outputs


class ReferenceRun:
    """The reference's outputs over a dataset. Iterating it again streams the samples anew, with the kept outputs.

    Args:
        dataset: the samples.
        reference: what is run over each of them, once.
        workdir: an existing folder for outputs that do not fit into memory.
        progress: where to say how far it is.
        metric: see `make_metric`; None: none.

    Attributes:
        name: the reference's, with its version.
        report: who else was asked for it; None: nobody told.
        empty: outputs without a single value in any sample: nothing of them is compared.
        metric: the metric of the reference's own outputs, in the metric's unit; None: none was named.
        data_sha256: which samples these are (`SamplesDigest`); None: no metric was named.

    Raises:
        DataError: the reference itself answers NaN (names the sample and the output), or nothing at all, or the metric
            is not defined for what it answers.
        UsageError: no metric of that name.
    """

    def __init__(
        self, dataset: Dataset, reference: Reference, workdir: Path, progress: Progress, metric: str | None = None
    ) -> None:
        self.dataset = dataset
        self.name, self.report = reference.name, reference.report
        meter = make_metric(metric) if metric is not None else None
        digest = SamplesDigest()
        self._kept: list[Outputs | Path] = []
        held_bytes = 0
        values: dict[str, int] = {}
        for index, sample in enumerate(dataset.samples()):
            outputs = reference.run(sample.feeds)
            _refuse_nan(outputs, index, self.name)
            for name, array in outputs.items():
                values[name] = values.get(name, 0) + array.size
            if meter is not None:
                meter.add(outputs, sample.label, outputs)
                digest.add(sample)
            held_bytes += nbytes(outputs)
            if held_bytes <= MEMORY_BUDGET_BYTES:
                self._kept.append(outputs)
            else:
                path = workdir / f"reference-{index}.npz"
                np.savez(path, **outputs)  # type: ignore[arg-type]  # numpy's stub takes **kwds for its options only
                self._kept.append(path)
            progress.step(index + 1, len(dataset), self.name)
        self.empty = tuple(name for name, count in values.items() if not count)
        if len(self.empty) == len(values):
            raise DataError(
                f"nothing can be compared: {_named(self.empty)} empty for every sample, by {self.name}",
                fix="Give samples in which the model finds something.",
            )
        if meter is not None and metric is not None:
            refuse_undefined(meter, metric, self.name)
        self.metric = None if meter is None else meter.value()
        self.data_sha256 = None if meter is None else digest.hexdigest()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Checked]:
        """Stream the samples with their labels and expected outputs."""
        for sample, kept in zip(self.dataset.samples(), self._kept, strict=True):
            yield Checked(sample.feeds, sample.label, _load(kept))

    def first(self, count: int) -> list[Checked]:
        """The first ``count`` samples."""
        return list(itertools.islice(self, count))


def _load(kept: Outputs | Path) -> Outputs:
    if not isinstance(kept, Path):
        return kept
    with np.load(kept, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _named(outputs: tuple[str, ...]) -> str:
    names = ", ".join(f"'{name}'" for name in outputs)
    return f"output {names} is" if len(outputs) == 1 else f"outputs {names} are"


def empty_note(outputs: tuple[str, ...]) -> str:
    """What a result says of outputs of which nothing was compared."""
    return f"{_named(outputs)} empty for every sample: nothing of that is checked"


def _refuse_nan(outputs: Outputs, index: int, reference: str) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(
                f"{reference} returned NaN in output '{name}' for sample {index}",
                fix="Check the weights and that sample: outputs cannot be compared with NaN.",
            )

"""Accuracy metrics, streamed sample by sample: of each, few numbers are kept, from whose sums the metric is computed.

Each compares an engine's outputs with a label, or with the reference's outputs for the same inputs. The output looked
at is the model's first unless the metric names another: ``top1:logits``.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..contracts import Array, Outputs, describe
from ..errors import DataError, UsageError, suggestion

MetricFunction: TypeAlias = Callable[[Outputs, Any], float]
"""A user's own metric: outputs and label of one sample to a number; the mean over the samples is the metric."""


class Metric(ABC):
    """Add samples, then ask for the value.

    Each sample leaves a few numbers, and the metric is a function of their sums: so it streams, and a draw of samples
    is a weighted sum (`bootstrap`). A metric that is no such function overrides `value` and `resampled`.

    Args:
        output: name of the output to look at; '' for the first.
    """

    name: str = ""
    needs_labels: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    prefers_labels: ClassVar[bool] = False  # compares with labels where there are any, else with the reference
    is_share: ClassVar[bool] = False  # of rows that are right: 0 to 1
    higher_is_better: bool = True
    of_reference: ClassVar[float | None] = None  # the reference's own value, where it is compared with itself
    replicates: ClassVar[int] = 2000  # of a bootstrap; fewer where each takes long

    def __init__(self, output: str = "") -> None:
        self._output = output
        self._sums = array("d")
        self._widths = array("l")

    @property
    def samples(self) -> int:
        """How many were added."""
        return len(self._widths)

    @property
    def uses_labels(self) -> bool:
        """Whether labels, where there are any, are what it compares with."""
        return self.needs_labels or self.prefers_labels

    def against(self, reference: str, has_labels: bool) -> str | None:
        """What it compares with: ``labels``, or the reference without its version; None: only its author knows.

        Args:
            reference: with its version: "PyTorch 2.13.0 fp32".
            has_labels: whether the data have them.
        """
        if self.needs_labels or (self.prefers_labels and has_labels):
            return "labels"
        return re.split(r" (?=\d)", reference)[0] if self.needs_reference or self.prefers_labels else None

    def add(self, outputs: Outputs, label: Any = None, reference: Outputs | None = None) -> None:
        """Take one sample into account.

        Args:
            outputs: the engine's.
            label: the sample's; an array [rows], or a scalar for one row.
            reference: the reference's outputs for the same inputs.

        Raises:
            DataError: a label or the reference is missing where it is needed, the shapes do not fit, or there is NaN.
            UsageError: there is no output of the name the metric states.
        """
        values = self._pick(outputs)
        self._require(label, reference)
        self._keep(self._add(values, label, np.empty(0) if reference is None else self._pick(reference)))

    def _require(self, label: Any, reference: Outputs | None) -> None:
        """Raise DataError where what it compares with is not there."""
        if self.needs_labels and label is None:
            raise DataError(f"metric '{self.name}' needs labels, and sample {self.samples} has none")
        if reference is None and (self.needs_reference or (self.prefers_labels and label is None)):
            raise DataError(f"metric '{self.name}' compares with the reference's outputs, and there are none")

    def _keep(self, numbers: Sequence[float]) -> None:
        self._sums.extend(numbers)
        self._widths.append(len(numbers))

    def value(self) -> float:
        """The metric over all samples added.

        Raises:
            DataError: there were none, or the metric is not defined for what was added.
        """
        if not self.samples:
            raise DataError(f"metric '{self.name}' was given no samples")
        return float(self.of_sums(self.contributions().sum(axis=0)))

    def details(self) -> dict[str, float]:
        """Further numbers that the value alone does not tell, by name; shares, or counts."""
        return {}

    def contributions(self) -> NDArray[np.float64]:
        """The numbers of each sample, in the order added: [samples, width]. The metric is `of_sums` of their sums.

        What the first samples could not know of yet (a class that came later) is 0 for them.
        """
        widths = np.asarray(self._widths, np.int64)
        flat = np.array(self._sums, np.float64)
        if len(set(self._widths)) <= 1:
            return flat.reshape(len(widths), -1) if len(flat) else np.zeros((len(widths), 0))
        padded = np.zeros((len(widths), widths.max()))
        padded[np.arange(widths.max()) < widths[:, None]] = flat
        return padded

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric from sums over samples, [..., width] → [...]: the ratio of two, unless a metric says otherwise."""
        return np.asarray(sums[..., 0] / sums[..., 1])

    def resampled(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric of draws with replacement: how often each sample was drawn, [draws, samples] → [draws]."""
        return self.of_sums(counts @ self.contributions())

    @abstractmethod
    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        """The numbers of one sample: of metrics that are a ratio, two."""

    def _pick(self, outputs: Outputs) -> Array:
        return self._named(outputs, self._output or next(iter(outputs)))

    def _named(self, outputs: Outputs, name: str) -> Array:
        """An output's numbers, which are not NaN."""
        if name not in outputs:
            raise UsageError(
                f"metric '{self.name}:{name}': the model has no such output", fix=suggestion(name, outputs)
            )
        values = np.asarray(outputs[name])
        if values.dtype.kind in "OUST":
            raise DataError(f"metric '{self.name}' needs numbers, and output '{name}' is {describe(values)}")
        if values.dtype.kind in "fV" and np.isnan(as_float64(values)).any():
            raise DataError(f"output '{name}' holds NaN at sample {self.samples}")
        return values


class TopK(Metric):
    """The share of rows whose label is among the k highest scores; equal scores rank by their index.

    Scores [..., classes], labels [...] (class numbers). Of a model that answers with class numbers itself (an argmax
    inside, `are_class_numbers`), the first and only one counts.
    """

    needs_labels = True
    is_share = True
    k: ClassVar[int]

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        labels = np.asarray(label).reshape(-1)
        if labels.dtype.kind not in "iu":
            raise DataError(f"metric '{self.name}' needs class numbers as labels, got {describe(np.asarray(label))}")
        if are_class_numbers(values):
            return self._numbers(values, labels)
        scores = rows_of_scores(values, self.name)
        if len(labels) != len(scores):
            raise DataError(
                f"metric '{self.name}': sample {self.samples} has {len(labels)} labels for {len(scores)} rows of scores"
            )
        if labels.min() < 0 or labels.max() >= scores.shape[1]:
            raise DataError(
                f"metric '{self.name}': the label of sample {self.samples} must be one of 0 to {scores.shape[1] - 1}, "
                f"got {labels.max() if labels.max() >= scores.shape[1] else labels.min()}"
            )
        own = scores[np.arange(len(labels)), labels][:, None]
        before = np.arange(scores.shape[1])[None, :] < labels[:, None]
        rank = (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
        return int((rank < self.k).sum()), len(labels)

    def _numbers(self, values: Array, labels: Array) -> Sequence[float]:
        if self.k > 1:
            raise DataError(
                f"metric '{self.name}' needs scores, and the output is class numbers, {describe(values)}",
                fix="Use top1, or let the model return its scores.",
            )
        if len(labels) != values.size:
            raise DataError(
                f"metric '{self.name}': sample {self.samples} has {len(labels)} labels for {values.size} class numbers"
            )
        return int((values.reshape(-1) == labels).sum()), len(labels)


class Top1(TopK):
    """Top-1 accuracy."""

    name = "top1"
    k = 1


class Top5(TopK):
    """Top-5 accuracy."""

    name = "top5"
    k = 5


class Agreement(Metric):
    """The share of rows whose highest score is at the same index as the reference's. Scores [..., classes].

    Of class numbers (`are_class_numbers`), the share that are equal.
    """

    name = "agreement"
    needs_reference = True
    of_reference = 1.0
    is_share = True

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        refuse_other_shape(values, reference, self.name)
        if are_class_numbers(values):
            return int((values == reference).sum()), values.size
        got = rows_of_scores(values, self.name).argmax(axis=1)
        want = rows_of_scores(reference, self.name).argmax(axis=1)
        return int((got == want).sum()), len(want)


class Cosine(Metric):
    """The mean of y·y_ref / (‖y‖ ‖y_ref‖) over rows: outputs [rows, ...], or [n] as one row. Two zero rows have 1."""

    name = "cosine"
    needs_reference = True
    of_reference = 1.0

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        refuse_other_shape(values, reference, self.name)
        rows = len(values) if values.ndim > 1 else 1
        got, want = as_float64(values).reshape(rows, -1), as_float64(reference).reshape(rows, -1)
        norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
        cosines = np.where(got.any(axis=1) | want.any(axis=1), 0.0, 1.0)
        np.divide((got * want).sum(axis=1), norms, out=cosines, where=norms > 0)
        return float(cosines.sum()), rows


class Sqnr(Metric):
    """10·log10(Σ y_ref² / Σ (y − y_ref)²) over all elements of all samples, in dB; infinite where all are equal."""

    name = "sqnr_db"
    needs_reference = True
    of_reference = math.inf

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        refuse_other_shape(values, reference, self.name)
        want = as_float64(reference)
        return float(np.square(want).sum()), float(np.square(as_float64(values) - want).sum())

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Decibels, from signal and noise; without noise infinite, even where there is no signal."""
        signal, noise = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(noise == 0.0, math.inf, 10 * np.log10(signal / noise))


class Mean(Metric):
    """The mean of a user's function over the samples.

    Args:
        function: outputs and label of one sample → a number.
        name: for messages: ``file.py:function``.
        higher_is_better: which way is good.
    """

    def __init__(self, function: MetricFunction, name: str, higher_is_better: bool = True) -> None:
        super().__init__()
        self._function = function
        self.name = name
        self.higher_is_better = higher_is_better

    @property
    def uses_labels(self) -> bool:
        """The function gets them; whether it looks at them nobody knows."""
        return True

    def add(self, outputs: Outputs, label: Any = None, reference: Outputs | None = None) -> None:
        """Call the user's function with all the outputs.

        Raises:
            DataError: it returns something that is not a finite number.
        """
        result = self._function(outputs, label)
        try:
            number = float(np.asarray(result, np.float64).item())  # an array of one number will do
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"metric {self.name} must return a finite number, got {result!r} at sample {self.samples}")
        self._keep((number, 1.0))

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        raise NotImplementedError  # `add` is overridden: the function sees all outputs


def are_class_numbers(values: Array) -> bool:
    """Whether an output's integers count classes; scores in integers are those of quantized models, 8 or 16 bits."""
    return values.dtype.kind == "b" or (values.dtype.kind in "iu" and values.dtype.itemsize >= 4)


def rows_of_scores(values: Array, metric: str) -> Array:
    """Scores [..., classes] → [rows, classes]."""
    if values.ndim == 0 or values.shape[-1] < 2:
        raise DataError(
            f"metric '{metric}' needs scores of at least 2 classes on the last axis, got {describe(values)}"
        )
    if values.ndim == 4 and values.shape[1] != 1 and values.shape[2] != 1:  # [batch, classes, h, w], or h, w, classes
        raise DataError(
            f"metric '{metric}' takes the last axis for the classes, and {describe(values)} looks like a picture's",
            fix="Use miou, which knows the classes' axis of maps: miou, or miou,axis=3.",
        )
    return values.reshape(-1, values.shape[-1])


def refuse_other_shape(values: Array, reference: Array, metric: str) -> None:
    """Raise DataError where an engine's output does not have the shape of the reference's."""
    if values.shape != reference.shape:
        raise DataError(
            f"metric '{metric}': the reference's output is {describe(reference)}, the engine's {describe(values)}"
        )


def as_float64(array: Array) -> NDArray[np.float64]:
    """As float64, of bfloat16 too."""
    return np.asarray(array).astype(np.float64)

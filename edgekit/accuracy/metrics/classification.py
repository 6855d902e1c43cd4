"""Classification beyond the share that is right: F1, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, describe
from ...errors import DataError, UsageError
from ...measure.metrics import Metric, as_float64, refuse_other_shape, rows_of_scores
from .options import Options


class F1(Metric):
    """2 TP / (2 TP + FP + FN), as scikit-learn's `f1_score` has it; the macro mean is over classes that occur.

    Scores [..., classes] with labels [...] (class numbers): the highest score decides. With ``threshold=X`` each score
    is a decision of its own: scores [rows] with labels 0 or 1, or [rows, columns] with labels of that shape. Without
    labels the reference's own decisions take their place.

    Options: ``average=binary|macro|micro`` (binary: of class 1, where there are two classes and no other is stated),
    ``threshold=X``, ``ignore=LABEL`` (such rows do not count: -100 of padded tokens).
    """

    name = "f1"
    prefers_labels = True
    of_reference = None

    def __init__(self, output: str, options: Options) -> None:
        super().__init__(output)
        self._average = options.choice("average", ("auto", "binary", "macro", "micro"), "auto")
        self._threshold = options.number("threshold", None, -np.inf, np.inf)
        self._ignore = options.whole("ignore", None, -(2**31))
        self._classes: int | None = None  # columns of scores; None: the output is class numbers

    def value(self) -> float:
        """The F1.

        Raises:
            DataError: there were no samples, or no class occurs in any of them.
        """
        found = super().value()
        if not np.isfinite(found):
            raise DataError("metric 'f1' is not defined where no class that counts occurs", fix="Give more samples.")
        return found

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """From true positives, false positives and false negatives of each class: [..., 3 · classes]."""
        counts = sums.reshape(*sums.shape[:-1], -1, 3)
        if self._average == "micro":
            return _f1(counts.sum(axis=-2))
        if self._average == "binary" or (self._average == "auto" and self._classes == 2):
            return _f1(counts[..., -1, :])
        return nan_mean(_f1(counts))

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        if label is None:
            refuse_other_shape(values, reference, self.name)
        truth = None if label is None else np.asarray(label)
        if truth is not None and truth.dtype.kind not in "biu":
            raise DataError(f"metric 'f1' needs class numbers as labels, got {describe(truth)}")
        if self._threshold is not None:
            return self._each(values, truth, reference, self._threshold)
        got = self._class_numbers(values)
        if truth is not None and self._classes and truth.shape == values.shape:
            raise _nothing_says(f"labels {describe(truth)} state each class apart")
        want = self._class_numbers(reference) if truth is None else truth.astype(np.int64).reshape(-1)
        if len(want) != len(got):
            raise DataError(
                f"metric 'f1': sample {self.samples} has {len(want)} labels for {len(got)} rows of {describe(values)}"
            )
        if self._ignore is not None:
            got, want = got[want != self._ignore], want[want != self._ignore]
        if want.min(initial=0) < 0:
            raise DataError(
                f"metric 'f1': a label of sample {self.samples} is {want.min()}, which is not a class number",
                fix=f"Where it marks rows that do not count, write ignore={want.min()} behind the metric's name.",
            )
        if self._classes and want.max(initial=0) >= self._classes:
            raise DataError(
                f"metric 'f1': the label of sample {self.samples} must be one of 0 to {self._classes - 1}, "
                f"got {want.max()}"
            )
        classes = self._classes or max(got.max(initial=1), want.max(initial=1)) + 1
        if self._average == "binary" and classes != 2:
            raise UsageError(f"metric 'f1' with average=binary needs 2 classes, and there are {classes}")
        return _numbers(class_counts(got, want, classes))

    def _class_numbers(self, values: Array) -> NDArray[np.int64]:
        """The class of each row: [rows]."""
        if values.dtype.kind in "biu":
            return values.astype(np.int64).reshape(-1)
        if values.ndim < 2 or values.shape[-1] == 1:
            raise _nothing_says(f"output {describe(values)} is one score per row")
        self._classes = values.shape[-1]
        return np.asarray(rows_of_scores(values, self.name).argmax(axis=-1))

    def _each(self, values: Array, truth: Array | None, reference: Array, threshold: float) -> Sequence[float]:
        """Each score against the threshold; the last axis is columns, each with counts of its own."""
        columns = values.shape[-1] if values.ndim > 1 else 1
        got = as_float64(values).reshape(-1, columns) >= threshold
        if truth is None:
            want = as_float64(reference).reshape(-1, columns) >= threshold
        elif truth.size != got.size or truth.min(initial=0) < 0 or truth.max(initial=0) > 1:
            raise DataError(
                f"metric 'f1' with a threshold needs a label 0 or 1 for each score of {describe(values)}, "
                f"got {describe(truth)} from {truth.min(initial=0)} to {truth.max(initial=0)} at sample {self.samples}"
            )
        else:
            want = truth.astype(bool).reshape(got.shape)
        return _numbers(np.stack([(got & want).sum(0), (got & ~want).sum(0), (~got & want).sum(0)], axis=1))


def _nothing_says(what: str) -> UsageError:
    return UsageError(
        f"metric 'f1': {what}, and nothing says which scores are positive",
        fix="State the lowest that is: f1,threshold=0.5 of probabilities, f1,threshold=0 of logits.",
    )


class Auc(Metric):
    """The area under the ROC curve, as scikit-learn's `roc_auc_score` has it; no function of sums, so scores are kept.

    It is the share of pairs of a positive and a negative row in which the positive one scores higher, ties by half
    (Mann and Whitney 1947). Scores [rows], [rows, 1], or [rows, 2] (the second less the first, which ranks logits and
    probabilities alike) with labels 0 or 1; [rows, classes] with class numbers: the mean over classes of each against
    the rest, on the scores as they stand; [rows, columns] with labels of that shape: the mean over the columns.
    """

    name = "auc"
    needs_labels = True
    replicates = 1000

    def __init__(self, output: str = "") -> None:
        super().__init__(output)
        self._scores: list[NDArray[np.float64]] = []  # [rows, columns] each
        self._truth: list[NDArray[np.bool_]] = []

    def value(self) -> float:
        """The area, 0.5 by chance.

        Raises:
            DataError: there were no samples, or all rows are positive, or all negative.
        """
        if not self.samples:
            raise DataError(f"metric '{self.name}' was given no samples")
        truth = np.concatenate(self._truth)
        lacking = np.flatnonzero(truth.all(axis=0) | ~truth.any(axis=0))
        if len(lacking):
            which = f"of class {lacking[0]} " if truth.shape[1] > 1 else ""
            raise DataError(
                f"metric 'auc' needs positive and negative rows: {which}{int(truth[:, lacking[0]].sum())} of "
                f"{len(truth)} labels are positive",
                fix="Give more samples.",
            )
        return float(self.resampled(np.ones((1, self.samples)))[0])

    def resampled(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pairs of rows weighted by how often both were drawn."""
        rows = [len(item) for item in self._scores]
        weights = np.repeat(counts, rows, axis=1)  # [draws, rows]
        scores, truth = np.concatenate(self._scores), np.concatenate(self._truth)
        areas = [_area(scores[:, column], truth[:, column], weights) for column in range(scores.shape[1])]
        return np.asarray(np.mean(areas, axis=0))

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        truth = np.asarray(label)
        if truth.dtype.kind not in "biu":
            raise DataError(f"metric 'auc' needs class numbers as labels, got {describe(truth)}")
        scores = as_float64(values)
        scores = scores.reshape(-1, scores.shape[-1] if scores.ndim > 1 else 1)
        each = scores.shape[1] > 1 and truth.size == scores.size
        if not each and truth.size != len(scores):
            raise DataError(
                f"metric 'auc': sample {self.samples} has {truth.size} labels for {len(scores)} rows of scores"
            )
        top = 2 if each or scores.shape[1] == 1 else scores.shape[1]
        if truth.min() < 0 or truth.max() >= top:
            wrong = truth.min() if truth.min() < 0 else truth.max()
            raise DataError(
                f"metric 'auc': the label of sample {self.samples} must be one of 0 to {top - 1}, got {wrong}"
            )
        if each:
            positive = truth.reshape(scores.shape).astype(bool)
        elif scores.shape[1] <= 2:
            positive = truth.reshape(-1, 1).astype(bool)
            scores = scores if scores.shape[1] == 1 else scores[:, 1:] - scores[:, :1]
        else:
            positive = truth.reshape(-1, 1) == np.arange(scores.shape[1])
        if self._scores and self._scores[0].shape[1] != scores.shape[1]:
            raise DataError(
                f"metric 'auc': sample {self.samples} has {scores.shape[1]} columns of scores, those before "
                f"{self._scores[0].shape[1]}"
            )
        self._scores.append(scores)
        self._truth.append(positive)
        return ()


def _area(scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [rows], positives [rows], weights [draws, rows] → [draws]: Σ_pos w (Σ_neg below w + ½ Σ_neg equal w)."""
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    positive = np.add.reduceat((weights * truth)[:, order], starts, axis=1)  # [draws, groups of equal scores]
    negative = np.add.reduceat((weights * ~truth)[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            (positive * (below + negative / 2)).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        )


def class_counts(got: NDArray[np.int64], want: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Class numbers [n] beside class numbers [n] → true positives, false positives, false negatives: [classes, 3]."""
    right = np.bincount(want[got == want], minlength=classes)
    found, there = np.bincount(got, minlength=classes), np.bincount(want, minlength=classes)
    return np.stack([right, found - right, there - right], axis=1).astype(np.float64)


def nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the last axis of what is not NaN; NaN where nothing is left."""
    there = ~np.isnan(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=-1) / there.sum(axis=-1))


def _numbers(counts: NDArray[Any]) -> list[float]:
    found: list[float] = counts.astype(np.float64).reshape(-1).tolist()
    return found


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., 3] → [...]; NaN where a class neither is nor was said to be there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * counts[..., 0] / (2 * counts[..., 0] + counts[..., 1] + counts[..., 2]))

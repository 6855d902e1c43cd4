"""Segmentation: the mean intersection over union of class maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, describe
from ...errors import DataError, UsageError
from ...measure.metrics import Metric, as_float64, refuse_other_shape
from .classification import class_counts, nan_mean
from .options import Options


class MeanIoU(Metric):
    """TP / (TP + FP + FN) over all pixels of all samples, the mean over classes that occur.

    The output is a class map of integers, [..., h, w], or scores with one axis of classes more than the labels, of
    which the highest decides: [batch, classes, h, w] beside [batch, h, w]. One score a pixel needs ``threshold=X``.
    Without labels the reference's own map takes their place.

    Options: ``ignore=LABEL`` (such pixels do not count: 255 in Pascal VOC and Cityscapes), ``threshold=X``, ``axis=N``
    (that of the classes, where the shapes do not tell).
    """

    name = "miou"
    prefers_labels = True
    of_reference = None

    def __init__(self, output: str, options: Options) -> None:
        super().__init__(output)
        self._ignore = options.whole("ignore", None, -(2**31))
        self._threshold = options.number("threshold", None, -np.inf, np.inf)
        self._axis = options.whole("axis", None, -8)

    def value(self) -> float:
        """The mean IoU.

        Raises:
            DataError: there were no samples, or no pixel counts.
        """
        found = super().value()
        if not np.isfinite(found):
            raise DataError("metric 'miou' is not defined where no pixel counts", fix="Give more samples.")
        return found

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """From true positives, false positives and false negatives of each class: [..., 3 · classes]."""
        counts = sums.reshape(*sums.shape[:-1], -1, 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            return nan_mean(counts[..., 0] / counts.sum(axis=-1))

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        if label is None:
            refuse_other_shape(values, reference, self.name)
            got, want = self._map(values, None), self._map(reference, None)
        else:
            truth = np.asarray(label)
            if truth.dtype.kind not in "biu":
                raise DataError(f"metric 'miou' needs maps of class numbers as labels, got {describe(truth)}")
            got, want = self._map(values, truth), truth.astype(np.int64)
            if np.squeeze(got).shape != np.squeeze(want).shape:
                raise DataError(
                    f"metric 'miou': the label of sample {self.samples} is {describe(truth)}, the output "
                    f"{describe(values)}",
                    fix="Resize the labels to the output, or let the model resize its output.",
                )
        flat, there = got.reshape(-1), want.reshape(-1)
        if self._ignore is not None:
            flat, there = flat[there != self._ignore], there[there != self._ignore]
        if there.min(initial=0) < 0 or (there.max(initial=0) == 255 and self._ignore is None):
            marked = there.min() if there.min() < 0 else 255
            raise DataError(
                f"metric 'miou': the label of sample {self.samples} holds {marked}, which looks like pixels that do "
                "not count",
                fix=f"Leave them out with miou,ignore={marked} (where it is a class: miou,ignore=-1).",
            )
        classes = int(max(flat.max(initial=0), there.max(initial=0))) + 1
        counts: list[float] = class_counts(flat, there, classes).reshape(-1).tolist()
        return counts

    def _map(self, values: Array, truth: Array | None) -> NDArray[np.int64]:
        """The class of each pixel."""
        if self._threshold is not None:
            return (as_float64(values) >= self._threshold).astype(np.int64)
        if values.dtype.kind in "biu":
            return values.astype(np.int64)
        axis = self._class_axis(values, truth)
        if axis is None or values.shape[axis] < 2:
            raise UsageError(
                f"metric 'miou': output {describe(values)} is one score per pixel, and nothing says which are positive",
                fix="State the lowest that is: miou,threshold=0.5 of probabilities, miou,threshold=0 of logits.",
            )
        return np.asarray(values.argmax(axis=axis))

    def _class_axis(self, values: Array, truth: Array | None) -> int | None:
        """The axis of classes; None: there is none, each pixel has one score.

        Raises:
            UsageError: the one that was stated does not exist.
        """
        if self._axis is not None:
            if not -values.ndim <= self._axis < values.ndim:
                raise UsageError(f"metric 'miou': output {describe(values)} has no axis {self._axis}")
            return self._axis
        usual = values.ndim - 3 if values.ndim >= 3 else None  # [batch, classes, h, w] and [classes, h, w]
        if truth is None:
            return usual
        wanted = np.squeeze(truth).shape
        fitting = [
            axis
            for axis in range(values.ndim)
            if tuple(n for n in values.shape[:axis] + values.shape[axis + 1 :] if n != 1) == wanted
            and values.shape[axis] > 1
        ]
        return usual if usual in fitting else fitting[0] if fitting else usual

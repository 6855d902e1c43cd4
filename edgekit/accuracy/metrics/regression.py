"""Regression: mean squared and absolute error, and R², against labels or the reference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, describe
from ...errors import DataError
from ...measure.metrics import Metric, as_float64, refuse_other_shape


class Regression(Metric):
    """Numbers beside numbers of the same shape, axes of 1 aside: the labels where there are any, else the reference."""

    prefers_labels = True

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        if label is None:
            refuse_other_shape(values, reference, self.name)
            return self._compare(as_float64(values), as_float64(reference))
        truth = np.asarray(label)
        if np.squeeze(truth).shape != np.squeeze(values).shape or truth.dtype.kind not in "biuf":
            raise DataError(
                f"metric '{self.name}': the label of sample {self.samples} is {describe(truth)}, "
                f"the output {describe(values)}",
                fix="Give labels of the output's shape, or compare with the reference: --ignore-labels",
            )
        return self._compare(as_float64(values), truth.astype(np.float64).reshape(values.shape))

    @abstractmethod
    def _compare(self, got: NDArray[np.float64], want: NDArray[np.float64]) -> Sequence[float]:
        """The numbers of one sample."""


class MeanSquaredError(Regression):
    """Σ (ŷ − y)² / number of elements, in the output's unit squared."""

    name = "mse"
    higher_is_better = False

    def _compare(self, got: NDArray[np.float64], want: NDArray[np.float64]) -> Sequence[float]:
        return float(np.square(got - want).sum()), got.size


class MeanAbsoluteError(Regression):
    """Σ |ŷ − y| / number of elements, in the output's unit."""

    name = "mae"
    higher_is_better = False

    def _compare(self, got: NDArray[np.float64], want: NDArray[np.float64]) -> Sequence[float]:
        return float(np.abs(got - want).sum()), got.size


class R2(Regression):
    """The coefficient of determination: 1 − Σ (ŷ − y)² / Σ (y − ȳ)², the mean of it over the output's columns.

    Columns are the second axis of [rows, columns, ...], and their mean is scikit-learn's ``uniform_average``; [rows]
    is one column.

    Of each sample and column are kept: n, Σ (y − s), Σ (y − s)² and Σ (ŷ − y)², where s is the first y that was seen.
    Σ (y − ȳ)² is the third less the second squared through the first. The shift keeps its digits where y is large and
    hardly varies (101325 ± 400).
    """

    name = "r2"

    def __init__(self, output: str = "") -> None:
        super().__init__(output)
        self._shift: NDArray[np.float64] | None = None  # [columns, 1]

    def value(self) -> float:
        """The mean over the columns.

        Raises:
            DataError: there were no samples, or a column of what is compared with does not vary.
        """
        found = super().value()
        if not np.isfinite(found) and self._shift is not None:
            sums = self.contributions().sum(axis=0).reshape(-1, 4)
            column = int(np.argmin(_variation(sums)))
            raise DataError(
                f"metric 'r2' is not defined where what it compares with does not vary: column {column} is always "
                f"{float(self._shift[column, 0]):g}",
                fix="Give more samples, or use mse or mae.",
            )
        return found

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the sums of each column, [..., 4 · columns]; NaN where a column does not vary."""
        columns = sums.reshape(*sums.shape[:-1], -1, 4)
        variation = _variation(columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(variation > 0, 1 - columns[..., 3] / variation, np.nan)
        return np.asarray(found.mean(axis=-1))

    def _compare(self, got: NDArray[np.float64], want: NDArray[np.float64]) -> Sequence[float]:
        got, want = _columns(got), _columns(want)
        if self._shift is None:
            self._shift = want[:, :1].copy()
        if len(self._shift) != len(want):
            raise DataError(
                f"metric 'r2': sample {self.samples} has {len(want)} columns, those before {len(self._shift)}"
            )
        from_shift = want - self._shift
        count = np.full(len(want), want.shape[1], np.float64)
        kept = np.stack(
            [count, from_shift.sum(axis=1), np.square(from_shift).sum(axis=1), np.square(got - want).sum(axis=1)],
            axis=1,
        )
        numbers: list[float] = kept.reshape(-1).tolist()
        return numbers


def _variation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ (y − ȳ)² of sums [..., 4]; what rounding alone makes of a constant is 0."""
    found = sums[..., 2] - np.square(sums[..., 1]) / sums[..., 0]
    return np.where(found > 1e-12 * sums[..., 2], found, 0.0)


def _columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[rows, columns, ...] → [columns, rows · …]; [rows] → [1, rows]."""
    if values.ndim < 2:
        return values.reshape(1, -1)
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)

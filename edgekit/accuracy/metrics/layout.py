"""Which columns of a detector's outputs hold what: ``cxcywh-scores`` → boxes and scores.

A layout names the columns of an output in their order, joined by ``-``; where they are spread over several outputs,
``+`` goes on to the next one. ``boxes+scores`` as outputs with ``cxcywh+scores`` as layout is DETR's form.

    xyxy xywh cxcywh yxyx   four columns: a box (`boxes.to_xyxy`)
    objectness              one: a factor of each score
    scores, scores80        one a class; without a number all the columns that are left
    score                   one: of the class that stands in `class`, or of the only one
    class                   one: a class number
    skip, skip32            columns that do not count (mask coefficients, a batch index)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, describe
from ...errors import DataError, UsageError
from ...measure.metrics import as_float64
from .boxes import Floats

BOXES = ("xyxy", "xywh", "cxcywh", "yxyx")
_FIELD = re.compile(r"(xyxy|xywh|cxcywh|yxyx|objectness|class|scores?|skip)(\d*)")


@dataclass(frozen=True, slots=True)
class Field:
    """Columns side by side. ``width`` None: as many as are left."""

    kind: str
    width: int | None


class Layout:
    """A layout as the user wrote it.

    Args:
        metric: what the user wrote as metric, for messages.
        text: the layout.

    Raises:
        UsageError: a field is not known or stands twice, or there are no boxes or no scores.
    """

    def __init__(self, metric: str, text: str) -> None:
        self._metric = metric
        self.text = text
        if not text:
            raise UsageError(
                f"metric '{metric}' does not say what the outputs hold",
                fix="State their columns: layout=cxcywh-scores (YOLOv8, YOLO11), cxcywh-objectness-scores (YOLOv5, "
                "YOLOX), xyxy-score-class (after NMS), xyxy+scores (two outputs).",
            )
        self.outputs = [[self._field(item) for item in part.split("-")] for part in text.split("+")]
        kinds = [field.kind for part in self.outputs for field in part if field.kind != "skip"]
        boxes = [kind for kind in kinds if kind in BOXES]
        wrong = (
            "names a field twice"
            if len(set(kinds)) < len(kinds) or len(boxes) > 1
            else "has no boxes"
            if not boxes
            else "needs either scores or score"
            if ("scores" in kinds) == ("score" in kinds)
            else "has scores of every class and a class"
            if "scores" in kinds and "class" in kinds
            else "leaves two widths open"
            if any(sum(field.width is None for field in part) > 1 for part in self.outputs)
            else ""
        )
        if wrong:
            raise UsageError(f"metric '{metric}': layout '{text}' {wrong}", fix="Like layout=cxcywh-scores80.")
        self.form = boxes[0]
        self.names_class = "class" in kinds

    def _field(self, text: str) -> Field:
        found = _FIELD.fullmatch(text)
        counted = found is not None and found[1] in ("scores", "skip")
        if found is None or (found[2] and not counted) or found[2] == "0":
            raise UsageError(
                f"metric '{self._metric}': layout '{self.text}': '{text}' is not a field",
                fix=f"Allowed: {', '.join(BOXES)}, objectness, scores, score, class, skip (scores80, skip32: so many).",
            )
        if found[1] == "scores":
            return Field("scores", int(found[2]) if found[2] else None)
        return Field(found[1], 4 if found[1] in BOXES else int(found[2] or 1))

    def columns(self, outputs: Sequence[tuple[str, Array]], *, columns_last: bool = False) -> dict[str, Floats]:
        """Named outputs, one a part of the layout → field → [images, candidates, columns]; a box is under ``box``.

        Args:
            outputs: names and arrays, as many as the layout has parts.
            columns_last: whether they are known to be [images, candidates, columns]; else the shapes decide.

        Raises:
            DataError: an output does not have these columns, or they do not go together.
        """
        found: dict[str, Floats] = {}
        for part, (name, array) in zip(self.outputs, outputs, strict=True):
            for kind, values in self._split(part, name, array, columns_last).items():
                found["box" if kind in BOXES else kind] = values
        sizes = {values.shape[:2] for values in found.values()}
        if len(sizes) > 1:
            raise DataError(
                f"metric '{self._metric}': the outputs hold different numbers of boxes and scores: "
                f"{', '.join(describe(array) for _, array in outputs)}"
            )
        return found

    def _split(self, part: Sequence[Field], name: str, array: Array, columns_last: bool) -> Mapping[str, Floats]:
        fixed, is_open = sum(field.width or 0 for field in part), any(field.width is None for field in part)
        values = as_float64(array)
        if not columns_last or not (values.shape[2] > fixed if is_open else values.shape[2] == fixed):
            values = self._by_candidate(values, name, fixed, is_open)
        found, start = {}, 0
        for field in part:
            width = field.width if field.width is not None else values.shape[2] - fixed
            if field.kind != "skip":
                found[field.kind] = values[:, :, start : start + width]
            start += width
        return found

    def _by_candidate(self, values: Floats, name: str, fixed: int, is_open: bool) -> NDArray[np.float64]:
        """[images, candidates, columns], from that, [images, columns, candidates], or either without images.

        The columns are the axis that has as many as the layout, the last one where both do. Where both could be (a
        layout of open width), they are the shorter one, if it is much shorter.
        """
        shape = values.shape
        if fixed == 1 and not is_open and values.ndim <= 2:  # a lone column: [images, candidates], or [candidates]
            return values.reshape(shape[0] if values.ndim == 2 else 1, -1, 1)
        if values.ndim == 4 and shape[1] == 1:  # OpenVINO's [1, 1, candidates, 7]
            values = values[:, 0]
        if values.ndim == 2:
            values = values[None]
        if values.ndim == 3:
            fitting = [axis for axis in (1, 2) if values.shape[axis] == fixed + is_open]
            fitting = fitting or [axis for axis in (1, 2) if is_open and values.shape[axis] > fixed]
            if fitting:
                columns = min(fitting, key=lambda axis: (values.shape[axis], -axis))
                if is_open and len(fitting) > 1 and max(values.shape[1:]) < 4 * min(values.shape[1:]):
                    raise DataError(
                        f"metric '{self._metric}': either axis of output '{name}' ({'x'.join(map(str, shape))}) could "
                        f"be the columns of layout '{self.text}'",
                        fix="State the number of classes (scores80).",
                    )
                return values if columns == 2 else values.transpose(0, 2, 1)
        columns_told = f"{fixed + 1} or more columns" if is_open else f"{fixed} columns"
        raise DataError(
            f"metric '{self._metric}': layout '{self.text}' needs {columns_told}, and output '{name}' is "
            f"{'x'.join(map(str, shape))}",
            fix="Raw heads of YOLOX and YOLOv5 need decode=yolox or decode=yolov5; other boxes that are still to be "
            "decoded need your own function: file.py:function",
        )


def probabilities(scores: Floats, activation: str) -> Floats:
    """[..., classes], through ``none``, ``sigmoid`` or ``softmax``."""
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(scores / 2)))
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-math.inf))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return scores

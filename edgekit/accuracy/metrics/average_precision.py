"""COCO's mean average precision against labelled boxes, which pycocotools matches: everybody's numbers come from it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import describe
from ...errors import DataError, EngineError
from .boxes import Detections, Floats, to_xyxy
from .detection import BoxMetric
from .layout import BOXES
from .options import Options

_RECALLS = np.linspace(0.0, 1.0, 101)
_LABELS = {
    **{f"{form}-class": (slice(0, 4), 4, form) for form in BOXES},
    **{f"class-{form}": (slice(1, 5), 0, form) for form in BOXES},
}
"""How a label's five columns may stand → those of the box, that of the class, the box's form."""
_IOUS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, slots=True)
class _Class:
    """The detections of one class over all images, the best first, as pycocotools matched them."""

    sample: NDArray[np.int64]  # [n]: which each is of
    hit: NDArray[np.bool_]  # [thresholds, n]
    there: Floats  # [samples]: labelled boxes


class MeanAveragePrecision(BoxMetric):
    """AP@[.50:.95]: the mean over classes that are labelled and ten thresholds of the precision at 101 recalls.

    A label is [objects, 5], or [images, objects, 5] of a batch: a box and its class number, as ``labels=`` says
    (``xyxy-class``; any form of box, and ``class-cxcywh`` as in YOLO's text files), in the unit of the model's boxes.
    Rows of a class below 0 fill up. ``iou=X`` is AP at that threshold alone (0.5 in Pascal VOC).

    It is no function of sums: pycocotools matches each image's boxes once, and a draw of samples weights them.
    """

    name = "map"
    needs_labels = True
    replicates = 400
    every_class = True

    def __init__(self, output: str, options: Options) -> None:
        if importlib.util.find_spec("pycocotools") is None:
            raise EngineError("metric 'map' needs pycocotools", fix="Install it: pip install pycocotools")
        super().__init__(output, options, confidence=0.001, nms=0.65)
        text = options.choice("labels", sorted(_LABELS), "xyxy-class")
        self._box, self._class, self._form = _LABELS[text]
        iou = options.number("iou", None, 0, 1)
        self._ious = _IOUS if iou is None else np.array([iou])
        self._images: list[tuple[int, Detections, Detections]] = []  # sample, found, labelled
        self._matched: list[_Class] = []

    def value(self) -> float:
        """The mean average precision.

        Raises:
            DataError: there were no samples, no labelled boxes, or they are in another unit than the model's.
        """
        if not self.samples:
            raise DataError(f"metric '{self.name}' was given no samples")
        if not any(len(labelled.scores) for _, _, labelled in self._images):
            raise DataError(f"metric 'map': there are no labelled boxes in {self.samples} samples")
        found = max(float(item.boxes.max(initial=0)) for _, item, _ in self._images)
        labelled = max(float(item.boxes.max(initial=0)) for _, _, item in self._images)
        if (labelled <= 1.01 and found > 4) or (0 < found <= 1.5 and labelled > 4):
            raise DataError(
                f"metric 'map': the labelled boxes reach up to {labelled:.4g}, the model's to {found:.4g}",
                fix="Give labels in the unit of the model's boxes: pixels of its input, or shares of it.",
            )
        return float(self.resampled(np.ones((1, self.samples)))[0])

    def resampled(self, counts: Floats) -> Floats:
        """Average precision with each sample's boxes weighted by how often it was drawn."""
        if not self._matched:
            self._matched = self._match()
        found = [[_average(item, row) for item in self._matched] for row in counts]
        values = np.array(found)  # [draws, classes]
        there = ~np.isnan(values)
        return np.asarray(np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1))

    def _compare(self, found: Sequence[Detections], label: Any, wanted: Sequence[Detections] | None) -> Sequence[float]:
        rows = np.asarray(label)
        rows = rows[None] if rows.ndim == 2 else rows
        if rows.ndim != 3 or rows.shape[0] != len(found) or rows.shape[2] != 5 or rows.dtype.kind not in "iuf":
            raise DataError(
                f"metric 'map': the label of sample {self.samples} is {describe(np.asarray(label))}, and "
                f"[objects, 5] is needed for each of {len(found)} images",
                fix="Give a row for each object: x1, y1, x2, y2, class; fill up with rows of class -1.",
            )
        for image, there in zip(found, rows.astype(np.float64), strict=True):
            there = there[there[:, self._class] >= 0]
            classes = np.rint(there[:, self._class]).astype(np.int64)
            boxes = to_xyxy(there[:, self._box], self._form)
            self._images.append((self.samples, image, Detections(boxes, np.ones(len(boxes)), classes)))
        self._matched = []
        return ()

    def _match(self) -> list[_Class]:
        """What pycocotools makes of each class."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        classes = sorted({int(kind) for _, _, labelled in self._images for kind in labelled.classes})
        labelled, found = [item for _, _, item in self._images], [item for _, item, _ in self._images]
        sides = []
        with contextlib.redirect_stdout(io.StringIO()):  # it tells how long each step took
            for side in (labelled, found):
                rows = [row for number, item in enumerate(side, 1) for row in _rows(number, item)]
                coco = COCO()
                coco.dataset = {
                    "images": [{"id": number} for number in range(1, len(self._images) + 1)],
                    "categories": [{"id": kind} for kind in classes],
                    "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
                }
                coco.createIndex()
                sides.append(coco)
            evaluation = COCOeval(*sides, "bbox")
            evaluation.params.iouThrs = self._ious
            evaluation.params.maxDets = [100]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
            evaluation.evaluate()
        images = len(self._images)
        per_class = [evaluation.evalImgs[at * images : (at + 1) * images] for at in range(len(classes))]
        return [self._class_of(items) for items in per_class]

    def _class_of(self, items: Sequence[Any]) -> _Class:
        there = np.zeros(self.samples)
        samples, scores, hits = [], [np.empty(0)], [np.empty((len(self._ious), 0), bool)]
        for (sample, _, _), item in zip(self._images, items, strict=True):
            if item is None:
                continue
            there[sample] += len(item["gtIds"])
            samples += [sample] * len(item["dtScores"])
            scores.append(np.asarray(item["dtScores"], np.float64))
            hits.append(np.asarray(item["dtMatches"]) > 0)
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return _Class(np.array(samples, np.int64)[order], np.concatenate(hits, axis=1)[:, order], there)


def _rows(image: int, found: Detections) -> list[dict[str, Any]]:
    """COCO's annotations of one image."""
    sizes = np.clip(found.boxes[:, 2:] - found.boxes[:, :2], 0, None)  # of a negative area COCO counts nothing
    return [
        {
            "image_id": image,
            "category_id": int(kind),
            "bbox": [*box[:2].tolist(), *size.tolist()],
            "area": float(size[0] * size[1]),
            "score": float(score),
            "iscrowd": 0,
        }
        for box, size, score, kind in zip(found.boxes, sizes, found.scores, found.classes, strict=True)
    ]


def _average(item: _Class, weights: Floats) -> float:
    """The average precision of one class, over the thresholds; NaN where no labelled box was drawn.

    The precision at a recall is the highest at that recall or a higher one (`COCOeval.accumulate`).
    """
    positives = float(weights @ item.there)
    if positives == 0:
        return float("nan")
    each = weights[item.sample]
    met = np.cumsum(item.hit * each, axis=1)  # [thresholds, n]
    seen = np.cumsum(each)
    precision = met / (seen + np.spacing(1))
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for curve, recall in zip(highest, met / positives, strict=True):
        at = np.searchsorted(recall, _RECALLS, side="left")
        total += float(curve[at[at < len(curve)]].sum()) / len(_RECALLS)
    return total / len(highest)

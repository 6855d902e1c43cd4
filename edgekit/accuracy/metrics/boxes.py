"""Boxes: their four forms, the overlap of two, and non-maximum suppression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Detections(NamedTuple):
    """What was found in one image, or is there by its labels (all scores 1)."""

    boxes: Floats  # [n, 4]: x1, y1, x2, y2
    scores: Floats  # [n]
    classes: NDArray[np.int64]  # [n]


def to_xyxy(boxes: Floats, form: str) -> Floats:
    """[..., 4] in a form → [..., 4] as x1, y1, x2, y2. The words are torchvision's (`box_convert`).

    Args:
        boxes: in any unit.
        form: ``xyxy``; ``yxyx`` (TensorFlow's); ``xywh``: the corner at the top left, width, height; ``cxcywh``: the
            centre, width, height (YOLO's, DETR's).
    """
    if form == "xyxy":
        return boxes
    if form == "yxyx":
        return boxes[..., [1, 0, 3, 2]]
    position, size = boxes[..., :2], boxes[..., 2:]
    first = position if form == "xywh" else position - size / 2
    return np.concatenate([first, first + size], axis=-1)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes [n, 4] and [m, 4], as x1, y1, x2, y2: [n, m]; 0 of empty boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(item[:, 2:] - item[:, :2], 0, None), axis=1) for item in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppress(found: Detections, iou: float, top: int) -> Detections:
    """Non-maximum suppression within each class: of boxes that overlap by more than ``iou``, the best one stays.

    Args:
        found: of one image.
        iou: intersection over union; 1: nothing is suppressed.
        top: how many stay at most, the best first.
    """
    order = np.argsort(-found.scores, kind="stable")
    if iou >= 1:
        return _taken(found, order[:top])
    kept: list[int] = []
    while len(order) and len(kept) < top:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        rivals = np.flatnonzero(found.classes[order] == found.classes[best])
        covered = overlaps(found.boxes[best][None], found.boxes[order[rivals]])[0] > iou
        order = np.delete(order, rivals[covered])
    return _taken(found, np.array(kept, np.int64))


def matches(found: Detections, wanted: Detections, iou: float) -> int:
    """How many of ``found``, the best first, each meet one of ``wanted`` of their class that no other has met."""
    if not len(found.scores) or not len(wanted.scores):
        return 0
    overlap = overlaps(found.boxes, wanted.boxes)
    overlap[found.classes[:, None] != wanted.classes[None, :]] = -1
    free = np.ones(len(wanted.scores), bool)
    met = 0
    for row in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free, overlap[row], -1)
        nearest = int(candidates.argmax())
        if candidates[nearest] >= iou:
            free[nearest] = False
            met += 1
    return met


def with_area(found: Detections) -> Detections:
    """Those whose width and height are above 0."""
    return _taken(found, np.flatnonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)))


def _taken(found: Detections, indices: NDArray[np.int64]) -> Detections:
    return Detections(found.boxes[indices], found.scores[indices], found.classes[indices])

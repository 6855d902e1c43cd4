from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.accuracy.metrics.boxes import Detections, matches, overlaps, suppress, to_xyxy

SEEDS = st.integers(0, 2**32 - 1)


def some(seed: int, count: int, classes: int = 2) -> Detections:
    random = np.random.default_rng(seed)
    first = random.integers(0, 12, (count, 2))
    boxes = np.hstack([first, first + random.integers(0, 8, (count, 2))]).astype(float)
    return Detections(boxes, random.permutation(count) / max(count, 1), random.integers(0, classes, count))


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_overlaps_against_counted_cells(seed: int) -> None:
    """Boxes with whole corners cover cells, which can be counted."""
    boxes = some(seed, 4).boxes
    masks = np.zeros((4, 24, 24), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    shared = (masks[:, None] & masks[None]).sum((2, 3))
    union = (masks[:, None] | masks[None]).sum((2, 3))
    assert overlaps(boxes, boxes) == pytest.approx(shared / np.maximum(union, 1))


@pytest.mark.parametrize(
    ("form", "box"),
    [("xyxy", [1, 2, 5, 8]), ("yxyx", [2, 1, 8, 5]), ("xywh", [1, 2, 4, 6]), ("cxcywh", [3, 5, 4, 6])],
)
def test_four_forms_of_one_box(form: str, box: list[float]) -> None:
    assert to_xyxy(np.array([[box]], float), form).tolist() == [[[1, 2, 5, 8]]]


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(0, 12), st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, 12))
def test_suppression_by_its_definition(seed: int, count: int, iou: float, top: int) -> None:
    """From the best down: a box stays unless one of its class that stayed overlaps it by more."""
    found = some(seed, count)
    kept: list[int] = []
    for index in np.argsort(-found.scores):
        rivals = [other for other in kept if found.classes[other] == found.classes[index]]
        if all(overlaps(found.boxes[[index]], found.boxes[[other]])[0, 0] <= iou for other in rivals):
            kept.append(int(index))
    result = suppress(found, iou, top)
    assert result.scores.tolist() == found.scores[kept[:top]].tolist()
    assert result.boxes.tolist() == found.boxes[kept[:top]].tolist()


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(0, 6), st.integers(0, 6))
def test_matches_are_one_to_one_and_of_a_class(seed: int, ours: int, theirs: int) -> None:
    found, wanted = some(seed, ours), some(seed + 1, theirs)
    met = matches(found, wanted, 0.3)
    allowed = (overlaps(found.boxes, wanted.boxes) >= 0.3) & (found.classes[:, None] == wanted.classes[None])
    assert met <= min(int(allowed.any(axis=1).sum()), int(allowed.any(axis=0).sum()))
    assert (met > 0) == bool(allowed.any())
    apart = Detections(np.arange(theirs)[:, None] * 50 + np.array([0.0, 0, 9, 9]), wanted.scores, wanted.classes)
    assert matches(apart, apart, 0.99) == theirs

"""Raw heads of YOLOX and YOLOv5, against the formulas that their authors state, written here cell by cell."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.accuracy.metric import make_metric
from edgekit.accuracy.metrics.decoding import ANCHORS, Decoding, decoding
from edgekit.accuracy.metrics.layout import Layout
from edgekit.accuracy.metrics.options import Options
from edgekit.errors import DataError, EdgekitError, UsageError

Grids = list[np.ndarray]
COLUMNS = "cxcywh-objectness-scores"


def heads(seed: int, height: int, width: int, columns: int, strides: tuple[int, ...] = (8, 16, 32)) -> Grids:
    """[2, columns, rows, cells] a stride: two pictures of random numbers."""
    random = np.random.default_rng(seed)
    return [random.normal(0, 1.5, (2, columns, height // s, width // s)).astype(np.float32) for s in strides]


def decoder(*options: str, layout: str = COLUMNS) -> Decoding:
    given = Options("m", options)
    found = decoding(given, Layout("m", layout))
    given.done()
    assert found is not None
    return found


def by_hand(
    grids: Grids, box: Callable[..., list[float]], anchors: int, strides: tuple[int, ...] = (8, 16, 32)
) -> np.ndarray:
    """Boxes [images, candidates, 4]: for each grid, anchor, row and cell what ``box`` makes of its numbers."""
    images = []
    for image in range(len(grids[0])):
        found = []
        for which, (grid, stride) in enumerate(zip(grids, strides, strict=True)):
            width = grid.shape[1] // anchors
            for anchor in range(anchors):
                for j in range(grid.shape[2]):
                    for i in range(grid.shape[3]):
                        cell = grid[image, anchor * width : anchor * width + 4, j, i].tolist()
                        found.append(box(cell, i, j, stride, which * anchors + anchor))
        images.append(found)
    return np.array(images)


def yolox(cell: list[float], i: int, j: int, stride: int, _: int) -> list[float]:
    x, y, w, h = cell
    return [(x + i) * stride, (y + j) * stride, math.exp(w) * stride, math.exp(h) * stride]


def yolov5(cell: list[float], i: int, j: int, stride: int, anchor: int) -> list[float]:
    x, y, w, h = (1 / (1 + math.exp(-value)) for value in cell)
    return [
        (2 * x - 0.5 + i) * stride,
        (2 * y - 0.5 + j) * stride,
        (2 * w) ** 2 * ANCHORS[2 * anchor],
        (2 * h) ** 2 * ANCHORS[2 * anchor + 1],
    ]


def flat(grids: Grids) -> np.ndarray:
    """[images, candidates, columns], as YOLOX's export joins them."""
    return np.concatenate([grid.reshape(*grid.shape[:2], -1) for grid in grids], 2).transpose(0, 2, 1)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_yolox_as_one_output_and_as_one_a_grid(seed: int, rows: int, cells: int, turned: bool) -> None:
    grids = heads(seed, 32 * rows, 32 * cells, 7)
    wanted = by_hand(grids, yolox, 1)
    size = () if rows == cells else (f"size={32 * rows}x{32 * cells}",)
    one = flat(grids).transpose(0, 2, 1) if turned else flat(grids)
    joined = decoder("decode=yolox", *size, layout=f"{COLUMNS}2").columns([("y", one)], is_right=True)
    apart = decoder("decode=yolox").columns([(str(i), grids[i]) for i in (2, 0, 1)], is_right=True)
    np.testing.assert_allclose(apart["box"], wanted, rtol=1e-6)
    np.testing.assert_array_equal(apart["scores"], flat(grids)[..., 5:])
    if not (turned and one.shape[1] == one.shape[2]):
        np.testing.assert_allclose(joined["box"], wanted, rtol=1e-6)


def test_yolox_with_boxes_and_scores_apart() -> None:
    grids = heads(0, 64, 64, 7)
    outputs = [("b", flat(grids)[..., :4]), ("o", flat(grids)[..., 4:5]), ("s", flat(grids)[..., 5:])]
    found = decoder("decode=yolox", layout="cxcywh+objectness+scores2").columns(outputs, is_right=True)
    np.testing.assert_allclose(found["box"], by_hand(grids, yolox, 1), rtol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_yolov5_before_and_after_its_view(seed: int, rows: int, cells: int, viewed: bool) -> None:
    grids = heads(seed, 32 * rows, 32 * cells, 21)
    outputs = grids
    if viewed:  # as in `Detect.forward`
        outputs = [grid.reshape(2, 3, 7, *grid.shape[2:]).transpose(0, 1, 3, 4, 2) for grid in grids]
    found = decoder("decode=yolov5").columns([(str(i), array) for i, array in enumerate(outputs)], is_right=True)
    np.testing.assert_allclose(found["box"], by_hand(grids, yolov5, 3), rtol=1e-6, atol=1e-6)
    assert found["scores"].shape == (2, 3 * 21 * rows * cells, 2)


def test_other_strides_and_anchors() -> None:
    grids = heads(0, 64, 64, 14, strides=(16, 32))
    found = decoder("decode=yolov5", "strides=16,32", "anchors=10,20,30,40,50,60,70,80").columns(
        [("a", grids[0]), ("b", grids[1])], is_right=True
    )
    sides = (2 / (1 + np.exp(-grids[1][0, 9:11, 1, 1].astype(np.float64)))) ** 2 * [70, 80]  # its second anchor
    np.testing.assert_allclose(found["box"][0, -1, 2:], sides, rtol=1e-6)


def raw_yolox(lost: bool = False) -> np.ndarray:
    """[1, 84, 7] of 64x64 pixels: three objects, each in one cell; ``lost``: without the score of the second."""
    output = np.zeros((1, 84, 7), np.float32)
    for cell, (size, kind) in {9: (1.0, 0), 45: (0.5, 1), 83: (0.2, 1)}.items():
        output[0, cell, :4] = [0.5, 0.5, size, size]
        output[0, cell, 4], output[0, cell, 5 + kind] = 0.9, 0.1 if lost and cell == 45 else 0.9
    return output


def test_detections_of_a_raw_head() -> None:
    spec = f"detections:y,layout={COLUMNS}2,decode=yolox"
    metric = make_metric(spec)
    metric.add({"y": raw_yolox(lost=True)}, None, {"y": raw_yolox()})
    assert metric.details() == pytest.approx({"kept": 2 / 3, "false": 0, "wanted_count": 3, "found_count": 2})
    # A box of exp(3) strides is none of exp(1), though the raw numbers are as near as those of a cell beside it.
    moved = raw_yolox()
    moved[0, 9, 2:4] = 3.0
    metric = make_metric(spec)
    metric.add({"y": moved}, None, {"y": raw_yolox()})
    assert metric.details()["kept"] == pytest.approx(2 / 3)


def test_yolov5_is_of_logits_if_nothing_is_said() -> None:
    grids = [np.full_like(grid, -9) for grid in heads(0, 64, 64, 21)]
    grids[1][0, 7:14, 2, 3] = [0, 0, 0, 0, 9, -9, 9]  # the second anchor, class 1
    outputs = {f"head{i}": grid[:1] for i, grid in enumerate(grids)}
    for names in ("", ":head0+head1+head2"):
        metric = make_metric(f"detections{names},layout={COLUMNS},decode=yolov5")
        metric.add(outputs, None, outputs)
        assert metric.details()["wanted_count"] == 1


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("layout=cxcywh-scores,decode=yolo", UsageError, "decode 'yolo' is not known"),
        ("layout=xyxy-scores,decode=yolox", UsageError, "decode=yolox is of boxes as cxcywh"),
        ("layout=cxcywh+scores,decode=yolov5", UsageError, "outputs that hold all columns each"),
        (f"layout={COLUMNS},decode=yolov5,anchors=10,13,16", UsageError, "3 numbers of anchors are no pairs for 3"),
        (f"layout={COLUMNS},decode=yolox,anchors=10,13", UsageError, "no option 'anchors'"),
        (f"layout={COLUMNS},strides=8,16", UsageError, "no option 'strides'"),
        (f"layout={COLUMNS},decode=yolox,strides=16,8", UsageError, "strides must rise, got 16, 8"),
        (f"layout={COLUMNS},decode=yolox,strides=8,x", UsageError, "strides must be whole numbers from 1"),
        (f"layout={COLUMNS},decode=yolox,size=64", UsageError, "size must be like 416x640"),
        (f"layout={COLUMNS}2,decode=yolox,size=64x96", DataError, "84 candidates are not those of an image of 64x96"),
        (f"layout={COLUMNS}2,decode=yolox,strides=8,16", DataError, "84 candidates are not those of a square image"),
        (f"layout={COLUMNS},decode=yolov5", UsageError, "is of 3 outputs, and the model has 1"),
    ],
)
def test_what_does_not_go_together(spec: str, kind: type[EdgekitError], said: str) -> None:
    with pytest.raises(kind, match=said):
        make_metric(f"detections,{spec}").add({"y": raw_yolox()}, None, {"y": raw_yolox()})


def test_boxes_that_are_decoded_already() -> None:
    decoded = raw_yolox()
    decoded[..., :4] *= 100
    with pytest.raises(DataError, match="boxes are in pixels already"):
        make_metric(f"detections:y,layout={COLUMNS}2,decode=yolox").add({"y": decoded}, None, {"y": decoded})


def test_outputs_that_are_no_grids_of_one_picture() -> None:
    grids = heads(0, 64, 64, 21)
    outputs = {"a": grids[0], "b": grids[1], "c": grids[1]}
    with pytest.raises(DataError, match="are no grids of one picture with the strides 8, 16, 32"):
        make_metric(f"detections,layout={COLUMNS},decode=yolov5").add(outputs, None, outputs)
    outputs = {"a": grids[0][:, :20], "b": grids[1], "c": grids[2]}
    with pytest.raises(DataError, match=r"needs \[images, 3, rows, cells, columns\] or \[images, 3·columns"):
        make_metric(f"detections,layout={COLUMNS},decode=yolov5").add(outputs, None, outputs)

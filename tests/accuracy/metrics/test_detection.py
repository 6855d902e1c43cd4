from __future__ import annotations

import numpy as np
import pytest

from edgekit.accuracy.metric import make_metric
from edgekit.errors import DataError, EdgekitError, UsageError
from edgekit.measure.bootstrap import drop_interval, metric_interval
from edgekit.measure.metrics import Metric

Outputs = dict[str, np.ndarray]
YOLO = "detections:y,layout=cxcywh-scores"


def yolo(seed: int, *, candidates: int = 60, classes: int = 3) -> np.ndarray:
    """[1, 4 + classes, candidates]: a few objects far from each other, each seen by two neighbouring candidates."""
    random = np.random.default_rng(seed)
    output = np.zeros((1, 4 + classes, candidates), np.float32)
    output[0, 0] = 100 * np.arange(candidates)
    output[0, 1:4] = 40
    output[0, 4:] = random.uniform(0, 0.1, (classes, candidates))
    for at in range(0, candidates - 1, 10):
        output[0, 0, at + 1] = output[0, 0, at] + 2
        output[0, 4 + random.integers(classes), at : at + 2] = 0.9, 0.8
    return output


def added(spec: str, pairs: list[tuple[Outputs, Outputs]]) -> Metric:
    metric = make_metric(spec)
    for got, want in pairs:
        metric.add(got, None, want)
    return metric


def test_what_is_kept_and_what_is_false() -> None:
    """Six objects: of the engine's, one has lost its score, one another class, and one is made up."""
    want = yolo(0)
    got = want.copy()
    got[0, 4:, 0:2] = 0.2
    got[0, 4:, 10:12] = np.roll(got[0, 4:, 10:12], 1, axis=0)
    got[0, 5, 25] = 0.7
    metric = added(YOLO, [({"y": got}, {"y": want})])
    assert metric.details() == pytest.approx({"kept": 4 / 6, "false": 2 / 6, "wanted_count": 6, "found_count": 6})
    assert metric.value() == pytest.approx(2 * 4 / 12)
    assert added(YOLO, [({"y": want}, {"y": want})]).value() == 1.0


def test_scores_that_are_gone_are_seen_whatever_the_boxes_say() -> None:
    """Boxes in pixels beside scores in 0..1: as a whole the tensor is right to 40 dB and more."""
    want = yolo(1)
    got = want.copy()
    got[0, 4:] = np.round(got[0, 4:] / 20) * 20
    noise = np.square(got - want).sum()
    assert 10 * np.log10(np.square(want).sum() / noise) > 40
    metric = added(YOLO, [({"y": got}, {"y": want})])
    assert (metric.value(), metric.details()["kept"]) == (0.0, 0.0)


def forms(boxes: np.ndarray, scores: np.ndarray) -> dict[str, tuple[str, Outputs]]:
    """Boxes [n, 4] (x1, y1, x2, y2) with probabilities [n, classes], as detectors of several makes give them."""
    logits = np.log(scores / (1 - scores))
    sizes, best = boxes[:, 2:] - boxes[:, :2], scores.argmax(1)
    centred, corner = np.hstack([boxes[:, :2] + sizes / 2, sizes]), np.hstack([boxes[:, :2], sizes])
    top = scores.max(1, keepdims=True)
    full = np.concatenate([scores * 0.5, 1 - scores.sum(1, keepdims=True) * 0.5], axis=1)
    one = np.ones((len(boxes), 1))
    return {
        "YOLOv8": ("y,layout=cxcywh-scores", {"y": np.hstack([centred, scores]).T[None]}),
        "YOLOv8, counted": ("y,layout=cxcywh-scores3", {"y": np.hstack([centred, scores])[None]}),
        "YOLOv8-seg": ("y,layout=cxcywh-scores3-skip32", {"y": np.hstack([centred, scores, one.repeat(32, 1)])[None]}),
        "YOLOv5": ("y,layout=cxcywh-objectness-scores", {"y": np.hstack([centred, one, scores])[None]}),
        "of logits": ("y,layout=cxcywh-scores,activation=sigmoid", {"y": np.hstack([centred, logits])[None]}),
        "after NMS": ("y,layout=xyxy-score-class", {"y": np.hstack([boxes, top, best[:, None]])[None]}),
        "SSD of OpenVINO": (
            "y,layout=skip-class-score-xyxy",
            {"y": np.hstack([one, best[:, None], top, boxes])[None, None]},
        ),
        "torchvision": (
            "boxes+labels+scores,layout=xyxy+class+score",
            {"boxes": boxes, "labels": best, "scores": top[:, 0]},
        ),
        "TensorFlow": (
            "b+s,layout=yxyx+scores",
            {"s": scores[None], "b": boxes[None][..., [1, 0, 3, 2]], "other": np.zeros(3)},
        ),
        "DETR": (
            "b+s,layout=cxcywh+scores,activation=softmax,background=last,confidence=0.12",
            {"b": centred[None], "s": np.log(full)[None]},
        ),
        "the corner": ("y,layout=xywh-scores", {"y": np.hstack([corner, scores])[None]}),
    }


@pytest.mark.parametrize("make", list(forms(np.ones((1, 4)), np.full((1, 3), 0.2))))
def test_detectors_of_several_makes(make: str) -> None:
    """Whatever the form, the same four of five objects are kept, and none is false."""
    boxes = np.arange(40)[:, None] * 50 + np.array([0.0, 10, 30, 40])
    scores = np.full((40, 3), 0.01)
    scores[[3, 9, 17, 20, 39], [0, 1, 2, 1, 0]] = 0.8
    lost = scores.copy()
    lost[39, 0] = 0.05
    spec, want = forms(boxes, scores)[make]
    metric = added(f"detections:{spec}", [(forms(boxes, lost)[make][1], want)])
    assert metric.details() == pytest.approx({"kept": 0.8, "false": 0.0, "wanted_count": 5, "found_count": 4})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rest", ["", ",nms=none", ",confidence=0,top=1000"])
def test_the_reference_agrees_with_itself(seed: int, rest: str) -> None:
    """Whatever its boxes: crowded, equal, or of no area."""
    random = np.random.default_rng(seed)
    output = random.uniform(-3, 9, (1, 7, 60))
    output[0, 4:] = random.random((3, 60))
    output[0, :, 30:40] = output[0, :, 20:30]
    metric = added(YOLO + rest, [({"y": output}, {"y": output.copy()})])
    assert metric.value() == metric.of_reference == 1.0
    assert metric.details()["wanted_count"] < 60


def test_an_interval_and_a_drop() -> None:
    random = np.random.default_rng(0)
    pairs = []
    for seed in range(40):
        want = yolo(seed)
        got = want.copy()
        got[0, 4:] *= random.random(60) < 0.5
        pairs.append(({"y": got}, {"y": want}))
    metric, right = added(YOLO, pairs), added(YOLO, [(want, want) for _, want in pairs])
    found, drop = metric_interval(metric), drop_interval(metric, right)
    assert found is not None and 0.7 < found.low < found.value < found.high < 1
    assert drop is not None and drop.low > 0


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("detections", "does not say what the outputs hold"),
        ("detections:y,layout=cxcywh", "needs either scores or score"),
        ("detections:y,layout=scores", "has no boxes"),
        ("detections:y,layout=xyxy-cxcywh-scores", "names a field twice"),
        ("detections:y,layout=xyxy-scores-class", "has scores of every class and a class"),
        ("detections:y,layout=xyxy-conf", "'conf' is not a field. Allowed: xyxy, xywh, cxcywh, yxyx, objectness"),
        ("detections:y,layout=xyxy4-scores", "'xyxy4' is not a field"),
        ("detections:a+b,layout=xyxy-scores", "names 2 outputs, and its layout 'xyxy-scores' is of 1"),
        ("detections:y,layout=xyxy-scores,iuo=0.5", "has no option 'iuo'. Did you mean 'iou'"),
        ("detections:y,layout=xyxy-scores,iou=2", "iou must be a number from 0 to 1, got '2'"),
    ],
)
def test_specs_that_are_wrong(spec: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_metric(spec)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "output", "text"),
    [
        (YOLO, np.zeros((1, 4, 4)), "needs 5 or more columns, and output 'y' is 1x4x4"),
        (YOLO, np.zeros((1, 7, 20)), "either axis of output 'y' (1x7x20) could be the columns of layout"),
        (YOLO, np.zeros((1, 3, 80, 80, 85)), "need decode=yolox or decode=yolov5"),
        (YOLO + "80", np.zeros((1, 85, 10)), "needs 84 columns, and output 'y' is 1x85x10"),
        (YOLO, yolo(0) * 5, "run from 0 to 4.5, and probabilities from 0 to 1 are needed"),
        (YOLO + ",activation=sigmoid", yolo(0), "before the sigmoid, which is for logits"),
        (YOLO, yolo(0) * 0.1, "the reference finds nothing in 1 samples: its highest score is 0.09, and 0.25 counts"),
        (YOLO.replace(":y", ":z"), yolo(0), "the model has no such output. Allowed: y."),
        (YOLO.replace("scores", "scores3") + "+class", yolo(0), "has scores of every class and a class"),
        ("detections,layout=xyxy+scores", yolo(0), "is of 2 outputs, and the model has 1"),
    ],
)
def test_outputs_that_do_not_fit(spec: str, output: np.ndarray, text: str) -> None:
    with pytest.raises(EdgekitError) as caught:
        added(spec, [({"y": output}, {"y": output})]).value()
    assert text in str(caught.value)


def test_a_damaged_engine_is_judged_and_not_refused() -> None:
    """Only the reference's scores must be probabilities."""
    assert added(YOLO, [({"y": yolo(0) * -3}, {"y": yolo(0)})]).value() == 0.0


def test_labels_are_for_map() -> None:
    assert not make_metric(YOLO).uses_labels
    with pytest.raises(DataError, match="compares with the reference's outputs, and there are none"):
        make_metric(YOLO).add({"y": yolo(0)}, np.zeros((1, 5)))

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.accuracy.metric import make_metric
from edgekit.accuracy.metrics.boxes import to_xyxy
from edgekit.errors import EdgekitError
from edgekit.measure.bootstrap import drop_interval, metric_interval
from edgekit.measure.metrics import Metric

pytest.importorskip("pycocotools")
SPEC = "map:y,layout=xyxy-score-class"
Image = tuple[np.ndarray, np.ndarray]  # found [n, 6]: box, score, class; labelled [m, 5]: box, class


def images(seed: int, count: int = 8, noise: float = 4.0) -> list[Image]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        first = random.uniform(0, 60, (random.integers(0, 5), 2))
        boxes = np.hstack([first, first + random.uniform(10, 40, first.shape)])
        labels = np.hstack([boxes, random.integers(0, 3, (len(boxes), 1))])
        moved = boxes + random.normal(0, noise, boxes.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        extra = random.uniform(0, 30, (2, 2))
        moved = np.vstack([moved, np.hstack([extra, extra + 20])])
        kinds = np.append(labels[:, 4], random.integers(0, 3, 2))
        kinds = np.where(random.random(len(kinds)) < 0.8, kinds, random.integers(0, 3, len(kinds)))
        scores = random.permutation(np.linspace(0.1, 0.9, len(kinds))) + random.uniform(0, 0.01, len(kinds))
        made.append((np.hstack([moved, scores[:, None], kinds[:, None]]), labels))
    made[0] = made[0][0], np.array([[5.0, 5, 40, 40, 1]])  # something is labelled
    return made


def added(spec: str, pairs: list[Image]) -> Metric:
    metric = make_metric(spec)
    for found, labels in pairs:
        metric.add({"y": found[None]}, labels)
    return metric


def by_pycocotools(pairs: list[Image], ious: np.ndarray | None = None) -> float:
    """COCOeval from end to end: evaluate, accumulate, and the mean as `summarize` takes it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coco(rows: list[np.ndarray], has_scores: bool) -> object:
        made = COCO()
        annotations = [
            {
                "image_id": image, "category_id": int(row[-1]), "iscrowd": 0,
                "score": float(row[4]) if has_scores else 1.0,
                "bbox": [*row[:2], *(row[2:4] - row[:2])], "area": float(np.prod(row[2:4] - row[:2])),
            }
            for image, item in enumerate(rows) for row in item
        ]  # fmt: skip
        made.dataset = {
            "images": [{"id": image} for image in range(len(rows))],
            "categories": [{"id": kind} for kind in range(3)],
            "annotations": [{**item, "id": number} for number, item in enumerate(annotations, 1)],
        }
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco([labels for _, labels in pairs], False), coco([f for f, _ in pairs], True), "bbox")
        if ious is not None:
            evaluation.params.iouThrs = ious
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return float(precision[precision > -1].mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_as_pycocotools_has_it(seed: int) -> None:
    pairs = images(seed)
    assert added(SPEC, pairs).value() == pytest.approx(by_pycocotools(pairs), abs=1e-9)
    assert added(SPEC + ",iou=0.5", pairs).value() == pytest.approx(by_pycocotools(pairs, np.array([0.5])), abs=1e-9)


def test_a_box_turned_inside_out_is_a_false_one() -> None:
    """COCO would leave a box of negative area out of account."""
    label = np.array([[10.0, 10, 40, 40, 0]])
    right, wrong = [10, 10, 40, 40, 0.5, 0], [60, 60, 50, 80, 0.9, 0]
    assert added(SPEC, [(np.array([right, wrong], float), label)]).value() == pytest.approx(0.5)


def test_a_draw_is_what_its_images_give() -> None:
    """Two of the first, none of the second, …: as if the images had been copied that often."""
    pairs = images(3)
    counts = np.random.default_rng(0).integers(0, 4, (5, len(pairs)))
    counts[:, 0] += 1
    expected = [by_pycocotools([pair for pair, n in zip(pairs, row, strict=True) for _ in range(n)]) for row in counts]
    assert added(SPEC, pairs).resampled(counts.astype(float)) == pytest.approx(expected, abs=2e-3)  # equal scores tie


def test_an_interval_and_a_drop() -> None:
    good, bad = added(SPEC, images(5, 60, noise=1.0)), added(SPEC, images(5, 60, noise=6.0))
    found, drop = metric_interval(bad), drop_interval(bad, good)
    assert found is not None and found.low < found.value < found.high < found.low + 0.2
    assert drop is not None and 0 < drop.low < drop.value < drop.high


@pytest.mark.parametrize("form", ["xyxy-class", "class-cxcywh", "xywh-class"])
def test_labels_in_their_form_filled_up_and_of_a_batch(form: str) -> None:
    pairs = images(7, 2)
    box = to_box(form.replace("class-", "").replace("-class", ""))
    rows = np.full((2, 8, 5), -1.0)
    for row, (_, labels) in zip(rows, pairs, strict=True):
        boxes, kind = box(labels[:, :4]), labels[:, 4:]
        row[: len(labels)] = np.hstack([kind, boxes] if form.startswith("class") else [boxes, kind])
    outputs = np.full((2, 10, 6), -1.0)
    for row, (found, _) in zip(outputs, pairs, strict=True):
        row[: len(found)] = found
    metric = make_metric(f"{SPEC},labels={form}")
    outputs[..., 4] = np.clip(outputs[..., 4], 0, 1)
    metric.add({"y": outputs}, rows)
    assert metric.value() == pytest.approx(by_pycocotools(pairs), abs=1e-9)


def to_box(form: str):  # type: ignore[no-untyped-def]
    forms = {
        "xyxy": lambda b: b,
        "xywh": lambda b: np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]),
        "cxcywh": lambda b: np.hstack([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]]),
    }
    boxes = np.array([[1.0, 2, 5, 9]])
    assert to_xyxy(forms[form](boxes), form).tolist() == boxes.tolist()
    return forms[form]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (np.zeros(4), r"is float64 4, and \[objects, 5\] is needed for each of 1 images"),
        (np.zeros((2, 3, 5)), "is float64 2x3x5"),
        (np.empty((0, 5)), "there are no labelled boxes in 1 samples"),
        (np.array([[0.1, 0.1, 0.4, 0.5, 1]]), r"the labelled boxes reach up to 0\.5, the model's to"),
    ],
)
def test_labels_that_do_not_fit(label: np.ndarray, text: str) -> None:
    with pytest.raises(EdgekitError, match=text):
        added(SPEC, [(images(0)[0][0], label)]).value()


def test_pycocotools_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EdgekitError, match=r"'map' needs pycocotools\. Install it: pip install pycocotools"):
        make_metric(SPEC)

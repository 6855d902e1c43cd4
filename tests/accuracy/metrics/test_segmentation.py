from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from edgekit.accuracy.metric import make_metric
from edgekit.errors import EdgekitError
from edgekit.measure.bootstrap import metric_interval


def value(spec: str, outputs: list[np.ndarray], labels: list[np.ndarray]) -> float:
    metric = make_metric(spec)
    for output, label in zip(outputs, labels, strict=True):
        metric.add({"y": output}, label)
    return metric.value()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_as_scikit_learn_has_it(seed: int, classes: int) -> None:
    """Class maps, and scores with the classes before or behind the pixels, of one image or a batch of one."""
    random = np.random.default_rng(seed)
    labels = list(random.integers(0, classes, (4, 6, 9)))
    maps = [np.where(random.random((6, 9)) < 0.7, label, random.integers(0, classes, (6, 9))) for label in labels]
    expected = jaccard_score(np.ravel(labels), np.ravel(maps), average="macro")
    scores = [np.eye(classes)[item].astype("float32") for item in maps]
    assert value("miou", maps, labels) == pytest.approx(expected)
    assert value("miou", [item[None] for item in maps], labels) == pytest.approx(expected)
    assert value("miou", scores, labels) == pytest.approx(expected)
    assert value("miou", [np.moveaxis(item, 2, 0)[None] for item in scores], labels) == pytest.approx(expected)


def test_pixels_that_do_not_count() -> None:
    label, found = np.array([[0, 1, 255]]), np.array([[0, 1, 1]])
    assert value("miou,ignore=255", [found], [label]) == 1.0
    with pytest.raises(EdgekitError, match=r"holds 255, which looks like pixels that do not count.*miou,ignore=255"):
        value("miou", [found], [label])


def test_one_score_per_pixel() -> None:
    label, logits = np.array([[0, 1], [1, 0]]), np.array([[[[-1.0, 2.0], [-3.0, -4.0]]]])
    assert value("miou,threshold=0", [logits], [label]) == pytest.approx((2 / 3 + 1 / 2) / 2)
    with pytest.raises(EdgekitError, match=r"one score per pixel.*miou,threshold=0\.5"):
        value("miou", [logits], [label])


def test_without_labels_the_references_map_is_the_truth() -> None:
    random = np.random.default_rng(0)
    metric = make_metric("miou")
    for _ in range(20):
        want = random.standard_normal((1, 3, 8, 8))
        metric.add({"y": want + 0.3 * random.standard_normal(want.shape)}, None, {"y": want})
    found = metric_interval(metric)
    assert found is not None and 0.5 < found.low < found.value < found.high < 0.95


def test_a_class_that_comes_late() -> None:
    maps = [np.zeros((2, 2), int), np.full((2, 2), 2)]
    assert value("miou", maps, maps) == 1.0
    assert value("miou", maps, maps[::-1]) == 0.0


def test_a_map_of_another_size() -> None:
    with pytest.raises(EdgekitError, match=r"the label of sample 0 is int64 4x4, the output float64 1x3x2x2\. Resize"):
        value("miou", [np.zeros((1, 3, 2, 2))], [np.zeros((4, 4), int)])

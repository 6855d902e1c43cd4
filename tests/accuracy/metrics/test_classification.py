from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from edgekit.accuracy.metric import make_metric
from edgekit.errors import DataError, EdgekitError
from edgekit.measure.bootstrap import drop_interval, metric_interval
from edgekit.measure.metrics import Metric

SEEDS = st.integers(0, 2**32 - 1)


def added(name: str, got: np.ndarray, labels: np.ndarray | None = None, reference: np.ndarray | None = None) -> Metric:
    metric = make_metric(name)
    for row in range(len(got)):
        there = None if reference is None else {"y": reference[row : row + 1]}
        metric.add({"y": got[row : row + 1]}, None if labels is None else labels[row], there)
    return metric


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 6), st.sampled_from(["auto", "macro", "micro"]))
def test_f1_as_scikit_learn_has_it(seed: int, classes: int, average: str) -> None:
    random = np.random.default_rng(seed)
    labels, scores = random.integers(0, classes, 30), random.standard_normal((30, classes))
    scores[np.arange(30), labels] += 1
    usual = {"auto": "binary" if classes == 2 else "macro"}.get(average, average)
    expected = f1_score(labels, scores.argmax(1), average=usual)
    assert added(f"f1,average={average}", scores, labels).value() == pytest.approx(expected)
    assert added(f"f1,average={average}", scores, None, np.eye(classes)[labels]).value() == pytest.approx(expected)
    if average != "auto":
        assert added(f"f1,average={average}", scores.argmax(1), labels).value() == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_f1_with_a_threshold(seed: int, columns: int) -> None:
    """A score a row, or several labels a row; of a logit or a probability as stated."""
    random = np.random.default_rng(seed)
    labels, logits = random.integers(0, 2, (40, columns)), random.standard_normal((40, columns))
    labels[0] = 1  # each column occurs
    expected = f1_score(labels, logits >= 0, average="macro" if columns > 1 else "binary")
    assert added("f1,threshold=0", logits, labels).value() == pytest.approx(expected)
    assert added("f1,threshold=0.5", 1 / (1 + np.exp(-logits)), labels).value() == pytest.approx(expected)


def test_rows_that_do_not_count() -> None:
    scores = np.eye(3)[[0, 1, 2, 0]]
    assert added("f1,ignore=-100", scores, np.array([0, 1, 2, -100])).value() == 1.0
    with pytest.raises(DataError, match=r"is -100, which is not a class number.*write ignore=-100"):
        added("f1", scores, np.array([0, 1, 2, -100]))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 5), st.booleans())
def test_auc_as_scikit_learn_has_it(seed: int, classes: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(max(classes, 2)), random.integers(0, max(classes, 2), 30)])
    scores = random.standard_normal((len(labels), classes))
    scores[np.arange(len(labels)), labels % classes] += 0.5
    scores = np.round(scores) if ties else scores
    if classes == 1:
        expected = roc_auc_score(labels, scores[:, 0])
    elif classes == 2:
        expected = roc_auc_score(labels, scores[:, 1] - scores[:, 0])
    else:
        expected = np.mean([roc_auc_score(labels == k, scores[:, k]) for k in range(classes)])
    assert added("auc", scores, labels).value() == pytest.approx(expected)


def test_auc_of_several_labels_a_row() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, (50, 3)), random.standard_normal((50, 3))
    assert added("auc", scores, labels).value() == pytest.approx(roc_auc_score(labels, scores, average="macro"))


def test_auc_is_resampled_by_samples() -> None:
    """A draw weights each sample's rows as scikit-learn's `sample_weight` does; the interval has its textbook width."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 300)
    scores = (labels + random.standard_normal(300))[:, None]
    metric = added("auc", scores, labels)
    counts = random.integers(0, 3, (4, 300)).astype(float)
    expected = [roc_auc_score(labels, scores[:, 0], sample_weight=row) for row in counts]
    assert metric.resampled(counts) == pytest.approx(expected)
    found = metric_interval(metric)
    area = metric.value()
    assert found is not None
    # Hanley and McNeil (Radiology 1982), with as many positives as negatives.
    n, q1, q2 = 150, area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2 + q2 - area**2)) / n**2)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)
    noisy = added("auc", scores + random.standard_normal((300, 1)), labels)
    drop = drop_interval(noisy, metric)
    assert drop is not None and drop.low > 0


@pytest.mark.parametrize(
    ("spec", "got", "labels", "text"),
    [
        ("f1", np.ones((2, 1)), [0, 1], "one score per row, and nothing says which scores are"),
        ("f1", np.ones((2, 3)), [0, 3], "must be one of 0 to 2, got 3"),
        ("f1", np.ones((2, 3)), [[0, 1, 1], [1, 1, 0]], "3 labels for 1 rows"),
        ("f1", np.ones((2, 3)), [0.5, 1.0], "needs class numbers"),
        ("f1,threshold=0", np.ones((2, 1)), [0, 2], "needs a label 0 or 1 for each score"),
        ("f1,average=binary", np.ones((2, 3)), [0, 1], "needs 2 classes, and there are 3"),
        ("auc", np.ones((2, 1)), [1, 1], "2 of 2 labels are positive"),
        ("auc", np.ones((2, 3)), [0, 3], "must be one of 0 to 2, got 3"),
        ("auc", np.ones((2, 3)), [[0, 1], [0, 1]], "2 labels for 1 rows"),
    ],
)
def test_what_cannot_be_judged(spec: str, got: np.ndarray, labels: list[object], text: str) -> None:
    with pytest.raises(EdgekitError, match=text):
        added(spec, got, np.array(labels)).value()


def test_labels_of_the_scores_shape_need_a_threshold() -> None:
    metric = make_metric("f1")
    with pytest.raises(EdgekitError, match=r"labels int64 1x3 state each class apart.*f1,threshold=0\.5"):
        metric.add({"y": np.ones((1, 3))}, np.ones((1, 3), int))

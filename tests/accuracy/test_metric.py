from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.accuracy.metric import METRICS, make_metric, named_metric, refuse_labels, refuse_undefined
from edgekit.contracts import Array
from edgekit.errors import DataError, UsageError
from edgekit.measure.metrics import Mean

SIMPLE = ("top1", "top5", "mse", "cosine", "sqnr_db", "agreement")
FLOATS = st.floats(-1e3, 1e3, width=32)


def value(name: str, got: Array, *, label: object = None, reference: Array | None = None) -> float:
    metric = named_metric(name)
    metric.add({"y": got}, label, None if reference is None else {"y": reference})
    return metric.value()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays("float32", (7, 9), elements=FLOATS, unique=True), st.integers(0, 8))
def test_top_k_against_sorting(scores: Array, label: int) -> None:
    ranked = np.argsort(-scores, axis=1, kind="stable")
    labels = np.full(7, label)
    assert value("top1", scores, label=labels) == np.mean(ranked[:, 0] == label)
    assert value("top5", scores, label=labels) == np.mean([label in row[:5] for row in ranked])


def test_equal_scores_rank_by_their_index() -> None:
    scores = np.zeros((1, 7), np.int8)
    assert value("top1", scores, label=0) == 1.0
    assert value("top1", scores, label=1) == 0.0
    assert value("top5", scores, label=4) == 1.0
    assert value("top5", scores, label=5) == 0.0


def test_class_numbers_are_compared_as_such() -> None:
    """An argmax inside of the model: the last axis is pixels then, and not classes."""
    want = np.array([[[0, 1, 2], [2, 2, 0]]])
    got = np.array([[[0, 1, 1], [2, 2, 0]]])
    assert value("agreement", got, reference=want) == 5 / 6
    assert value("top1", got, label=want[0]) == 5 / 6
    with pytest.raises(DataError, match="'top5' needs scores, and the output is class numbers, int64 1x2x3"):
        value("top5", got, label=want[0])
    with pytest.raises(DataError, match="sample 0 has 3 labels for 6 class numbers"):
        value("top1", got, label=[0, 1, 2])


@pytest.mark.parametrize("metric", ["agreement", "top1", "f1"])
def test_the_columns_of_a_map_are_no_classes(metric: str) -> None:
    """Class scores [batch, classes, h, w]: the highest of each row of pixels says nothing."""
    scores = np.random.default_rng(0).normal(size=(1, 6, 8, 8)).astype(np.float32)
    with pytest.raises(
        DataError, match=r"takes the last axis for the classes, and .* looks like a picture's. Use miou"
    ):
        value(metric, scores, label=None if metric == "agreement" else np.zeros((6, 8), int), reference=scores)


def test_labels_of_a_batch_and_of_tokens() -> None:
    scores = np.eye(6, dtype=np.float32).reshape(2, 3, 6)
    assert value("top1", scores, label=np.array([[0, 1, 2], [3, 4, 0]])) == pytest.approx(5 / 6)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays("float32", (3, 4), elements=FLOATS), hnp.arrays("float32", (3, 4), elements=FLOATS))
def test_distances_against_their_definitions(got: Array, want: Array) -> None:
    g, w = got.astype(float), want.astype(float)
    assert value("mse", got, reference=want) == pytest.approx(np.mean((g - w) ** 2))
    assert value("agreement", got, reference=want) == np.mean(g.argmax(1) == w.argmax(1))
    noise = ((g - w) ** 2).sum()
    sqnr = value("sqnr_db", got, reference=want)
    if noise == 0:
        assert sqnr == math.inf
    elif not w.any():
        assert sqnr == -math.inf
    else:
        assert sqnr == pytest.approx(10 * np.log10((w**2).sum() / noise))
    norms = np.linalg.norm(g, axis=1) * np.linalg.norm(w, axis=1)
    if (norms > 1e-6).all():
        assert value("cosine", got, reference=want) == pytest.approx(np.mean((g * w).sum(1) / norms))


@pytest.mark.parametrize(("got", "want", "expected"), [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0)])
def test_cosine_of_zeros(got: list[float], want: list[float], expected: float) -> None:
    assert value("cosine", np.array(got), reference=np.array(want)) == expected


@pytest.mark.parametrize("name", SIMPLE)
def test_streaming_equals_one_large_sample(name: str) -> None:
    random = np.random.default_rng(0)
    got, want = random.standard_normal((2, 30, 8)).astype("float32")
    labels = random.integers(0, 8, 30) if name.startswith("top") else None
    metric = named_metric(name)
    for row in range(30):
        metric.add({"y": got[row : row + 1]}, None if labels is None else labels[row], {"y": want[row : row + 1]})
    assert metric.samples == 30
    assert metric.value() == pytest.approx(value(name, got, label=labels, reference=want))


def test_what_each_compares_with() -> None:
    for library in ("jiwer", "pycocotools"):
        pytest.importorskip(library)
    boxes = ",layout=xyxy-scores"
    made = {name: named_metric(name + (boxes if name in ("detections", "map") else "")) for name in METRICS}
    both = {"labels", "PyTorch"}
    found = {
        name: {metric.against("PyTorch 2.13.0 fp32", has_labels) for has_labels in (True, False)}
        for name, metric in made.items()
    }
    assert {name for name, against in found.items() if against == {"labels"}} == {"top1", "top5", "auc", "map"}
    assert {name for name, against in found.items() if against == both} == {"mse", "mae", "r2", "f1", "miou", "wer"}
    alone = {name for name, against in found.items() if against == {"PyTorch"}}
    assert alone == {"cosine", "sqnr_db", "agreement", "detections"}
    assert {name for name, metric in made.items() if not metric.higher_is_better} == {"mse", "mae", "wer"}
    assert Mean(lambda outputs, label: 0.0, "own.py:f").against("PyTorch", True) is None


@pytest.mark.parametrize("name", ["agreement", "cosine", "sqnr_db", "agreement:logits"])
def test_labels_that_a_metric_does_not_use(name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' does not use labels, and d.npz has them.*--ignore-labels"):
        refuse_labels(make_metric(name), name, True, "d.npz")
    refuse_labels(make_metric(name), name, False, "d.npz")


@pytest.mark.parametrize("name", ["top1", "auc", "mse", "f1", "miou"])
def test_labels_that_it_uses(name: str) -> None:
    refuse_labels(make_metric(name), name, True, "d.npz")
    if name in ("top1", "auc"):
        with pytest.raises(UsageError, match=f"metric '{name}' needs labels, and d.npz has none"):
            refuse_labels(make_metric(name), name, False, "d.npz")


def test_a_value_that_says_nothing() -> None:
    exact, silent = named_metric("sqnr_db"), named_metric("sqnr_db")
    exact.add({"y": np.ones(3)}, None, {"y": np.ones(3)})
    refuse_undefined(exact, "sqnr_db", "the engine")  # all equal: infinite, and that says it
    silent.add({"y": np.ones(3)}, None, {"y": np.zeros(3)})
    with pytest.raises(DataError, match="'sqnr_db' of the engine is -inf over 1 samples"):
        refuse_undefined(silent, "sqnr_db", "the engine")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("mse,threshold=1", "metric 'mse,threshold=1' has no option 'threshold'. It takes no options."),
        ("f1,treshold=1", "has no option 'treshold'. Did you mean 'threshold'?"),
        ("f1,threshold=x", "threshold must be a number from -inf to inf, got 'x'"),
        ("f1:y,threshold=", "'threshold=' has no value. Write threshold=VALUE."),
        ("f1,ignore=1,ignore=2", "states 'ignore' twice"),
        ("f1,ignore=1.5", "ignore must be a whole number"),
        ("f1,average=mean", "average 'mean' is not known. Allowed: auto, binary, macro, micro."),
    ],
)
def test_options_that_are_wrong(spec: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        named_metric(spec)
    assert text in str(caught.value)


def test_a_comma_in_an_outputs_name_is_kept() -> None:
    metric = named_metric("mse:a,b")
    metric.add({"z": np.zeros(2), "a,b": np.ones(2)}, np.zeros(2))
    assert metric.value() == 1.0


def test_the_output_is_the_first_or_the_named_one() -> None:
    outputs = {"a": np.array([[0.0, 1.0]]), "b": np.array([[1.0, 0.0]])}
    for spec, expected in (("top1", 0.0), ("top1:a", 0.0), ("top1:b", 1.0)):
        metric = named_metric(spec)
        metric.add(outputs, 0)
        assert metric.value() == expected
    with pytest.raises(UsageError, match=r"the model has no such output. Allowed: a, b\."):
        named_metric("top1:logits").add(outputs, 0)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"metric 'top2' is not known. Did you mean 'top[15]'\?"):
        named_metric("top2")


@pytest.mark.parametrize(
    ("name", "got", "label", "reference", "text"),
    [
        ("top1", np.ones((1, 3)), None, None, "needs labels, and sample 0 has none"),
        ("mse", np.ones(3), None, None, "there are none"),
        ("mse", np.ones(3), None, np.ones(4), "the reference's output is float64 4, the engine's float64 3"),
        ("top1", np.ones((1, 3)), 3, None, "must be one of 0 to 2, got 3"),
        ("top1", np.ones((1, 3)), -1, None, "must be one of 0 to 2, got -1"),
        ("top1", np.ones((2, 3)), [1], None, "1 labels for 2 rows of scores"),
        ("top1", np.ones((1, 3)), 0.5, None, "needs class numbers as labels, got float64 scalar"),
        ("top1", np.ones((4, 1)), 0, None, "at least 2 classes on the last axis, got float64 4x1"),
        ("top1", np.array([[1, np.nan]]), 0, None, "output 'y' holds NaN at sample 0"),
        ("cosine", np.ones(2), None, np.array([np.nan, 1]), "output 'y' holds NaN"),
        ("mse", np.array(["a"]), None, np.array(["a"]), "needs numbers, and output 'y' is <?str"),
    ],
)
def test_what_cannot_be_judged(name: str, got: Array, label: object, reference: Array | None, text: str) -> None:
    with pytest.raises(DataError, match=text):
        value(name, got, label=label, reference=reference)


@pytest.mark.parametrize("name", SIMPLE)
def test_no_samples(name: str) -> None:
    with pytest.raises(DataError, match="was given no samples"):
        named_metric(name).value()


def test_the_mean_of_a_function() -> None:
    metric = Mean(lambda outputs, label: outputs["y"].sum() + label, "own.py:f", higher_is_better=False)
    metric.add({"y": np.ones(2)}, 1)
    metric.add({"y": np.ones(2)}, 3)
    assert metric.value() == 4.0
    assert not metric.higher_is_better


@pytest.mark.parametrize("result", [math.nan, math.inf, None, "x", np.ones(2)])
def test_a_function_must_return_a_finite_number(result: object) -> None:
    metric = Mean(lambda outputs, label: result, "own.py:f")  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match=r"metric own.py:f must return a finite number, got .* at sample 0"):
        metric.add({"y": np.ones(2)})

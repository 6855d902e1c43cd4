from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from edgekit.accuracy.metric import make_metric
from edgekit.errors import DataError
from edgekit.measure.bootstrap import drop_interval, metric_interval
from edgekit.measure.metrics import Metric

ORACLES = {"mse": mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}


def added(name: str, got: np.ndarray, labels: np.ndarray | None, reference: np.ndarray | None = None) -> Metric:
    """Row by row."""
    metric = make_metric(name)
    for row in range(len(got)):
        there = None if reference is None else {"y": reference[row : row + 1]}
        metric.add({"y": got[row : row + 1]}, None if labels is None else labels[row], there)
    return metric


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 4), st.sampled_from([0.0, 101325.0, -1e6]))
def test_as_scikit_learn_has_it(name: str, seed: int, rows: int, columns: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    want = random.standard_normal((rows, columns)) * 400 + offset
    got = want + random.standard_normal((rows, columns)) * 100
    expected = ORACLES[name](want, got)
    assert added(name, got, want).value() == pytest.approx(expected, rel=1e-6)
    assert added(name, got, None, want).value() == pytest.approx(expected, rel=1e-6)


def test_the_labels_are_taken_where_there_are_any() -> None:
    """A constant answer near the labels' mean is worth nothing, whatever the whole output's size."""
    want = 101325 + 400 * np.random.default_rng(0).standard_normal((500, 1))
    metric = added("r2", np.full((500, 1), 101325.0), want[:, 0], reference=want)
    assert metric.value() == pytest.approx(0.0, abs=0.02)
    assert added("mse", want, want[:, 0] + 3, reference=want).value() == pytest.approx(9.0)


def test_r2_has_an_interval_and_a_drop() -> None:
    random = np.random.default_rng(0)
    want = random.standard_normal((200, 3))
    worse, better = (added("r2", want + noise * random.standard_normal((200, 3)), want) for noise in (0.5, 0.1))
    found, drop = metric_interval(worse), drop_interval(worse, better)
    assert found is not None and found.low < found.value < found.high < 0.9
    assert drop is not None and drop.low > 0.1


def test_where_it_is_not_defined() -> None:
    with pytest.raises(DataError, match=r"does not vary: column 1 is always 7\. Give more samples"):
        added("r2", np.ones((3, 2)), np.array([[1, 7], [2, 7], [3, 7]])).value()


@pytest.mark.parametrize("label", [np.zeros(2), np.zeros((1, 2)), np.array(["a"])])
def test_labels_of_another_shape_are_never_broadcast(label: np.ndarray) -> None:
    metric = make_metric("mse")
    with pytest.raises(DataError, match=r"the label of sample 0 is .*, the output float64 1x3\..*--ignore-labels"):
        metric.add({"y": np.zeros((1, 3))}, label)

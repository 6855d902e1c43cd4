from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.context import PassContext
from edgekit.contracts import Feeds
from edgekit.errors import DataError, EngineError, UsageError
from edgekit.quantization.calibration import calibrate
from edgekit.quantization.ranges import BINS, METHODS, Histogram, _squared_error, choose

pytest.importorskip("onnxruntime")


def graph() -> ir.Model:
    """y = relu(x), z = y + y; the batch is free."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 8]))
    relu = ir.node("Relu", [x], name="relu")
    relu.outputs[0].name = "y"
    add = ir.node("Add", [relu.outputs[0], relu.outputs[0]], name="add")
    add.outputs[0].name = "z"
    for value in (relu.outputs[0], add.outputs[0]):
        value.type, value.shape = x.type, x.shape
    return ir.Model(ir.Graph([x], [add.outputs[0]], nodes=[relu, add], opset_imports={"": 20}), ir_version=10)


class Steps:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None, str]] = []

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        self.seen.append((done, total, note))


def context(samples: list[np.ndarray], **more: object) -> PassContext:
    def stream() -> Iterator[Feeds]:
        return ({"x": sample} for sample in samples)

    return PassContext(calibration=stream, calibration_samples=len(samples), **more)  # type: ignore[arg-type]


def test_minmax_is_exact_and_holds_zero() -> None:
    samples = [np.full((2, 8), 3.0, np.float32), np.full((1, 8), 5.0, np.float32)]
    assert calibrate(graph(), ["x", "y", "z"], "minmax", context(samples)) == {
        "x": (0.0, 5.0),
        "y": (0.0, 5.0),
        "z": (0.0, 10.0),
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_same_in_one_group_or_many(method: str) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((n + 1, 8)).astype(np.float32) for n in range(6)]
    whole = calibrate(graph(), ["x", "y", "z"], method, context(samples))  # type: ignore[arg-type]
    split = calibrate(graph(), ["x", "y", "z"], method, context(samples), budget_bytes=1)  # type: ignore[arg-type]
    assert whole == split
    for low, high in whole.values():
        assert low <= 0 <= high


def test_progress_counts_samples() -> None:
    steps = Steps()
    calibrate(graph(), ["y"], "mse", context([np.ones((1, 8), np.float32)] * 3, progress=steps))
    assert steps.seen == [(i, 3, f"calibration: {what}") for what in ("ranges", "distributions") for i in (1, 2, 3)]


def test_no_data_and_no_samples() -> None:
    with pytest.raises(UsageError, match=r"needs calibration data.*--data"):
        calibrate(graph(), ["y"], "minmax", PassContext())
    with pytest.raises(UsageError, match="holds no sample"):
        calibrate(graph(), ["y"], "minmax", context([]))


def test_an_infinite_activation_is_named() -> None:
    big = np.full((1, 8), 3e38, np.float32)  # z = 2y overflows
    with pytest.raises(DataError, match="activation 'z' infinite"):
        calibrate(graph(), ["y", "z"], "minmax", context([big]))


def test_the_engines_own_words_when_a_sample_does_not_fit() -> None:
    with pytest.raises(EngineError, match=r"(?s)failed on a calibration sample.*Got: 7"):
        calibrate(graph(), ["y"], "minmax", context([np.ones((1, 7), np.float32)]))


def test_the_graph_is_left_as_it_was() -> None:
    model = graph()
    before = ir.to_proto(model).SerializeToString()
    calibrate(model, ["y", "z"], "entropy", context([np.ones((1, 8), np.float32)]))
    assert ir.to_proto(model).SerializeToString() == before


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram.empty(float(values.min()), float(values.max()))
    found.add(values)
    return found


floats = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200)


@given(floats)
def test_histogram_counts_every_value_within_a_bin(values: list[float]) -> None:
    array = np.array(values, np.float32)
    found = histogram(array)
    assert found.counts.sum() == array.size
    width = (found.high - found.low) / BINS
    seen = np.repeat(found.centers(), found.counts)
    assert np.all(np.abs(np.sort(array.astype(np.float64)) - seen) <= width + 1e-6 * np.abs(array).max() + 1e-30)


@given(floats, st.sampled_from(METHODS))
def test_a_range_holds_zero_and_nothing_unseen(values: list[float], method: str) -> None:
    found = histogram(np.array(values, np.float32))
    low, high = choose(found, method)  # type: ignore[arg-type]
    assert min(found.low, 0.0) <= low <= 0 <= high <= max(found.high, 0.0)


def test_mse_beats_minmax_with_an_outlier() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[0] = 40.0
    found = histogram(values)
    centers, counts = found.centers(), found.counts.astype(float)
    errors = {m: _squared_error(centers, counts, *choose(found, m), 256) for m in METHODS}
    assert errors["mse"] == min(errors.values())
    assert errors["mse"] < 0.9 * errors["minmax"]


def test_percentile_cuts_what_it_says() -> None:
    values = np.linspace(0, 1, 10_001, dtype=np.float32)
    low, high = choose(histogram(values), "percentile", percentile=99.0)
    assert low == 0.0  # zero is always held
    assert high == pytest.approx(0.99, abs=2 / BINS + 1e-4)


def test_entropy_is_not_led_by_the_zeros_of_a_relu() -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal(200_000), 0).astype(np.float32)
    assert choose(histogram(values), "entropy")[1] > 3.0

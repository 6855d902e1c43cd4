"""Outputs near 0 that were computed near 1: what float32 cannot tell is no error, and what is gone is one."""

from __future__ import annotations

import math
import re

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekit.contracts import Tolerance
from edgekit.measure.parity import OutputParity, Parity, ParityMeter

Array = NDArray[np.floating]
FP32, INT8 = Tolerance(rel_l2=1e-3, part_db=40.0), Tolerance(sqnr_db=20.0, part_db=8.0)
LOGITS = np.random.default_rng(0).uniform(-18, -13, (8, 1, 6, 20)).astype(np.float32)  # a picture without objects


def compare(want: Array, got: Array) -> OutputParity:
    """Samples along the first axis."""
    meter = ParityMeter()
    for one, other in zip(want, got, strict=True):
        meter.add({"y": one}, {"y": other.astype(one.dtype)})
    return meter.result().outputs["y"]


def sigmoid(logits: Array) -> NDArray[np.float32]:
    """Right in each digit, as PyTorch's."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)


@pytest.fixture(scope="module")
def engine() -> NDArray[np.float32]:
    """ONNX Runtime's own sigmoid of `LOGITS`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, LOGITS.shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": LOGITS})[0])


def test_an_engines_sigmoid_is_right_wherever_it_is(engine: NDArray[np.float32]) -> None:
    exact = sigmoid(LOGITS)
    if np.array_equal(exact, engine):
        pytest.skip("this machine's ONNX Runtime computes a sigmoid exactly")
    assert np.linalg.norm(engine - exact) > 1e-3 * np.linalg.norm(exact)  # what a bound on the ratio would refuse
    for want, got in ((exact, engine), (engine, exact)):
        found = compare(want, got)
        assert found.misses(FP32) == [] and found.max_abs > 0 and found.rel_l2 == 0
        assert re.fullmatch(r"equal within 1\.\de-07", Parity({"y": found}, 8).told())


def test_beside_boxes_in_pixels_too(engine: NDArray[np.float32]) -> None:
    boxes = np.random.default_rng(1).uniform(0, 640, (8, 1, 4, 20))
    want, got = (np.concatenate([boxes, scores], 2).astype(np.float32) for scores in (sigmoid(LOGITS), engine))
    assert compare(want, got).misses(FP32) == []
    got[:, :, 4] = got[:, :, 4] + np.float32(1e-4)
    assert compare(want, got).misses(FP32) != []


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3, 1e-2])
def test_small_scores_that_are_gone_are_seen(size: float) -> None:
    near_one = np.rint(size * np.random.default_rng(0).beta(0.5, 2, (8, 1, 6, 20)) * 2**25) / 2**25
    for tolerance in (FP32, INT8):
        assert compare(near_one.astype(np.float32), np.zeros_like(near_one)).misses(tolerance)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-12, -6), st.sampled_from(["gone", "mean", "noise", "float16"]))
def test_numbers_that_are_small_by_their_unit_are_held_to_their_digits(seed: int, power: float, damage: str) -> None:
    random = np.random.default_rng(seed)
    want = (10**power * random.uniform(0.1, 1, (8, 1, 3, 20))).astype(np.float32)
    got = {
        "gone": np.zeros_like(want),
        "mean": np.full_like(want, want.mean()),
        "noise": random.permutation(want.ravel()).reshape(want.shape),
        "float16": want.astype(np.float16).astype(np.float32),
    }[damage]
    assert compare(want, got).misses(FP32)
    assert compare(want, want * np.float32(1 + 2**-22)).misses(FP32) == []


def test_a_float16_that_rounds_what_is_small_is_no_float32_near_one() -> None:
    want = np.random.default_rng(0).uniform(0, 2e-7, (8, 1, 50)).astype(np.float32)
    assert compare(want, want.astype(np.float16)).misses(Tolerance(sqnr_db=45.0, part_db=25.0))


def test_what_the_reference_has_as_zeros() -> None:
    zeros = np.zeros((8, 1, 4, 10), np.float32)
    assert compare(zeros, zeros + np.float32(1e-13)).misses(FP32) == []  # a sigmoid of −30
    assert compare(zeros, zeros + np.float32(1e-5)).misses(FP32) != []


def test_zeros_of_an_engine_whose_other_parts_tell_how_it_computes(engine: NDArray[np.float32]) -> None:
    want, got = sigmoid(LOGITS), engine.copy()
    want[:, :, 2], got[:, :, 2] = sigmoid(LOGITS[:, :, 2] - 12), 0
    assert compare(want, got).misses(FP32) == []
    assert compare(want[:, :, 2:3], got[:, :, 2:3]).misses(FP32)  # an answer of zeros alone excuses nothing


def log_softmax(logits: Array) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def test_the_log_probability_of_a_class_that_always_wins() -> None:
    logits = np.random.default_rng(0).standard_normal((64, 1, 5))
    logits[..., 2] += 18
    want = log_softmax(logits).astype(np.float32)
    noise = np.random.default_rng(1).uniform(-2e-6, 2e-6, want.shape)  # as float32 has it of logits of 18
    assert compare(want, want + noise).misses(FP32) == []
    got = want.copy()
    got[..., 1] = want[..., 1].mean()
    found = compare(want, got)
    assert found.misses(INT8) and found.part is not None and found.part.index.startswith("[:, 1")


def test_small_negative_numbers_are_no_log_probabilities() -> None:
    random = np.random.default_rng(0)
    want = np.stack([-1e-3 * random.uniform(0, 1, (64, 1)), -9 * random.uniform(0, 1, (64, 1))], -1)
    for kept in (want.astype(np.float32), want[..., :1].astype(np.float32)):
        got = kept.copy()
        got[..., 0] = kept[..., 0].mean()
        assert compare(kept, got).misses(INT8)


def test_what_is_flushed_to_zero_is_no_error() -> None:
    random = np.random.default_rng(0)
    want = np.stack([random.uniform(0, 0.3, (64, 1)), random.uniform(0, 2**-127, (64, 1))], -1).astype(np.float32)
    got = np.where(want < 2**-126, 0, want)
    assert compare(want, got).misses(FP32) == []
    assert compare(want.astype(np.float64), got).misses(FP32) != []  # float64 has those digits


def test_two_steps_of_an_output_in_float16() -> None:
    want = np.random.default_rng(0).uniform(0, 1e-6, (8, 1, 50)).astype(np.float16)
    assert compare(want, np.nextafter(want, np.float16(1))).misses(Tolerance(sqnr_db=45.0, part_db=25.0)) == []
    assert compare(want, want + np.float16(5e-6)).misses(INT8)


def test_a_first_sample_without_detections() -> None:
    meter, random = ParityMeter(), np.random.default_rng(0)
    meter.add({"y": np.zeros((1, 0, 6), np.float32)}, {"y": np.zeros((1, 0, 6), np.float32)})
    for count in (5, 7, 3):
        want = random.uniform(0, 1, (1, count, 6)).astype(np.float32)
        meter.add({"y": want}, {"y": np.where(np.arange(6) == 4, 0.5, want).astype(np.float32)})
    found = meter.result().outputs["y"]
    assert found.part is not None and found.part.index == "[:, :, 4]" and found.part.sqnr_db < 4
    assert math.isfinite(found.rel_l2)

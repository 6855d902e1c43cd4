"""A stream's error step by step, and the reference's own stream."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.accuracy import rollout
from edgekit.accuracy.drift import RESOLUTION, DriftMeter
from edgekit.accuracy.expected import ReferenceRun
from edgekit.accuracy.reference import Reference
from edgekit.accuracy.rollout import Rolled
from edgekit.contracts import Feeds, Outputs, Quiet, StatePair, TensorSpec, Tolerance
from edgekit.data.dataset import Dataset, Sample
from edgekit.errors import DataError
from edgekit.measure.stream import frame_inputs
from edgekit.results import RolloutReport

LOOSE = Tolerance(sqnr_db=-300.0)


def compared(wants: Any, gots: Any, tolerance: Tolerance = LOOSE, *, varied: bool = True) -> RolloutReport:
    meter = DriftMeter(tolerance, varied=varied)
    for want, got in zip(wants, gots, strict=True):
        meter.add({"y": np.asarray(want)}, {"y": np.asarray(got)})
    return meter.report("made", True)


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(2, 12), size=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), offset=st.floats(-1e3, 1e3))
def test_the_formula(steps: int, size: int, seed: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    want = (random.normal(size=(steps, size)) + offset).astype(np.float32)
    got = (want + random.normal(size=want.shape) * 0.1).astype(np.float32)
    found = compared(want, got)
    r, y = want.astype(np.float64), got.astype(np.float64)
    varying, energy = ((r - r.mean()) ** 2).sum(), (r**2).sum()
    signal = (varying if varying > RESOLUTION**2 * energy else energy) / steps
    each = [10 * math.log10(signal / e) for e in ((y - r) ** 2).sum(1)]
    np.testing.assert_allclose(found.steps_db, each, atol=1e-6)
    assert (found.first_db, found.last_db, found.worst_db) == (
        found.steps_db[0],
        found.steps_db[-1],
        min(found.steps_db),
    )
    assert found.steps_db[found.worst_step - 1] == found.worst_db
    tail = max(1, round(steps / 4))
    assert abs(found.tail_db - 10 * math.log10(signal / ((y - r)[-tail:] ** 2).sum(1).mean())) < 1e-6


def test_a_sigmoid_of_a_stream_in_which_nothing_happens() -> None:
    """1e-6 in each step, which an engine has to 1e-7: right, and told as that."""
    exact = 1 / (1 + np.exp(-np.random.default_rng(0).uniform(-17, -13, (16, 1, 4))))
    engine = np.rint(exact * 2**25 + np.random.default_rng(1).uniform(-3, 3, exact.shape)).clip(0) / 2**25
    found = compared(exact.astype(np.float32), engine.astype(np.float32), Tolerance(rel_l2=1e-3, part_db=40.0))
    assert found.passed and found.max_abs > 5e-8 and found.tail_db == math.inf
    gone = compared(exact.astype(np.float32) * 100, np.zeros_like(exact, np.float32), Tolerance(rel_l2=1e-3))
    assert not gone.passed and gone.tail_db < 1


def test_a_small_signal_on_a_large_offset_is_the_signal() -> None:
    want = np.array([[30.0], [30.001]], np.float32)
    found = compared(want, want + np.float32(0.1))
    assert found.worst_db == pytest.approx(20 * math.log10(0.0005 / 0.1), abs=0.1)


def test_an_error_that_grows_is_a_miss_before_the_mean_shows_it() -> None:
    want = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    error = np.where(np.arange(64) < 56, 1e-3, 0.2)[:, None].astype(np.float32)
    found = compared(want, want + error, Tolerance(sqnr_db=20))
    assert found.sqnr_db > 20 and not found.passed
    assert found.misses[0].startswith("its own state runs away: 60.")
    assert "dB over the last 16 of 64, allowed 20.0 dB" in found.misses[0]
    assert compared(want, want + 1e-3, Tolerance(sqnr_db=20)).passed
    all_over = compared(want, want + 0.5, Tolerance(sqnr_db=20))
    assert all_over.misses[0].startswith("over 64 steps with its own state: ")


def test_one_frame_again_and_again_settles_and_is_judged_by_what_it_is() -> None:
    want = np.array([[0.0, 0.0]] + [[3.0, 3.001]] * 63, np.float32)
    got = want + np.float32(0.02)
    assert compared(want, got, varied=False).tail_db == pytest.approx(43.4, abs=0.2)


def test_integers_are_counted_and_equal_streams_are_equal() -> None:
    labels = np.arange(20).reshape(5, 4)
    other = labels.copy()
    other[2, 0] += 1
    found = compared(labels, other)
    assert found.worst_step == 3 and found.worst_db == pytest.approx(10 * math.log10(4))
    assert found.first_db == math.inf
    same = compared(labels, labels, Tolerance(sqnr_db=100))
    assert same.passed and same.to_json()["worst_db"] is None


def test_an_output_that_is_not_there_or_of_another_shape_is_a_miss() -> None:
    meter = DriftMeter(LOOSE)
    meter.add({"y": np.zeros(2)}, {"y": np.zeros(3)})
    assert not meter.report("made", None).passed


PAIR = (StatePair("s", "s_out"),)
INPUTS = (TensorSpec("x", "float32", (1,)), TensorSpec("s", "float32", (1,)))


class Summing:
    """s_out = s + x, y = s; counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, feeds: Feeds) -> Outputs:
        self.runs += 1
        return {"y": feeds["s"].copy(), "s_out": feeds["s"] + feeds["x"]}


def frames(count: int) -> Dataset:
    def fetch(indices: Any) -> Any:
        return (Sample({"x": np.full(1, index + 1, "f4")}, None) for index in indices)

    return Dataset("made", "made", fetch, count, has_labels=False)


@pytest.mark.parametrize("budget_bytes", [0, 2**20])
def test_frames_get_the_state_that_the_reference_comes_to_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_bytes: int
) -> None:
    monkeypatch.setattr(rollout, "MEMORY_BUDGET_BYTES", budget_bytes)
    model = Summing()
    rolled = Rolled(frames(6), Reference("r", model), INPUTS, PAIR, {"s": np.full(1, 10, "f4")}, tmp_path)
    run = ReferenceRun(rolled.dataset(), rolled.reference, tmp_path, Quiet())
    assert model.runs == 6  # not once more for the states
    sums = [10, 11, 13, 16, 20, 25]
    for _ in range(2):
        assert [float(sample.feeds["s"][0]) for sample in run] == sums
    assert model.runs == 6
    # Some of them, in any other pass: what came before them counts all the same.
    assert [float(sample.feeds["s"][0]) for sample in rolled.dataset().take(3).samples()] == [10, 13, 20]
    fresh = Rolled(frames(6), Reference("r", model), INPUTS, PAIR, {}, tmp_path)
    assert [float(sample.feeds["s"][0]) for sample in fresh.dataset().take(2).samples()] == [0, 6]


def test_a_state_that_cannot_be_fed_again_is_refused(tmp_path: Path) -> None:
    grows = Reference("r", lambda feeds: {"s_out": np.concatenate([feeds["s"], feeds["x"]])})
    rolled = Rolled(frames(3), grows, INPUTS, PAIR, {}, tmp_path)
    with pytest.raises(DataError, match="the state 's_out' cannot be fed again: 's' must have the shape 1, got 2"):
        list(rolled.dataset().samples())


def test_data_never_hold_a_buffer_and_may_do_without_the_rest() -> None:
    inputs = (*INPUTS, TensorSpec("b", "float32", (1,)))
    found, optional = frame_inputs(inputs, (*PAIR, StatePair("b", "b_out", buffer=True)))
    assert [spec.name for spec in found] == ["x", "s"] and optional == {"s"}

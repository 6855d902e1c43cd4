"""The reference over the samples: run once, kept, judged once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.accuracy import expected
from edgekit.accuracy.expected import ReferenceRun, empty_note
from edgekit.accuracy.reference import Reference
from edgekit.contracts import Feeds, Outputs, Quiet
from edgekit.data.dataset import Dataset, Sample
from edgekit.errors import DataError

LABELS = [0, 1, 2, 1, 0]


def dataset() -> Dataset:
    def fetch(indices):  # type: ignore[no-untyped-def]
        return (Sample({"x": np.eye(3, dtype=np.float32)[[index % 3]]}, np.array([LABELS[index]])) for index in indices)

    return Dataset("made", "made", fetch, len(LABELS), has_labels=True)


class Identity:
    """Answers its input, and counts."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, feeds: Feeds) -> Outputs:
        self.runs += 1
        return {"y": feeds["x"].copy()}


@pytest.mark.parametrize("budget_bytes", [0, 2**20])
def test_run_once_and_streamed_as_often_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_bytes: int
) -> None:
    monkeypatch.setattr(expected, "MEMORY_BUDGET_BYTES", budget_bytes)
    identity = Identity()
    run = ReferenceRun(dataset(), Reference("identity", identity), tmp_path, Quiet(), "top1")
    assert len(list(tmp_path.iterdir())) == (0 if budget_bytes else len(LABELS))
    for _ in range(2):
        for sample, label in zip(run, LABELS, strict=True):
            np.testing.assert_array_equal(sample.expected["y"], sample.feeds["x"])
            assert sample.label is not None and sample.label[0] == label
    assert identity.runs == len(LABELS)
    assert run.metric == 3 / 5  # 0, 1 and 2 of the answers 0, 1, 2, 0, 1
    assert [len(run.first(count)) for count in (2, 9)] == [2, 5]


def test_without_a_metric_there_is_none(tmp_path: Path) -> None:
    assert ReferenceRun(dataset(), Reference("identity", Identity()), tmp_path, Quiet()).metric is None


def test_what_answers_nothing_cannot_be_compared(tmp_path: Path) -> None:
    """A detector that finds nothing in noise: all candidates would be exact."""
    nothing = {"boxes": np.empty((0, 4), np.float32), "scores": np.empty(0, np.float32)}
    with pytest.raises(DataError, match=r"outputs 'boxes', 'scores' are empty for every sample.*Give samples in which"):
        ReferenceRun(dataset(), Reference("none", lambda feeds: dict(nothing)), tmp_path, Quiet())
    run = ReferenceRun(dataset(), Reference("some", lambda feeds: {**nothing, "n": np.ones(1)}), tmp_path, Quiet())
    assert run.empty == ("boxes", "scores")
    found = empty_note(run.empty)
    assert found == "outputs 'boxes', 'scores' are empty for every sample: nothing of that is checked"


def test_a_reference_that_answers_nan_is_refused(tmp_path: Path) -> None:
    broken = Reference("broken", lambda feeds: {"y": np.full(3, np.nan, np.float32)})
    with pytest.raises(DataError, match=r"broken.*NaN.*output 'y'.*sample 0"):
        ReferenceRun(dataset(), broken, tmp_path, Quiet())

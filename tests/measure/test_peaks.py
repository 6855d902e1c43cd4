from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from edgekit.measure.peaks import COPY_BYTES, Peaks, from_json, measure

pytestmark = pytest.mark.alone

PEAKS = Peaks(1, 1e9, ((1000, 50.0), (10_000, 80.0), (100_000, 20.0)))


def test_this_machine_is_measured() -> None:
    peaks = measure(1)
    assert peaks.threads == 1
    assert 1e8 < peaks.macs_per_s < 1e14
    assert [size for size, _ in peaks.bytes_per_s] == list(COPY_BYTES)
    assert all(1e8 < rate < 1e13 for _, rate in peaks.bytes_per_s)


@pytest.mark.parametrize(("size", "rate"), [(1, 80.0), (1000, 80.0), (10_000, 80.0), (10_001, 20.0), (10**9, 20.0)])
def test_a_smaller_layer_is_never_given_a_lower_roof(size: int, rate: float) -> None:
    assert PEAKS.bandwidth(size) == rate


def test_peaks_survive_json() -> None:
    assert from_json(json.loads(json.dumps(asdict(PEAKS)))) == PEAKS


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="the machine's peaks could not be measured"):
        measure(1)

"""A quick slice of `benchmarks/intervals.py`: 200 series a model in place of 2,000."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SERIES = 200
RACES = 1000


def least(count: int) -> float:
    """Two standard errors below what 2,000 must reach."""
    return 0.93 - 2 * (0.95 * 0.05 / count) ** 0.5


@pytest.fixture(scope="module")
def proof() -> ModuleType:
    spec = spec_from_file_location("intervals", BENCHMARKS / "intervals.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["intervals"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_intervals_hold_the_truth_or_are_refused(proof: ModuleType) -> None:
    failed = []
    for name, model in proof.models().items():
        for row in proof.coverage(name, model, SERIES, seed=1):
            q = float(row.percentile[1:]) / 100
            answers = row.answered == 1 or not proof.must_answer(name, q)
            # A method that is refused nearly always is not judged by the few series that were not.
            holds = row.answered < 0.05 or row.coverage >= least(SERIES)
            if not (answers and holds):
                failed.append(proof.show(row))
    assert not failed, "\n".join(failed)


def test_decisions(proof: ModuleType) -> None:
    for made in proof.decisions(SERIES, seed=1):
        assert made.share <= 0.08 if made.name.startswith("A/A") else made.share >= 0.8, proof.tell(made)


@pytest.mark.slow
def test_an_exports_gain_holds(proof: ModuleType) -> None:
    for made in proof.gains(RACES, seed=1):
        assert made.share >= least(RACES), proof.tell(made)


def test_the_script_runs() -> None:
    told = subprocess.run([sys.executable, str(BENCHMARKS / "intervals.py"), "--help"], capture_output=True, text=True)
    assert told.returncode == 0 and "--series" in told.stdout

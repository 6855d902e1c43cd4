"""`benchmarks/trust.py` end to end on its quickest case; its judges on outcomes that are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_case_is_a_row() -> None:
    command = [sys.executable, str(BENCHMARKS / "trust.py"), "an exception in one candidate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    head, rule, row = done.stdout.splitlines()
    assert head.startswith("| kind | now (")
    assert rule == "|---|---|---|"
    assert row.startswith("| an exception in one candidate | onnxruntime "), (
        row
    )  # equals: which of them is picked varies
    assert row.endswith(" picked; buggy: unexpected ZeroDivisionError: division by zero | right |"), row
    assert done.returncode == 0, done.stderr


def test_an_unknown_case_is_told_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["trust.py", "no such thing"])
    import trust

    with pytest.raises(SystemExit, match="2"):
        trust.main()
    assert "no case is named like no such thing; there are: scores beside boxes" in capsys.readouterr().err


def test_judges_tell_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _trust.places import each
    from _trust.side import Done, decibels

    works, bug = Done(0, "", ""), Done(1, "", "edgekit: unexpected KeyError: 'x' (this is a bug in edgekit)")
    refused = Done(6, "", "edgekit: nothing can be written here")
    assert each({"a": works, "b": refused}, must=("a",)).right is True
    assert each({"a": works, "b": refused}, must=("a", "b")).right is False
    assert each({"a": works, "b": bug}, must=("a",)).right is False
    reference = 98_000 + 300 * np.random.default_rng(0).standard_normal(1000)
    assert abs(decibels(reference, np.full(1000, reference.mean()))) < 1e-6  # an offset alone is worth nothing
    assert round(decibels(reference, reference + 3)) == 40

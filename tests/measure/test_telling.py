"""How far an engine is: to whoever listens, else on standard error."""

from __future__ import annotations

import threading

import pytest

from edgekit.measure.telling import listening, tell


def test_whoever_listens_hears_it_from_any_thread(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, float | None]] = []
    with listening(lambda doing, share: heard.append((doing, share))):
        thread = threading.Thread(target=tell, args=("building the plan", 0.5))
        thread.start()
        thread.join()
        tell("done")
    assert heard == [("building the plan", 0.5), ("done", None)]
    assert capsys.readouterr().err == ""


def test_where_nobody_listens_lines_go_to_standard_error_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    for percent in range(100):
        tell("building the plan", percent / 100)
    tell("building the plan", 1.0)
    tell("the kept plan is not used")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == ["building the plan: 100%", "the kept plan is not used"]
    assert len(lines) <= 3


def test_listeners_nest() -> None:
    outer, inner = [], []
    with listening(lambda *item: outer.append(item)):
        with listening(lambda *item: inner.append(item)):
            tell("a")
        tell("b")
    assert (inner, outer) == ([("a", None)], [("b", None)])

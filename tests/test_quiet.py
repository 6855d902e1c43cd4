"""Libraries that talk: nothing of it reaches the terminal, and everything is put back."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from edgekit.quiet import quiet


def test_prints_warnings_and_loggers_are_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    child = logging.getLogger("talker.child")
    child.setLevel(logging.DEBUG)  # its own level wins over its parent's
    child.addHandler(logging.StreamHandler())
    with quiet("talker") as said:
        print("printed")
        print("complained", file=sys.stderr)
        warnings.warn("warned", stacklevel=1)
        child.error("logged")
    assert capfd.readouterr() == ("", "")
    assert said.getvalue() == "printed\ncomplained\n"
    assert child.level == logging.DEBUG
    child.error("again")
    assert "again" in capfd.readouterr().err


def test_what_was_printed_before_an_exception_is_a_note_of_it() -> None:
    with pytest.raises(ValueError, match="no") as caught, quiet():
        print("the reason")
        raise ValueError("no")
    assert caught.value.__notes__ == ["the reason\n"]


def test_variables_of_libraries_are_set_where_the_user_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKER_SET", "mine")
    monkeypatch.delenv("TALKER_FREE", raising=False)
    with quiet(environment={"TALKER_SET": "ours", "TALKER_FREE": "ours"}):
        assert (os.environ["TALKER_SET"], os.environ["TALKER_FREE"]) == ("mine", "ours")
    assert os.environ["TALKER_SET"] == "mine"
    assert "TALKER_FREE" not in os.environ

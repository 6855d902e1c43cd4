"""``edgekit targets new``, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli import main
from edgekit.target.load import load_target


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_tells_the_file_and_what_comes_next(folder: Path) -> None:
    result = CliRunner().invoke(main, ["targets", "new", "my-board", "--extends", "raspberry-pi-5"])
    assert result.exit_code == 0
    assert result.stdout == "my-board.toml: target 'my-board', with the 4 candidates of 'raspberry-pi-5'\n"
    assert "edgekit export SOURCE --target my-board.toml" in result.stderr
    assert load_target("./my-board.toml").measure.where == "device"
    shown = CliRunner().invoke(main, ["targets", "show", "./my-board.toml"])
    assert shown.exit_code == 0


def test_new_as_json(folder: Path) -> None:
    result = CliRunner().invoke(main, ["targets", "new", "my-board", "--extends", "cpu-arm64", "--json"])
    value = json.loads(result.stdout)
    assert result.stderr == ""
    assert (value["schema"], value["name"], value["extends"]) == (1, "my-board", "cpu-arm64")
    assert Path(value["file"]) == folder / "my-board.toml"
    assert value["candidates"] == [item.name for item in load_target("cpu-arm64").candidates]


def test_new_refuses_to_overwrite() -> None:
    words = ["targets", "new", "my-board", "--extends", "cpu-arm64"]
    assert CliRunner().invoke(main, words).exit_code == 0
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2
    assert again.stderr == "edgekit: 'my-board.toml' exists. Choose another name, or another file with -o.\n"

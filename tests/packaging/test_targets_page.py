"""docs/targets.md is what the profiles and the recorded accuracies say."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.target.load import load_target

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "targets").glob("*.toml"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_targets", ROOT / "docs" / "make_targets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_up_to_date(tool: ModuleType) -> None:
    written = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    assert written == tool.render(), "run: python docs/make_targets.py"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_says_where_it_was_verified_or_what_is_open(path: Path) -> None:
    target = load_target(path)
    told = target.verified
    assert target.abstract or any(dataclasses.astuple(told)), (
        f"add [verified] to {path.name}: see CONTRIBUTING.md, A target"
    )


def test_a_change_of_a_profile_shows(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our-gateway.toml").write_text(
        'name = "our-gateway"\nextends = "cpu-arm64"\ndescription = "Our | gateway"\n[verified]\ndevice = "rev. 3"\n'
    )
    monkeypatch.setattr(tool, "PROFILES", tmp_path)
    assert "| `our-gateway`<br>Our \\| gateway | onnxruntime: int8," in tool.render()
    assert "**the device**: rev. 3 | — |" in tool.render()


def test_a_target_that_was_tried_nowhere_is_told_as_such(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "board.toml").write_text('name = "board"\nextends = "cpu-arm64"\ndescription = "a board"\n')
    monkeypatch.setattr(tool, "PROFILES", tmp_path)
    assert "| **not at all** | — |" in tool.render()

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.errors import OutputError, UsageError
from edgekit.target.load import CANDIDATE_KEYS, KEYS, RUNTIME_KEYS, SECTIONS, load_target, profile
from edgekit.target.template import new_target

OURS = sorted(plugins.target_files())
IDENTITY = ("name", "description", "files", "origins", "abstract", "verified")


def meaning(name: str | Path) -> dict[str, object]:
    """What a profile amounts to, apart from who says so."""
    return {key: value for key, value in profile(load_target(name)).items() if key not in IDENTITY}


@pytest.mark.parametrize("parent", OURS)
def test_it_loads_at_once_and_changes_nothing(parent: str, tmp_path: Path) -> None:
    target = new_target("my-board", parent, tmp_path)
    assert target.files[:2] == (tmp_path / "my-board.toml", plugins.target_files()[parent])
    assert meaning(tmp_path / "my-board.toml") == meaning(parent)


@pytest.mark.parametrize("parent", OURS)
def test_what_the_comments_show_is_what_holds(parent: str, tmp_path: Path) -> None:
    """With every # taken away the profile amounts to the same: no shown value is stale, misplaced or no TOML."""
    path = tmp_path / "my-board.toml"
    new_target("my-board", parent, path)
    text = re.sub(r"^# (.* = …)$", r"", path.read_text(), flags=re.MULTILINE)
    shown = re.sub(r"^# ((?:[a-z_]+ = |\[\[|    \{|\]).*)$", r"\1", text, flags=re.MULTILINE)
    assert shown.count("[[candidates]]\n") == len(load_target(parent).candidates)
    path.write_text(shown)
    assert meaning(path) == meaning(parent)


def test_every_key_is_explained(tmp_path: Path) -> None:
    new_target("my-board", "cpu-arm64", tmp_path)
    text = " ".join((tmp_path / "my-board.toml").read_text().replace("\n#", " ").split())
    docs = [*KEYS.values(), *CANDIDATE_KEYS.values(), *RUNTIME_KEYS.values()]
    docs += [field.metadata["doc"] for cls in SECTIONS.values() for field in dataclasses.fields(cls)]
    for doc in docs:
        assert " ".join(doc.split()) in text, doc


def test_a_file_is_extended_by_its_place_beside_the_new_one(tmp_path: Path) -> None:
    new_target("family", "cpu-arm64", tmp_path)
    (tmp_path / "boards").mkdir()
    target = new_target("board", str(tmp_path / "family.toml"), tmp_path / "boards")
    assert 'extends = "../family.toml"' in (tmp_path / "boards/board.toml").read_text()
    assert [item.stem for item in target.files] == ["board", "family", "cpu-arm64", "cpu-base"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"my-board\.toml' exists\. Choose another name, or another file with -o"):
        new_target("my-board", "cpu-arm64", path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "parent", "file", "message"),
    [
        ("My Board", "cpu", "x.toml", "'My Board' cannot be a target's name. Allowed: lower-case letters and digits"),
        ("../board", "cpu", "x.toml", "'../board' cannot be a target's name"),
        ("", "cpu", "x.toml", "'' cannot be a target's name"),
        ("cpu", "cpu-arm64", "cpu.toml", "target 'cpu' exists already"),
        (
            "board",
            "cpu",
            "other.toml",
            "a target's file must have the name of the target: board.toml, got 'other.toml'",
        ),
        ("board", "cpuu", "board.toml", "target 'cpuu' is not known. Did you mean 'cpu'?"),
        ("board", "cpu", "gone/board.toml", "its folder does not exist"),
    ],
)
def test_bad_input_is_explained(name: str, parent: str, file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        new_target(name, parent, tmp_path / file)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []

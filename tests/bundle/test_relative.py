from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from edgekit.bundle.relative import adapters_imported, with_relative_imports

FORMS = """
import os, edgekit.deep.errors as told
import edgekit.deep.errors
from edgekit import contracts
from edgekit.deep import (
    errors,  # kept
)
def late():
    import edgekit
    from edgekit.contracts import NAME
    return edgekit.contracts.NAME + NAME
FOUND = [told.NAME, edgekit.deep.errors.NAME, contracts.NAME, errors.NAME, late(), os.sep]
"""


@pytest.mark.parametrize(("place", "depth"), [("runtimes", 1), ("runtimes/_acme", 2)])
def test_every_form_of_import_finds_the_bundles_own(
    place: str, depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / f"other_name_{depth}"
    for folder in (root, root / "deep", root / "runtimes", root / place):
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("")
    (root / "contracts.py").write_text("NAME = 'c'")
    (root / "deep" / "errors.py").write_text("NAME = 'e'")
    (root / place / "acme.py").write_text(with_relative_imports(FORMS, depth))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    module = import_module(f"{root.name}.{place.replace('/', '.')}.acme")
    assert module.FOUND[:5] == ["e", "e", "c", "e", "cc"]
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] == "edgekit"}


def test_what_is_not_edgekits_stays_to_the_byte() -> None:
    text = "import edgekit_extras\nfrom edgekits import x\nNOTE = 'import edgekit'\r\nfrom . import y  # ä\n"
    assert with_relative_imports(text, 1) == text
    assert with_relative_imports("not python at all (", 1) == "not python at all ("


def test_the_adapters_that_one_builds_on_are_told() -> None:
    text = """
from edgekit.runtimes.onnxruntime import OnnxRuntime
from edgekit.runtimes import openvino
import edgekit.runtimes.null as nothing, edgekit.contracts
from edgekit.contracts import runtimes
from .runtimes import other
"""
    assert adapters_imported(text) == {"onnxruntime", "openvino", "null"}
    assert adapters_imported("not python (") == set()

"""An engine that this process has and a bundle's self-test would not have: told before anything is built for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.api.export import export
from edgekit.contracts import Quiet
from edgekit.devices import fresh_start
from edgekit.devices.fresh_start import fresh_starts
from edgekit.errors import EngineError

ADAPTER = """
import os, signal, sys
from edgekit.errors import EngineError
from edgekit.runtimes.onnxruntime import OnnxRuntime

class Near(OnnxRuntime):
    name = "near"
    def version(self):
        how = os.environ.get("NEAR")
        if how and __name__ != "near_adapter":      # in the copy that a bundle has
            os.kill(os.getpid(), signal.SIGSEGV) if how == "dies" else int(how)
        try:
            import near_engine
        except ModuleNotFoundError as error:
            raise EngineError("near_engine is not installed", fix="Install it: pip install near-engine") from error
        return "1"
"""
NET = """
import torch

def build():
    return torch.nn.Linear(4, 2), torch.randn(1, 4)
"""
TARGET = """
name = "two"
description = "an engine near by, and one that is installed"
[measure]
where = "device"
[tolerance.fp32]
rel_l2 = 1e-4
[[candidates]]
runtime = "near"
name = "near"
precision = "fp32"
[[candidates]]
runtime = "onnxruntime"
name = "onnxruntime"
precision = "fp32"
"""
HINT = "What it needs must be installed, or be on PYTHONPATH: a changed sys.path does not reach it."
NOT_FOUND = "near_engine is not installed in a new process, as the bundle's self-test is one"


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A third party's runtime, on this process's ``sys.path`` alone."""
    (tmp_path / "near_adapter.py").write_text(ADAPTER)
    (tmp_path / "near_engine.py").touch()
    installed = tmp_path / "near-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: near\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[edgekit.runtimes]\nnear = near_adapter:Near\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._found.cache_clear()
    yield tmp_path
    plugins._found.cache_clear()
    for name in ("near_adapter", "near_engine"):
        sys.modules.pop(name, None)


def why_not(runtime: str) -> str | None:
    with fresh_starts([runtime, runtime]) as failed:
        assert not failed, "it is known at the end"
    return str(failed[runtime]) if failed else None


def test_a_changed_sys_path_does_not_reach_a_self_test(near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins.load("runtimes", "near")().version() == "1", "this process has it"
    assert why_not("near") == f"{NOT_FOUND}. {HINT} Install it: pip install near-engine"
    monkeypatch.setenv("PYTHONPATH", str(near))
    assert why_not("near") is None


@pytest.mark.parametrize(
    ("how", "why"),
    [("dies", "it was killed by SIGSEGV"), ("x", "ValueError: invalid literal for int() with base 10: 'x'")],
)
def test_a_copy_of_an_adapter_that_fails_is_told_by_its_last_words(
    near: Path, monkeypatch: pytest.MonkeyPatch, how: str, why: str
) -> None:
    monkeypatch.setenv("NEAR", how)
    head = "runtime 'near' does not start in a new process, as the bundle's self-test is one"
    assert why_not("near") == f"{head}: {why}. {HINT}"


def test_one_that_hangs_is_given_up(near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_start, "LIMIT_S", 0.01)
    assert "does not start within 0.01 s in a new process" in str(why_not("near"))


def test_no_process_is_started_where_this_one_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_start, "_started", set())
    monkeypatch.setattr(fresh_start, "_foreign", list)
    monkeypatch.setattr(fresh_start.subprocess, "Popen", None)
    assert why_not("onnxruntime") is None


def test_modules_of_a_script_beside_it_are_foreign_until_pythonpath_names_it(
    near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import near_engine  # type: ignore[import-not-found] # noqa: F401

    assert "near_engine" in fresh_start._foreign() and "numpy" not in fresh_start._foreign()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(near)]))
    assert "near_engine" not in fresh_start._foreign()


class Heard(Quiet):
    """The stages that an export came to."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str) -> AbstractContextManager[None]:
        self.stages.append(name)
        return super().stage(name)


def test_an_export_says_so_before_it_builds_anything(near: Path) -> None:
    (near / "net.py").write_text(NET)
    (near / "two.toml").write_text(TARGET)
    heard = Heard()
    with pytest.raises(EngineError, match=NOT_FOUND):
        export("net.py:build", "two.toml", candidates=["near"], progress=heard)
    assert heard.stages == ["load the model"]

    result = export("net.py:build", "two.toml")
    assert result.chosen == "onnxruntime"
    (row,) = [item for item in result.candidates if item.name == "near"]
    assert row.rejected == f"{NOT_FOUND}. {HINT} Install it: pip install near-engine" and row.size_bytes is None

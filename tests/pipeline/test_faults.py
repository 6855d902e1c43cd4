"""Real faults at each seam of an export: an engine that raises, hangs, is killed or errs, whenever it is asked.

The engine is a third party's plug-in, installed as one is: a distribution with an entry point, on the PYTHONPATH.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit import plugins
from edgekit.api.export import export
from edgekit.bundle import open_bundle
from edgekit.errors import EngineError, ParityError
from edgekit.pipeline import race

ENGINE = """
import os, pathlib, signal, time
from dataclasses import dataclass
from edgekit.runtimes.onnxruntime import OnnxRuntime

def fail(how):
    if how == "raises":
        raise RuntimeError("kernel 7 is broken")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(3600)

IN_A_BUNDLE = __name__ != "fragile_engine"    # its own copy of this file

class Session:
    def __init__(self, inner, options):
        self._inner, self._options = inner, options
    def __getattr__(self, name):
        return getattr(self._inner, name)
    def run(self, feeds):
        if self._options.where == "run":
            fail(self._options.how)
        if self._options.where == "slow":
            time.sleep(0.006)
        outputs = self._inner.run(feeds)
        if self._options.how == "errs" and IN_A_BUNDLE:
            return {name: 2 * value for name, value in outputs.items()}
        return outputs
    def bind(self, feeds):
        if self._options.where == "bind":
            fail(self._options.how)
        if self._options.where == "slow":
            return lambda: self.run(feeds)
        return self._inner.bind(feeds)

class Fragile(OnnxRuntime):
    name = "fragile"
    @dataclass(frozen=True)
    class Options:
        threads: int = 1
        how: str = ""
        where: str = ""
    def open(self, artifact, options):
        if options.where == "open":
            fail(options.how)
        if options.where == "bundle" and IN_A_BUNDLE:
            fail(options.how)
        if options.where == "second":      # in the race: the first process checked and screened it
            mark = pathlib.Path(f"opened-{options.how}")
            if mark.exists():
                fail(options.how)
            mark.touch()
        return Session(OnnxRuntime().open(artifact, OnnxRuntime.Options(threads=options.threads)), options)
"""
HEAD = """
name = "faults"
description = "engines that fail"
[measure]
processes = 2
[tolerance.fp32]
rel_l2 = 1e-4
"""
CANDIDATE = """
[[candidates]]
runtime = "{runtime}"
name = "{name}"
precision = "fp32"
options = {{ {options} }}
"""


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the engine beside ``net.py:build``."""
    (folder / "fragile_engine.py").write_text(ENGINE)
    installed = folder / "fragile_engine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile-engine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[edgekit.runtimes]\nfragile = fragile_engine:Fragile\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("EDGEKIT_ENGINE_TIMEOUT", "3")
    plugins._found.cache_clear()
    yield folder
    plugins._found.cache_clear()
    sys.modules.pop("fragile_engine", None)


def target(folder: Path, *faults: tuple[str, str], sound: bool = True) -> str:
    """A target whose candidates fail at (where, how), and a last one that does not."""
    text = HEAD
    for where, how in faults:
        text += CANDIDATE.format(
            runtime="fragile", name=f"{how} at {where}", options=f'where = "{where}", how = "{how}"'
        )
    if sound:
        text += CANDIDATE.format(runtime="onnxruntime", name="sound", options="threads = 1")
    (folder / "faults.toml").write_text(text)
    return "faults.toml"


def rejected(result: Any) -> dict[str, str]:
    return {row.name: row.rejected for row in result.candidates if row.rejected}


def test_each_fault_is_one_row_and_the_sound_engine_ships(engine: Path) -> None:
    faults = [("open", "raises"), ("run", "raises"), ("bind", "dies"), ("run", "hangs")]
    started = time.monotonic()
    result = export("net.py:build", target(engine, *faults), max_time_s=2)
    rows = rejected(result)
    assert result.chosen == "sound"
    assert list(rows) == [f"{how} at {where}" for where, how in faults]
    assert rows["raises at open"] == "RuntimeError: kernel 7 is broken"
    assert rows["raises at run"] == "RuntimeError: kernel 7 is broken"
    assert (
        "the process of runtime 'fragile_engine:Fragile' was killed by SIGKILL while it was asked to"
        in rows["dies at bind"]
    )
    assert "did not answer within 3 s when it was asked to open: its process was ended" in rows["hangs at run"]
    assert time.monotonic() - started < 60
    with open_bundle(result.bundle) as bundle:
        assert bundle.self_test().passed


def test_an_engine_that_dies_in_the_race_is_one_row_too(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SCREENING_RATIO", 1e9)  # however slow it looks beside other work, it takes part
    result = export("net.py:build", target(engine, ("second", "dies")), max_time_s=2)
    assert result.chosen == "sound"
    assert list(rejected(result)) == ["dies at second"]


def test_where_nothing_is_left_the_rows_are_the_error(engine: Path) -> None:
    with pytest.raises(EngineError, match="no candidate is left that can be measured") as caught:
        export("net.py:build", target(engine, ("second", "raises"), sound=False), max_time_s=2)
    assert caught.value.details == ("raises at second: RuntimeError: kernel 7 is broken",)
    assert not (engine / "build.edgekit").exists()


def test_a_bundle_that_fails_its_self_test_is_a_row_and_the_next_best_ships(engine: Path) -> None:
    faults = [("bundle", "raises"), ("slow", "works")]
    result = export("net.py:build", target(engine, *faults, sound=False), max_time_s=0.1)
    trace = ".edgekit/reports/build-raises-at-bundle-trace.txt"
    assert result.chosen == "works at slow" and result.self_test.startswith("self-test passed on fragile")
    assert result.pick.latency is not None and result.pick.latency.p50_s.value > 0.005
    assert rejected(result) == {
        "raises at bundle": "the bundle's self-test failed with exit code 1: RuntimeError: kernel 7 is broken. "
        f"Its trace: {trace}"
    }
    assert "in fail" in (engine / trace).read_text(), "where in the engine"
    assert result.reason.endswith("; raises at bundle failed the self-test of its bundle")


def test_where_no_bundle_passes_its_self_test_there_is_none(engine: Path) -> None:
    faults = [("bundle", "errs"), ("open", "raises")]
    with pytest.raises(ParityError, match="the bundle's self-test failed with exit code 4") as caught:
        export("net.py:build", target(engine, *faults, sound=False), max_time_s=0.1)
    said, missed, raised = caught.value.details
    assert said.startswith("self-test FAILED on fragile ")
    assert missed.startswith(f"errs at bundle: the bundle's self-test failed with exit code 4: {said[:40]}")
    assert raised == "raises at open: RuntimeError: kernel 7 is broken"
    assert not (engine / "build.edgekit").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(folder: Path) -> None:
    """A file system of 256 kB, too small for the bundle's code alone."""
    script = 'mount -t tmpfs -o size=256k none "$PWD/small" && "$@"; code=$?; ls -A small >&2; exit $code'
    (folder / "small").mkdir()
    export_it = [sys.executable, "-m", "edgekit", "export", "net.py:build", "-t", "cpu-onnxruntime", "-q",
                 "--candidate", "onnxruntime fp32", "--max-time", "1", "-o", "small/x.edgekit"]  # fmt: skip
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *export_it], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no mounts in this sandbox")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("edgekit: '"), done.stderr
    assert "free, and this export writes at least 0.3 MB there. Free some space" in done.stderr

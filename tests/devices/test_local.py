from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle, EngineUse
from edgekit.contracts import Artifact, TensorSpec
from edgekit.devices import device_for
from edgekit.devices.local import self_test, self_test_error
from edgekit.errors import BundleError, EdgekitError, EngineError, ParityError, UsageError


def test_describes_this_machine() -> None:
    found = device_for("local").describe()
    facts = {"machine", "board", "cpu", "cores", "usable_cores", "cpu_quota", "memory_bytes", "os", "python"}
    facts |= {"emulated", "url"}
    assert set(found) == facts
    assert found["url"] == "local"
    assert found["machine"] == os.uname().machine
    assert found["cores"] >= found["usable_cores"] >= 1
    assert found["memory_bytes"] > 2**28
    assert json.loads(json.dumps(found)) == found


def test_opens_a_worker() -> None:
    spec = (TensorSpec("x", "float32", (2,)),)
    artifact = Artifact(Path("none"), "onnx", "fp32", spec, spec)
    with device_for("local").open(artifact, "null", {"threads": 3}, [{"x": np.ones(2, "f")}]) as worker:
        assert worker.info.in_force["threads"] == 3
        assert worker.measure(min_runs=4).size == 4


def test_an_unknown_runtime_is_suggested() -> None:
    with pytest.raises(UsageError, match=r"runtime 'onnxruntim' is not known. Did you mean 'onnxruntime'"):
        device_for("local").open(Artifact(Path("x"), "onnx", "fp32", (), ()), "onnxruntim", {})


@pytest.mark.parametrize("url", ["", "here", "ssh", "http://x", "Local"])
def test_what_is_no_device(url: str) -> None:
    with pytest.raises(UsageError, match=r"is not a device\. Allowed: local, browser"):
        device_for(url)


ADAPTER = """
import os
import signal
import signal
import time
from dataclasses import dataclass
from .null import Null, NullSession
from ..errors import EngineError

class Fragile(Null):
    name = "fragile"
    formats = ("onnx",)
    def version(self):
        try:
            import an_engine_of_its_own
        except ModuleNotFoundError as error:
            raise EngineError("an_engine_of_its_own is not installed") from error
        return "1"
    def open(self, artifact, options):
        how = os.environ.get("FRAGILE")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(3600)
        return super().open(artifact, options)
"""


@pytest.fixture
def fragile(make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose engine lies in a folder of PYTHONPATH that is relative to the current one."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "fragile.py").write_text(ADAPTER)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "an_engine_of_its_own.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "engine")
    zeros = [({"x": np.zeros((1, 8), np.float32)}, {"y": np.zeros((1, 3), np.float32)})]
    return make_bundle(
        tmp_path / "fragile.edgekit",
        changes={"runtime": EngineUse("fragile", "1", {}, "")},
        runtime_module_file=tmp_path / "code" / "fragile.py",
        runtime_class="Fragile",
        golden=zeros,
    ).path


def test_the_self_test_runs_where_the_workers_ran(fragile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert self_test(fragile).startswith("self-test passed on fragile 1: 1 golden inputs")
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(EngineError, match=r"self-test failed with exit code 6:\n  run.py: an_engine_of_its_own is not"):
        self_test(fragile)


def test_a_self_test_that_is_killed_or_hangs_is_the_engines_failure(
    fragile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAGILE", "dies")
    with pytest.raises(EngineError, match="the bundle's self-test was killed by SIGKILL"):
        self_test(fragile)
    monkeypatch.setenv("FRAGILE", "hangs")
    with pytest.raises(EngineError, match="the bundle's self-test did not end within 3 s"):
        self_test(fragile, limit_s=3)


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        (1, ParityError, "failed with exit code 1"),
        (4, ParityError, "failed with exit code 4"),
        (6, EngineError, "failed with exit code 6"),
        (7, BundleError, "failed with exit code 7"),
        (-signal.SIGSEGV, EngineError, "was killed by SIGSEGV"),
        (-250, EngineError, "was killed by signal 250"),
    ],
)
def test_a_failed_self_test_is_the_same_error_here_and_on_a_device(
    code: int, kind: type[EdgekitError], told: str
) -> None:
    error = self_test_error(code, ["its last words"], " on ssh://pi")
    assert type(error) is kind
    assert str(error) == f"the bundle's self-test on ssh://pi {told}:\n  its last words"

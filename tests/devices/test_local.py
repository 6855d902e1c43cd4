from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from edgekit.contracts import Artifact, TensorSpec
from edgekit.devices import device_for
from edgekit.errors import UsageError


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

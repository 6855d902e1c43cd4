"""``edgekit build``: what can be told without a device that has TensorRT."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api.build import BuildResult, build
from edgekit.bundle import Bundle
from edgekit.contracts import Artifact, TensorSpec
from edgekit.devices.prepare import builds
from edgekit.errors import UsageError
from edgekit.measure.client import Worker
from edgekit.measure.machine import describe
from edgekit.report.build import build_text
from edgekit.runtimes import null


def test_a_bundle_whose_engine_builds_nothing_is_told_so(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    assert builds(bundle) == ""
    with pytest.raises(UsageError, match=r"which builds nothing on the device\. Measure it: edgekit bench"):
        build(bundle)


RESULT = BuildResult(
    bundle=Path("net.edgekit"),
    what="plan",
    runtime="tensorrt",
    version="10.3.0",
    device={
        **describe(),
        "url": "ssh://jetson",
        "board": "NVIDIA Jetson Orin Nano",
        "cpu": None,
        "machine": "aarch64",
    },
    load_s=42.0,
    first_run_s=0.004,
    placement={"TensorRT": 7},
    in_force={
        "plan": "/home/me/.cache/edgekit/tensorrt/ab.plan",
        "plan_built_now": True,
        "plan_build_s": 40.0,
        "plan_built_because": "it was built for driver 'a', here it is 'b'",
        "gpu": "Orin",
        "driver": "Linux R36.4.0",
    },
)


def test_the_json_and_the_text_say_what_was_built_where_and_why(holds_schema: Callable[[str, Any], None]) -> None:
    value = json.loads(json.dumps(RESULT.to_json()))
    holds_schema("build", value)
    assert (value["schema"], value["built"], value["build_s"], value["path"]) == (
        1,
        True,
        40.0,
        "/home/me/.cache/edgekit/tensorrt/ab.plan",
    )
    text = build_text(value, False, 100)
    for words in (
        "built in 40",
        "it was built for driver 'a'",
        "tensorrt 10.3.0 on Orin",
        "7 on TensorRT",
        "ssh://jetson",
    ):
        assert words in text


class Slow:
    """A runtime whose first open takes long, and tells."""

    name = "slow"
    formats = ("onnx",)
    install = "pip install slow"
    prepares = "plan"

    Options = null.PLUGIN.Options

    def version(self) -> str:
        return "1.0"

    def open(self, artifact: Artifact, options: Any) -> Any:
        from edgekit.measure.telling import tell

        tell("reading the model")
        for step in range(1, 5):
            tell("building the plan", step / 4)
        return null.PLUGIN().open(artifact, options)


def test_a_worker_passes_on_what_its_engine_tells(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    spec = TensorSpec("x", "float32", (1,))
    artifact = Artifact(tmp_path / "m.onnx", "onnx", "fp32", (spec,), (spec,))
    artifact.path.write_bytes(b"")
    program = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}];from edgekit.measure.worker import main; main()"
    )
    command = [sys.executable, "-c", program]
    feeds = [{"x": np.ones(1, np.float32)}]
    with Worker(command, artifact, "test_build:Slow", {}, feeds, lambda *item: told.append(item)) as worker:
        assert worker.info.version == "1.0"
        assert len(worker.measure(min_runs=3, max_runs=3)) == 3
    assert told == [("reading the model", None), *(("building the plan", step / 4) for step in range(1, 5))]

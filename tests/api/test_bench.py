from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api.bench import bench
from edgekit.bundle import Bundle, EngineUse, pack
from edgekit.contracts import Quiet
from edgekit.errors import BundleError, EngineError, PlacementError, UsageError
from edgekit.measure.benchmark import dumps, to_text

pytestmark = pytest.mark.alone


def test_the_json_is_what_the_design_says(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    result = bench(bundle.path, seconds=0.5, processes=3)
    value = json.loads(dumps(result.to_json()))
    assert value["schema"] == 1
    assert value["bundle"] == str(bundle.path)
    assert value["device"]["cores"] >= 1
    assert value["runtime"]["name"] == "onnxruntime"
    assert value["runtime"]["options"] == {"threads": 1}
    assert value["placement"] == {"CPU": 1}
    latency = value["latency"]
    for key in ("p50_s", "p90_s", "p99_s"):
        if latency[key] is None:  # this machine was too noisy just now: it must say so
            assert value["not_measured"][f"latency.{key}"].startswith(f"{key.removesuffix('_s')} needs ")
            assert key != "p50_s" or value["verdict"] == "noisy"
        else:
            assert 0 < latency[key]["low"] <= latency[key]["value"] <= latency[key]["high"]
            assert latency[key]["value"] < 0.1
    assert latency["confidence"] == 0.95
    assert latency["processes"] == 3
    times = np.concatenate([block for process in result.measured.samples for block in process])
    assert value["throughput_per_s"] == pytest.approx(1 / times.mean())
    assert value["memory"]["model_bytes"] == bundle.model_bytes
    assert value["memory"]["peak_rss_bytes"] > 2**24
    assert (value["energy_j"] is None) == bool(value["not_measured"].get("energy_j"))
    assert value["verdict"] in ("steady", "noisy", "drifting")
    assert bool(value["reasons"]) == (value["verdict"] != "steady")


def test_a_bundle_for_another_machine_is_never_steady_here(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(changes={"arch": ("riscv64",)})
    value = bench(bundle, seconds=0.1, processes=1).to_json()
    assert value["verdict"] == "noisy"
    assert value["reasons"][0].startswith("made for riscv64, measured on ")
    done = subprocess.run(
        [sys.executable, "run.py", "bench", "--json", "--seconds", "0.1", "--processes", "1"],
        cwd=bundle.path,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["reasons"][0].startswith("made for riscv64, measured on ")


def test_a_packed_bundle_is_measured_too(make_bundle: Callable[..., Bundle]) -> None:
    packed = pack(make_bundle().path)
    result = bench(packed, seconds=0.1, processes=1, threads=2)
    assert result.bundle == packed
    assert result.measured.infos[0].in_force["threads"] == 2


def test_what_n_cannot_support_is_null_with_its_reason(make_bundle: Callable[..., Bundle]) -> None:
    value = bench(make_bundle().path, seconds=0.1, processes=1).to_json()
    assert value["latency"]["n"] > 662  # this model is too quick to be refused anything
    few = {**value, "latency": {**value["latency"], "p99_s": None}}
    few["not_measured"] = {**value["not_measured"], "latency.p99_s": "p99 needs 662 samples, have 200"}
    assert "p99   not stated: p99 needs 662 samples, have 200" in to_text(few)


def test_a_slow_model_is_run_until_there_is_something_to_say(
    make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.devices.local import LocalDevice, Worker

    (tmp_path / "sleepy.py").write_text(
        "import time\n"
        "from edgekit.runtimes.null import Null, NullSession\n"
        "class Session(NullSession):\n"
        "    def bind(self, feeds):\n"
        "        return lambda: time.sleep(0.02)\n"
        "class Sleepy(Null):\n"
        "    def open(self, artifact, options):\n"
        "        return Session(artifact, options.threads)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def open_sleepy(self: LocalDevice, artifact: Any, runtime: str, options: Any, feeds: Any) -> Worker:
        from edgekit.devices import local

        return Worker(local._COMMAND, artifact, "sleepy:Sleepy", options, feeds)

    monkeypatch.setattr(LocalDevice, "open", open_sleepy)
    start = time.monotonic()
    result = bench(make_bundle().path, seconds=0.4, processes=2)
    assert time.monotonic() - start < 8
    summary = result.measured.summary
    assert 20 <= summary.n < 300
    assert summary.p50 is not None and 0.02 <= summary.p50.value < 0.03
    assert summary.p99 is None
    assert result.to_json()["latency"]["p99_s"] is None
    assert result.to_json()["not_measured"]["latency.p99_s"].startswith("p99 needs 662 samples, have ")
    assert result.to_json()["throughput_per_s"] == pytest.approx(50, rel=0.4)


def test_progress_is_told(make_bundle: Callable[..., Bundle]) -> None:
    class Told(Quiet):
        steps: list[tuple[int, int | None]] = []  # noqa: RUF012 - one test

        def step(self, done: int, total: int | None = None, note: str = "") -> None:
            self.steps.append((done, total))

    bench(make_bundle().path, seconds=0.2, processes=1, progress=Told())
    assert Told.steps[-1] == (200, 200)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seconds": 0.0}, "the time to measure must be more than 0 seconds, got 0"),
        ({"seconds": float("nan")}, "must be more than 0 seconds, got nan"),
        ({"processes": 0}, "the number of processes must be 1 or more, got 0"),
        ({"device": "moon"}, "'moon' is not a device"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
    ],
)
def test_options_that_cannot_be(make_bundle: Callable[..., Bundle], options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        bench(make_bundle().path, **{"seconds": 0.1, **options})


def test_an_engine_that_is_not_installed(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(changes={"runtime": EngineUse("nothing", "1", {}, "pip install nothing")})
    with pytest.raises((EngineError, UsageError), match="'nothing'"):
        bench(bundle.path, seconds=0.1)


def test_a_bundle_without_golden_inputs(make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(UsageError, match="holds no golden inputs to measure with"):
        bench(make_bundle(golden=[]).path, seconds=0.1)


def test_a_damaged_bundle_is_not_measured(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle()
    (bundle.path / "run.py").write_text("")
    with pytest.raises(BundleError, match=r"'run.py' in '.*' is damaged"):
        bench(bundle.path)
    assert not (tmp_path / ".edgekit").exists()


def test_memory_is_told_above_the_idle_engine(make_bundle: Callable[..., Bundle]) -> None:
    value = bench(make_bundle().path, seconds=0.1, processes=1).to_json()
    memory = value["memory"]
    assert 0 < memory["peak_above_engine_bytes"] < memory["peak_rss_bytes"]
    assert memory["device_bytes"] is None
    assert "does not report" in value["not_measured"]["memory.device_bytes"]


def test_a_profile_is_measured_where_it_is_asked_for(make_bundle: Callable[..., Bundle]) -> None:
    layers = (
        b'{"schema":1,"dims":{},"nodes":[{"name":"","op_type":"MatMul","module":"head","macs":24,'
        b'"inputs":["x","w"],"outputs":["y"]}],"tensors":{"x":{"elements":8,"bytes":32,"constant":false},'
        b'"w":{"elements":24,"bytes":96,"constant":true},"y":{"elements":3,"bytes":12,"constant":false}}}'
    )
    bundle = make_bundle(layers=layers)
    plain = bench(bundle.path, seconds=0.1, processes=1).to_json()
    assert plain["profile"] is None and plain["not_measured"]["profile"] == "not asked for: --profile"
    value = json.loads(dumps(bench(bundle.path, seconds=0.1, processes=1, profile=True).to_json()))
    (layer,) = value["profile"]["layers"]
    assert layer["op_type"] == "MatMul" and layer["modules"] == ["head"]
    assert layer["macs"] == 24 and layer["bytes"] == 32 + 96 + 12
    assert layer["share"] == 1.0 and layer["time_s"] > 0 and 0 < layer["of_limit"] < 1
    assert value["profile"]["peaks"]["threads"] == 1
    assert "µs   head MatMul" in to_text(value)
    from edgekit.report.bench import bench_text

    assert "  head" in bench_text(value, False, 100)


def test_the_processes_stay_on_their_cores(make_bundle: Callable[..., Bundle]) -> None:
    core = max(os.sched_getaffinity(0))
    bundle = make_bundle()
    value = bench(bundle.path, seconds=0.1, processes=1, cores=[core], nice=19).to_json()
    assert value["pinned"]["cores"] == [core] and value["pinned"]["nice"] == 19


def test_a_bundle_exported_for_another_device_is_not_measured(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(changes={"placement": {"CUDA": 1}})
    with pytest.raises(PlacementError, match="1 of 1 nodes run on the CPU here; the bundle was exported with all of"):
        bench(bundle.path, seconds=0.1, processes=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize("more", [(), (0,)], ids=["none of them", "some of them"])
def test_cores_that_are_not_there_are_told_at_once(make_bundle: Callable[..., Bundle], more: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"a process cannot be kept on cores .*4000 there, only on 0"):
        bench(make_bundle(), cores=(*more, 4000))

"""Worker and client together: real processes, real engines, and engines that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.contracts import Artifact
from edgekit.errors import EngineError, UsageError
from edgekit.measure.client import Worker

pytestmark = pytest.mark.alone

COMMAND = [sys.executable, "-P", "-m", "edgekit.measure.worker"]
FEEDS = [{"x": np.full((1, 8), value, np.float32)} for value in (0.0, 1.0, 2.0)]

MISBEHAVING = """
import os, signal, sys, time
from edgekit.runtimes.null import Null, NullSession

class Base(Null):
    def open(self, artifact, options):
        return self.session(artifact, options.threads)

class Chatter(Base):
    class session(NullSession):
        def run(self, feeds):
            print("python chatter", flush=True)
            os.write(1, b"chatter on fd 1 ")
            return super().run(feeds)

class Crash(Base):
    class session(NullSession):
        def bind(self, feeds):
            def call():
                sys.stderr.write("about to fail\\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGSEGV)
            return call

class Refusing(Base):
    def open(self, artifact, options):
        raise RuntimeError("no kernel for Foo(7)\\nsecond line")

class Slow(Base):
    class session(NullSession):
        def bind(self, feeds):
            return lambda: time.sleep(60)

class Exits(Base):
    def open(self, artifact, options):
        os._exit(3)
"""


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "misbehaving"


def open_worker(artifact: Artifact, runtime: str = "onnxruntime", options: Any = None, feeds: Any = FEEDS) -> Worker:
    return Worker(COMMAND, artifact, runtime, options or {"threads": 1}, feeds)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "null"])
def test_opens_measures_and_runs(linear: Artifact, runtime: str) -> None:
    with open_worker(linear, runtime) as worker:
        info = worker.info
        assert info.version
        assert info.in_force["threads"] == 1
        assert info.first_run_s is not None
        assert info.cold_start_s > info.import_s + info.load_s + info.first_run_s > 0
        samples = worker.measure(0.02, min_runs=5, warmup_s=0.01)
        assert samples.size >= 5
        assert samples.min() >= 0 and np.median(samples) < 0.01
        assert worker.measure(min_runs=3, max_runs=3).shape == (3,)
        outputs = worker.run_many(FEEDS)
        want = [feeds["x"] @ np.add.outer(np.arange(8), np.arange(3)).astype("f") for feeds in FEEDS]
        if runtime != "null":
            for got, expected in zip(outputs, want, strict=True):
                np.testing.assert_allclose(got["y"], expected, rtol=1e-6)
            assert info.placement.counts() == {"CPU": len(info.placement.nodes)}
        memory = worker.memory()
        assert memory.peak_rss_bytes is not None and memory.rss_before_open_bytes is not None
        assert 2**20 < memory.rss_before_open_bytes <= memory.peak_rss_bytes < 2**30


def test_memory_is_the_workers_own(linear: Artifact) -> None:
    # ru_maxrss would be inherited from this process, which holds this array while the worker starts.
    ballast = np.ones(2**26)
    with open_worker(linear, "null") as worker:
        peak = worker.memory().peak_rss_bytes
    assert peak is not None and peak < ballast.nbytes


def test_reopens_with_other_options(linear: Artifact) -> None:
    with open_worker(linear) as worker:
        before = worker.info
        worker.reopen({"threads": 2})
        assert worker.info.in_force["threads"] == 2
        assert before.in_force["threads"] == 1
        assert worker.measure(min_runs=2).size >= 2


def test_without_inputs_it_only_runs(linear: Artifact) -> None:
    with open_worker(linear, feeds=()) as worker:
        assert worker.info.first_run_s is None
        assert worker.run(FEEDS[1])["y"].tolist() == [[28.0, 36.0, 44.0]]
        with pytest.raises(EngineError, match="nothing to measure: the worker was opened without inputs"):
            worker.measure(min_runs=1)


def test_errors_leave_the_worker_usable(linear: Artifact) -> None:
    with open_worker(linear) as worker:
        with pytest.raises(EngineError, match="'x'"):
            worker.run({"x": np.ones((1, 8), np.int64)})
        assert worker.run(FEEDS[0])["y"].shape == (1, 3)


def test_a_wrong_option_is_the_users_error(linear: Artifact) -> None:
    with pytest.raises(UsageError, match=r"has no option 'thread'. Did you mean 'threads'"):
        open_worker(linear, options={"thread": 1})


@pytest.mark.parametrize("name", ["nothing", "../x", "_ort", "os.path"])
def test_an_unknown_runtime(linear: Artifact, name: str) -> None:
    with pytest.raises(EngineError, match="is not"):
        open_worker(linear, name)


def test_a_file_the_engine_refuses(linear: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    broken = Artifact(tmp_path / "model.onnx", "onnx", "fp32", linear.inputs, linear.outputs)
    with pytest.raises(EngineError, match=r"model\.onnx"):
        open_worker(broken)


def test_an_engines_chatter_does_no_harm(linear: Artifact, misbehaving: str) -> None:
    with open_worker(linear, f"{misbehaving}:Chatter") as worker:
        for _ in range(3):
            assert worker.run(FEEDS[0])["y"].shape == (1, 3)


def test_a_crash_names_the_signal_and_the_last_words(linear: Artifact, misbehaving: str) -> None:
    with open_worker(linear, f"{misbehaving}:Crash") as worker:
        with pytest.raises(EngineError) as caught:
            worker.measure(min_runs=1)
        text = str(caught.value)
        assert "the process of runtime 'misbehaving:Crash' was killed by SIGSEGV while it was asked to measure" in text
        assert "about to fail" in text


def test_an_exit_tells_its_code(linear: Artifact, misbehaving: str) -> None:
    with pytest.raises(EngineError, match="ended with exit code 3 while it was asked to open"):
        open_worker(linear, f"{misbehaving}:Exits")


def test_an_exception_of_the_engine(linear: Artifact, misbehaving: str) -> None:
    with pytest.raises(EngineError) as caught:
        open_worker(linear, f"{misbehaving}:Refusing")
    assert str(caught.value) == "RuntimeError: no kernel for Foo(7):\n  second line"


def test_a_kill_suggests_memory(linear: Artifact) -> None:
    with open_worker(linear) as worker:
        worker._process.kill()
        with pytest.raises(EngineError, match=r"SIGKILL while it was asked to run.*Was the memory enough"):
            worker.run(FEEDS[0])


def test_a_closed_worker_says_so(linear: Artifact) -> None:
    worker = open_worker(linear)
    worker.close()
    worker.close()
    with pytest.raises(EngineError, match="the worker of 'onnxruntime' is closed"):
        worker.run(FEEDS[0])


def test_what_cannot_be_started(linear: Artifact) -> None:
    with pytest.raises(EngineError, match="cannot start the worker /no/python: No such file"):
        Worker(["/no/python"], linear, "null", {})


def test_what_is_no_worker(linear: Artifact) -> None:
    with pytest.raises(EngineError, match="ended with exit code 0 while it was asked to open"):
        Worker([sys.executable, "-c", "pass"], linear, "null", {})


def test_idle_workers_use_no_cpu(linear: Artifact) -> None:
    with open_worker(linear) as worker:
        worker.measure(min_runs=10)
        time.sleep(0.2)  # an engine's threads may spin for a moment after a run
        before = _cpu_ticks(worker._process.pid)
        time.sleep(0.5)
        assert _cpu_ticks(worker._process.pid) - before <= 1


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_ctrl_c_is_the_hosts_affair(linear: Artifact) -> None:
    with open_worker(linear) as worker:
        os.kill(worker._process.pid, signal.SIGINT)
        assert worker.measure(min_runs=3).size >= 3


def test_closing_does_not_wait_for_a_busy_engine(linear: Artifact, misbehaving: str) -> None:
    worker = open_worker(linear, f"{misbehaving}:Slow")
    worker._process.stdin.write(  # type: ignore[union-attr]
        b'{"command": "measure", "seconds": 1, "min_runs": 1, "max_runs": 1, "warmup_s": 0, "blobs": []}\n'
    )
    worker._process.stdin.flush()  # type: ignore[union-attr]
    time.sleep(0.2)
    start = time.perf_counter()
    worker.close()
    assert time.perf_counter() - start < 3


HOST = """
import sys, time
import numpy as np
from edgekit.measure.client import Worker
from edgekit.contracts import Artifact, TensorSpec
from pathlib import Path
spec = (TensorSpec("x", "float32", (1, 8)),)
worker = Worker([sys.executable, "-P", "-m", "edgekit.measure.worker"], Artifact(Path("x"), "onnx", "fp32", spec, spec),
                "misbehaving:Slow", {}, [{"x": np.ones((1, 8), "f")}])
print(worker._process.pid, flush=True)
worker.measure(60)
"""


def test_a_killed_host_leaves_no_orphan(misbehaving: str) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    time.sleep(0.3)  # the worker is in the middle of a run
    host.kill()
    host.wait()
    host.stdout.close()
    end = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_starting_is_light() -> None:
    code = (
        "import sys, edgekit.measure.worker\n"
        "print(sorted({'click', 'torch', 'onnx', 'onnxruntime', 'openvino', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

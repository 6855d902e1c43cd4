"""Shared by all tests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings

from edgekit.bundle import Bundle, EngineUse, Manifest, write_bundle
from edgekit.contracts import Artifact, PassRecord, TensorSpec, Tolerance
from edgekit.errors import EngineError
from edgekit.runtimes._onnxruntime_web.package import Package

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
collect_ignore = ["third_party"]  # packages of their own: tests/packaging/test_third_party.py installs them
IN_CI = os.environ.get("CI") == "true"

# The same examples for everybody: a change is judged by what it changes. `--hypothesis-profile wide` looks for new
# ones, and what it finds is mended before it can stop somebody else.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("wide", derandomize=False, deadline=None)
settings.load_profile("same")


def pytest_configure() -> None:
    """Let signals stop the programs that tests start: what runs in the background of a shell inherits them ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Under pytest-xdist a test marked ``alone`` runs while no other one does: it asserts what it measured."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    import fcntl

    folder = item.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]  # of all the workers
    with (folder / "turn").open("w") as turn, (folder / "running").open("w") as running:
        # Who waits to be alone holds the turn meanwhile, so that nobody begins anew before him.
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true nothing may be left out: a skipped test fails with the reason it gave."""
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself (``pytest.importorskip``)."""
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report: Report) -> Report:
    # An expected failure (xfail) also reports "skipped", but it did run.
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {reason}"
    return report


@pytest.fixture(autouse=True)
def results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are kept while a test runs: never in the checkout."""
    folder = tmp_path / ".edgekit" / "results"
    monkeypatch.setenv("EDGEKIT_RESULTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def holds_schema() -> Callable[[str, Any], None]:
    """``holds_schema("results list", value)``: the object is as docs/schemas says that the command's --json is."""
    import jsonschema

    def check(command: str, value: Any) -> None:
        path = Path(__file__).parents[1] / "docs" / "schemas" / f"{command.replace(' ', '-')}.schema.json"
        schema = json.loads(path.read_text(encoding="utf-8"))
        validator = jsonschema.Draft202012Validator(schema)
        errors = [error for found in validator.iter_errors(value) for error in (found.context or [found])]
        assert not errors, f"edgekit {command} --json:\n" + "\n".join(
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors
        )

    return check


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser."""
    from edgekit.runtimes._onnxruntime_web.browser import INSTALL, find_browser

    try:
        return find_browser()
    except EngineError:
        pytest.skip(f"no Chromium: {INSTALL}")


@pytest.fixture(scope="session")
def web_engine(chromium: str) -> Package:
    """The files of onnxruntime-web, which npm fetches once into the user's cache; a browser is there as well."""
    from edgekit.runtimes._onnxruntime_web.package import can_fetch, find_package, get_package

    if find_package() is None and not can_fetch():
        pytest.skip("no npm to fetch onnxruntime-web with: apt install npm")
    return get_package()


WEIGHT = np.add.outer(np.arange(8), np.arange(3)).astype(np.float32)


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """y = x · W as an ONNX file alone in its folder: x [1, 8] → y [1, 3], W[i, j] = i + j."""
    import onnx
    from onnx import helper, numpy_helper

    path = tmp_path_factory.mktemp("linear") / "model.onnx"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    inputs, outputs = (TensorSpec("x", "float32", (1, 8)),), (TensorSpec("y", "float32", (1, 3)),)
    return Artifact(path, "onnx", "fp32", inputs, outputs)


@pytest.fixture
def make_bundle(linear: Artifact, tmp_path: Path) -> Callable[..., Bundle]:
    """Writes a bundle of `linear`, by default ``linear.edgekit`` for ONNX Runtime, with true golden outputs.

    ``changes`` go to the manifest; the other keywords replace those of `write_bundle`.
    """
    from edgekit.runtimes import onnxruntime

    random = np.random.default_rng(0)
    inputs = [random.standard_normal((1, 8)).astype(np.float32) for _ in range(3)]

    def make(
        destination: Path = tmp_path / "linear.edgekit", changes: dict[str, Any] | None = None, **keywords: Any
    ) -> Bundle:
        values: dict[str, Any] = {
            "name": "linear",
            "target": "cpu",
            "precision": "fp32",
            "runtime": EngineUse("onnxruntime", "1.0", {"threads": 1}, "pip install onnxruntime"),
            "artifact_file": "model/model.onnx",
            "artifact_format": "onnx",
            "inputs": linear.inputs,
            "outputs": linear.outputs,
            "placement": {"CPU": 1},
            "parity": {"sqnr_db": 130.0},
            "metric": None,
            "passes": (PassRecord("fold", True, "folded 1", {"deep": True}, 2, 1, 0.1),),
            "source": {"spec": "net.py:build"},
            "calibration": None,
            "versions": {"edgekit": "0"},
            "created": "2026-01-01T00:00:00+00:00",
            **(changes or {}),
        }
        arguments: dict[str, Any] = {
            "manifest": Manifest(**values),
            "model_dir": linear.path.parent,
            "golden": [({"x": x}, {"y": x @ WEIGHT}) for x in inputs],
            "golden_tolerance": Tolerance(rel_l2=1e-4),
            "readme": "# linear\n",
            "runtime_module_file": Path(str(onnxruntime.__file__)),
            **keywords,
        }
        return write_bundle(destination, **arguments)

    return make


@pytest.fixture(scope="session")
def htp() -> Any:
    """The adapter to Qualcomm's HTP, whose libraries load here; emulated on x86-64."""
    from edgekit.errors import EngineError
    from edgekit.runtimes.onnxruntime_qnn import OnnxRuntimeQnn

    runtime = OnnxRuntimeQnn()
    try:
        runtime.version()
    except EngineError as error:
        pytest.skip(f"needs Qualcomm's HTP emulator (x86-64, glibc 2.35): {runtime.install} ({error.what})")
    return runtime


@pytest.fixture
def onnx_chain(tmp_path: Path) -> Callable[..., Artifact]:
    """Writes an ONNX file of operators of one input each, one after the other: x [1, 8] → y [1, 8].

    The nodes are called ``node_0``, ``node_1``, …, and come from the PyTorch modules ``layers.0``, ``layers.1``, ….
    """
    import onnx
    from onnx import helper

    def make(*operators: str, shape: tuple[int | str, ...] = (1, 8), name: str = "chain.onnx") -> Artifact:
        values = ["x", *(f"t{index}" for index in range(1, len(operators))), "y"]
        nodes = []
        for index, operator in enumerate(operators):
            node = helper.make_node(operator, [values[index]], [values[index + 1]], name=f"node_{index}")
            node.metadata_props.add(key="edgekit.module", value=f"layers.{index}")
            nodes.append(node)
        ends = [[helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, shape)] for value in "xy"]
        graph = helper.make_graph(nodes, "chain", *ends)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / name)
        x, y = (TensorSpec(value, "float32", shape) for value in "xy")
        return Artifact(tmp_path / name, "onnx", "fp32", (x,), (y,))

    return make

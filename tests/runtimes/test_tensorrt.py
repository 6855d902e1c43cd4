"""The adapter to TensorRT, as far as a machine without a GPU can tell.

NVIDIA's builder and parser run here for real, in TensorRT-RTX, whose API is TensorRT's: plans are built, refused and
interrupted. Running a plan needs a GPU. The API of TensorRT itself was recorded from its packages
(`record_tensorrt_api`): every member that the adapter uses must be there, in each version.
"""

from __future__ import annotations

import ast
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit.runtimes
from edgekit.contracts import Artifact, TensorSpec
from edgekit.errors import EngineError
from edgekit.measure.telling import listening
from edgekit.runtimes import _tensorrt
from edgekit.runtimes._cuda import Gpu, cuda_version
from edgekit.runtimes._tensorrt_build import Log, Phases, build_plan, needs_weak_typing
from edgekit.runtimes._tensorrt_recipe import Recipe, ShapeRange
from edgekit.runtimes._tensorrt_session import read_layers, size_bytes
from edgekit.runtimes.tensorrt import TensorRt
from edgekit.runtimes.tensorrt_rtx import TensorRtRtx

FOLDER = Path(next(iter(edgekit.runtimes.__path__)))
RECORDED: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())
INSTALL = "pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"


@pytest.fixture(scope="module")
def trt() -> Any:
    try:
        return TensorRtRtx().load()
    except EngineError:
        pytest.skip(f"needs TensorRT-RTX: {INSTALL}")


def convolution(path: Path, batch: int | str = 1, op_type: str = "Relu") -> Path:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node(op_type, ["c"], ["y"], name="act")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_plan_is_built_and_says_how_far_it_is(trt: Any, tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    with listening(lambda doing, share: told.append((doing, share))):
        plan = build_plan(trt, Log(trt), convolution(tmp_path / "model.onnx"), Recipe("fp32"))
    assert len(plan) > 10_000
    assert told[0] == ("reading the model", None) and told[-1] == ("building the plan", 1.0)
    shares = [share for _, share in told[1:] if share is not None]
    assert shares == sorted(shares)


def test_free_dimensions_are_planned_for(trt: Any, tmp_path: Path) -> None:
    model = convolution(tmp_path / "model.onnx", "batch")
    with pytest.raises(EngineError, match="no optimization profile has been defined"):
        build_plan(trt, Log(trt), model, Recipe("fp32"))
    shapes = ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (16, 3, 8, 8))
    assert build_plan(trt, Log(trt), model, Recipe("fp32", {"x": shapes}))
    with pytest.raises(EngineError, match="has a profile for 'z', which is not an input of the model"):
        build_plan(trt, Log(trt), model, Recipe("fp32", {"z": shapes}))


def test_a_refused_node_is_named_with_the_parsers_reason(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        build_plan(trt, Log(trt), convolution(tmp_path / "model.onnx", op_type="Det"), Recipe("fp32"))
    assert caught.value.what == "TensorRT refuses model.onnx"
    assert caught.value.details[0].startswith("Det  (act)  ")


def test_a_dla_that_is_not_there_is_refused(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the recipe wants DLA core 0, this machine has 0"):
        build_plan(trt, Log(trt), convolution(tmp_path / "model.onnx"), Recipe("fp16", dla_core=0))


def test_an_interrupt_ends_the_build(trt: Any, tmp_path: Path) -> None:
    def interrupt(doing: str, share: float | None) -> None:
        if share is not None:
            raise KeyboardInterrupt

    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        build_plan(trt, Log(trt), convolution(tmp_path / "model.onnx"), Recipe("fp32"))


def test_without_a_gpu_a_plan_cannot_be_loaded_and_that_is_said(trt: Any, tmp_path: Path) -> None:
    log = Log(trt)
    plan = build_plan(trt, log, convolution(tmp_path / "model.onnx"), Recipe("fp32"))
    try:
        TensorRtRtx().version()
    except EngineError as error:
        assert "no NVIDIA driver here" in error.what or "CUDA" in error.what
    else:
        pytest.skip("this machine has a GPU; the test is about machines without: unset CUDA_VISIBLE_DEVICES is no help")
    assert trt.Runtime(log.native).deserialize_cuda_engine(plan) is None
    assert any("CUDA driver version is insufficient" in line for line in log.take())


@pytest.mark.parametrize("runtime", [TensorRt, TensorRtRtx])
def test_opening_says_what_is_missing(runtime: Any, tmp_path: Path) -> None:
    model = convolution(tmp_path / "model.onnx")
    (tmp_path / "recipe.json").write_bytes(Recipe("fp32").dumps())
    spec = TensorSpec("x", "float32", (1, 3, 8, 8))
    artifact = Artifact(model, "tensorrt", "fp32", (spec,), (TensorSpec("y", "float32", (1, 4, 6, 6)),))
    try:
        runtime().version()
    except EngineError as missing:
        with pytest.raises(EngineError) as caught:
            runtime().open(artifact, runtime.Options())
        assert caught.value.what == missing.what and caught.value.fix
    else:
        session = runtime().open(artifact, runtime.Options())  # a machine that has it: then it must work
        assert session.run({"x": np.ones((1, 3, 8, 8), np.float32)})["y"].shape == (1, 4, 6, 6)
        session.close()


def test_a_driver_older_than_the_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "tensorrt_cu13_bindings-11.4.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt-cu13-bindings\nVersion: 11.4.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert _tensorrt.cuda_of("tensorrt") == 13
    old = Gpu("Orin", "8.7", 12020, "Linux 535.54", integrated=True)
    with pytest.raises(EngineError) as caught:
        TensorRt()._check_driver(old, "11.4.0")
    assert str(caught.value) == (
        "the driver is too old: it speaks CUDA 12.2 (Linux 535.54), tensorrt 11.4.0 is made for CUDA 13. "
        "Update the NVIDIA driver, or install tensorrt for CUDA 12."
    )
    TensorRt()._check_driver(Gpu("Orin", "8.7", 13000, "Linux 580.1", integrated=True), "11.4.0")


def test_versions_of_cuda_as_people_write_them() -> None:
    assert [cuda_version(number) for number in (12060, 13000, 11080)] == ["CUDA 12.6", "CUDA 13.0", "CUDA 11.8"]


def test_before_tensorrt_11_the_dla_wants_its_precision_as_a_flag() -> None:
    dla = Recipe("fp16", dla_core=0)
    assert needs_weak_typing(dla, "10.3.0") and not needs_weak_typing(dla, "11.4.1")
    assert not needs_weak_typing(Recipe("fp16"), "10.3.0")


def test_the_share_of_nested_phases_never_falls_and_is_told_from_any_thread() -> None:
    phases = Phases()
    phases.start("Building", None, 2)
    phases.start("Timing", "Building", 4)
    shares = []

    def steps() -> None:
        for step in range(4):
            phases.step("Timing", step)
            shares.append(phases.share("Timing"))

    thread = threading.Thread(target=steps)
    thread.start()
    thread.join()
    phases.finish("Timing")
    phases.step("Building", 0)
    shares.append(phases.share("Building"))
    phases.step("Building", 1)
    shares.append(phases.share("Building"))
    assert shares == [0.125, 0.25, 0.375, 0.5, 0.5, 0.99]
    assert phases.share("unknown") == 0.0


def test_layers_are_read_as_far_as_the_inspector_tells() -> None:
    detailed = {
        "Layers": [
            {
                "Name": "conv + act",
                "LayerType": "CaskConvolution",
                "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
                "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: act]",
            },
            {"Name": "{ForeignNode[a...b]}", "LayerType": "DLA", "Outputs": []},
        ]
    }
    layers = read_layers(json.dumps(detailed))
    assert [(item.name, item.device) for item in layers] == [
        ("conv + act", "TensorRT"),
        ("{ForeignNode[a...b]}", "DLA"),
    ]
    assert layers[0].covers == ("conv", "act") and layers[0].precision == "Row major linear FP16 format"
    assert [item.name for item in read_layers('{"Layers": ["a", "b"]}')] == ["a", "b"]
    assert read_layers("{}") == []


def test_memory_of_a_tensor() -> None:
    assert size_bytes("float32", (2, 3)) == 24
    assert size_bytes("bool", ()) == 1
    assert size_bytes("bfloat16", (5,)) == 10
    assert size_bytes("int4", (5,)) == 3
    assert size_bytes("int64", (0, 4)) == 0


# Receiver in the adapter's source → the class of TensorRT's API that it is an object of.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
# What one version alone has, and the adapter asks for in that version alone.
ONLY = {"BuilderFlag.FP16": "10", "ComputeCapability.CURRENT": "rtx", "IBuilderConfig.num_compute_capabilities": "rtx"}
ONLY["IBuilderConfig.set_compute_capability"] = "rtx"
# Of edgekit's own classes that share a receiver's name.
OURS = {"Runtime.name", "Runtime.timing_cache", "Runtime.configure", "ParserError.what", "ParserError.details"}


def used_members() -> dict[str, set[str]]:
    """``Class.member`` of TensorRT's API → the files of the adapter that use it, read from the source."""
    found: dict[str, set[str]] = {}
    for name in ("_tensorrt.py", "_tensorrt_build.py", "_tensorrt_session.py", "tensorrt_rtx.py"):
        for node in ast.walk(ast.parse((FOLDER / name).read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            base = node.value
            receiver = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else None
            of_trt = isinstance(base, ast.Attribute) and isinstance(base.value, (ast.Name, ast.Attribute))
            if of_trt and (getattr(base.value, "id", None) == "trt" or getattr(base.value, "attr", None) == "trt"):
                found.setdefault(f"{base.attr}.{node.attr}", set()).add(name)  # trt.BuilderFlag.TF32
            elif receiver in OBJECTS:
                found.setdefault(f"{OBJECTS[receiver]}.{node.attr}", set()).add(name)
    # trt.ILogger.Severity.ERROR: an enumeration inside a class, which is recorded as a member of the class.
    return {item: files for item, files in found.items() if item not in OURS and "__init__" not in item}


def test_the_source_is_read_for_what_it_uses() -> None:
    used = used_members()
    assert {"Builder.build_serialized_network", "IExecutionContext.execute_async_v3", "BuilderFlag.TF32"} <= set(used)
    assert len(used) > 60


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_every_member_that_the_adapter_uses_exists_in_tensorrt(version: str) -> None:
    members = {f"{cls}.{name}" for cls, names in RECORDED[version].items() for name in names}
    classes = set(RECORDED[version])
    wanted = {
        item
        for item in used_members()
        if item.partition(".")[0] in classes and ONLY.get(item, version.split(".")[0]) == version.split(".")[0]
    }
    assert not sorted(wanted - members)


def test_every_member_that_the_adapter_uses_exists_in_tensorrt_rtx(trt: Any) -> None:
    missing = []
    for item in used_members():
        cls, _, name = item.partition(".")
        if hasattr(trt, cls) and ONLY.get(item, "rtx") == "rtx" and not hasattr(getattr(trt, cls), name):
            missing.append(item)
    assert not missing


def test_importing_the_adapters_loads_no_engine() -> None:
    assert not {"tensorrt", "tensorrt_bindings"} & set(sys.modules)


@pytest.mark.parametrize(
    ("machine", "fix"),
    [
        ("x86_64", "pip install tensorrt. On a Jetson, JetPack brings it: apt install python3-libnvinfer."),
        ("aarch64", "apt install python3-libnvinfer python3-numpy."),
    ],
)
def test_what_is_not_installed_is_told_for_this_machine(
    machine: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tensorrt.platform, "machine", lambda: machine)
    monkeypatch.setattr(_tensorrt, "find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        TensorRt().load()
    assert str(caught.value) == f"tensorrt is not installed. Install it: {fix}"

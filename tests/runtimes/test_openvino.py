from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.contracts import Artifact, TensorSpec, options_from
from edgekit.errors import EngineError, UsageError
from edgekit.runtimes.openvino import OpenVino, open_core


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[tuple], outputs: list[tuple]) -> Artifact:
    """An ONNX artifact; inputs and outputs as (name, ONNX type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    specs = [
        tuple(TensorSpec(name, helper.tensor_dtype_to_np_dtype(kind).name, tuple(shape)) for name, kind, shape in items)
        for items in (inputs, outputs)
    ]
    return Artifact(path, "onnx", "fp32", *specs)


def capable(precision: str) -> bool:
    return {"bf16": "BF16", "f16": "FP16"}[precision] in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_the_default_is_float32_on_every_cpu(artifacts: dict[str, Artifact]) -> None:
    """OpenVINO's own default is bf16 where the CPU has it."""
    session = OpenVino().open(artifacts["onnx"], OpenVino.Options())
    assert session.in_force()["precision"] == "f32"
    assert "bf16" not in {node.precision for node in session.placement().nodes}


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_is_in_force_or_an_error(artifacts: dict[str, Artifact], precision: str) -> None:
    try:
        session = OpenVino().open(artifacts["onnx"], OpenVino.Options(precision=precision))
    except EngineError as error:
        assert not capable(precision)
        assert f"this CPU does not compute in {precision}: OpenVINO would use" in str(error)
        assert "Ask for precision" in error.fix
    else:  # also where the CPU is not capable: with AVX-512 alone OpenVINO computes bf16 by its fp32 instructions
        assert session.in_force()["precision"] == precision
        assert precision in {node.precision for node in session.placement().nodes}


def test_options_are_in_force(artifacts: dict[str, Artifact]) -> None:
    options = OpenVino.Options(threads=1, streams=1, hyper_threading=False, pinning=False)
    in_force = OpenVino().open(artifacts["onnx"], options).in_force()
    assert in_force == {
        "threads": 1,
        "precision": "f32",
        "streams": 1,
        "hint": "latency",
        "hyper_threading": False,
        "pinning": False,
        "dynamic_quantization_group_size": 0,
        "denormals_as_zero": False,
    }


def test_denormals_as_zero(artifacts: dict[str, Artifact]) -> None:
    """In a process of its own: it would leave this one's thread flushing denormals to zero."""
    code = (
        "import sys; from pathlib import Path; from edgekit.contracts import Artifact; "
        "from edgekit.runtimes.openvino import OpenVino; "
        "artifact = Artifact(Path(sys.argv[1]), 'onnx', 'fp32', (), ()); "
        "print(OpenVino().open(artifact, OpenVino.Options(denormals_as_zero=True)).in_force()['denormals_as_zero'])"
    )
    path = str(artifacts["onnx"].path)
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"precision": "int8"}, "precision must be one of f32, bf16, f16, got 'int8'"),
        ({"hint": "fast"}, "hint must be 'latency' or 'throughput', got 'fast'"),
        ({"streams": 0}, "streams must be >= 1, got 0"),
        ({"pinning": "yes"}, "'pinning' must be bool | None, got 'yes'"),
    ],
)
def test_refuses_options(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        options_from(OpenVino.Options, table, "[runtime.options]")
    assert message in str(raised.value)


def test_free_dimensions_keep_the_artifacts_names(artifacts: dict[str, Artifact]) -> None:
    session = OpenVino().open(artifacts["openvino-ir"], OpenVino.Options())
    assert session.inputs == artifacts["openvino-ir"].inputs
    assert session.outputs == artifacts["openvino-ir"].outputs


def test_an_input_that_is_also_an_output(tmp_path: Path) -> None:
    """OpenVINO knows such an input by the output's name only."""
    artifact = save(tmp_path / "m.onnx", [helper.make_node("Dropout", ["x"], ["y"])], [("x", 1, [2])], [("y", 1, [2])])
    session = OpenVino().open(artifact, OpenVino.Options())
    assert [spec.name for spec in session.inputs + session.outputs] == ["x", "y"]
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(session.run({"x": x})["y"], x)


def test_two_outputs_that_are_one_tensor(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Identity", ["a"], ["b"])]
    artifact = save(tmp_path / "m.onnx", nodes, [("x", 1, [2])], [("b", 1, [2]), ("a", 1, [2])])
    got = OpenVino().open(artifact, OpenVino.Options()).run({"x": np.array([-1, 2], np.float32)})
    assert {name: array.tolist() for name, array in got.items()} == {"b": [0, 2], "a": [0, 2]}


def test_an_input_that_nothing_reads_may_be_fed(tmp_path: Path) -> None:
    nodes = [helper.make_node("CastLike", ["x", "like"], ["y"])]
    artifact = save(
        tmp_path / "m.onnx", nodes, [("x", 1, [2]), ("like", TensorProto.INT32, [1])], [("y", TensorProto.INT32, [2])]
    )
    session = OpenVino().open(artifact, OpenVino.Options())
    feeds = {"x": np.array([1.5, 2], np.float32), "like": np.zeros(1, np.int32)}
    assert session.run(feeds)["y"].tolist() == [1, 2]
    with pytest.raises(EngineError, match="no input 'other'"):
        session.run({**feeds, "other": np.zeros(1)})


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", 16), ("float8_e4m3fn", 17), ("float8_e5m2", 19)])
def test_dtypes_that_numpy_has_not(tmp_path: Path, dtype: str, kind: int) -> None:
    """OpenVINO's own Python API casts these to integers: 1.5 would arrive as the bits of something else."""
    artifact = save(
        tmp_path / "m.onnx", [helper.make_node("Cast", ["x"], ["y"], to=1)], [("x", kind, [3])], [("y", 1, [3])]
    )
    x = np.array([1.5, -2.0, 0.25]).astype(getattr(ml_dtypes, dtype))
    got = OpenVino().open(artifact, OpenVino.Options()).run({"x": x})["y"]
    np.testing.assert_array_equal(got, x.astype(np.float32))


def test_four_bit_integers(tmp_path: Path) -> None:
    artifact = save(
        tmp_path / "m.onnx",
        [helper.make_node("DequantizeLinear", ["x", "scale"], ["y"])],
        [("x", TensorProto.INT4, [3]), ("scale", 1, [])],
        [("y", 1, [3])],
    )
    feeds = {"x": np.array([-8, 7, 1]).astype(ml_dtypes.int4), "scale": np.array(0.5, np.float32)}
    got = OpenVino().open(artifact, OpenVino.Options()).run(feeds)["y"]
    np.testing.assert_array_equal(got, np.array([-4.0, 3.5, 0.5], np.float32))


def test_its_own_words_about_an_operator(tmp_path: Path) -> None:
    artifact = save(tmp_path / "m.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"])], [("x", 1, [1])], [("y", 1, [1])])
    with pytest.raises(EngineError, match=r"OpenVINO refuses m\.onnx: .*NoSuchOp") as raised:
        OpenVino().open(artifact, OpenVino.Options())
    assert "core.cpp" not in str(raised.value)


def test_its_own_words_about_a_shape(artifacts: dict[str, Artifact], feeds: dict[str, np.ndarray]) -> None:
    session = OpenVino().open(artifacts["onnx"], OpenVino.Options())
    with pytest.raises(EngineError, match=r"OpenVINO refuses input 'image': .*\[\?,3,8,8\].*incompatible"):
        session.run({**feeds, "image": np.zeros((2, 3, 9, 8), np.float32)})

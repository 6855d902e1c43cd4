from __future__ import annotations

import platform
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.contracts import Artifact, TensorSpec, options_from
from edgekit.errors import EngineError, UsageError
from edgekit.runtimes.onnxruntime import OnnxRuntime, _refuse_without_bf16


def save(
    path: Path, node: onnx.NodeProto, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> Artifact:
    graph = helper.make_graph([node], "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return Artifact(path, "onnx", "fp32", (), ())


def tensor(name: str, dtype: int = TensorProto.FLOAT, shape: list[int | str] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def test_options_are_in_force(artifacts: dict[str, Artifact]) -> None:
    options = OnnxRuntime.Options(
        threads=2,
        inter_op_threads=2,
        spinning=False,
        optimization="basic",
        execution_mode="parallel",
        arena=False,
        mem_pattern=False,
        denormals_as_zero=True,
    )
    assert OnnxRuntime().open(artifacts["onnx"], options).in_force() == {
        "threads": 2,
        "inter_op_threads": 2,
        "precision": "as the graph says",
        "optimization": "ORT_ENABLE_BASIC",
        "execution_mode": "ORT_PARALLEL",
        "spinning": False,
        "denormals_as_zero": True,
        "arena": False,
        "mem_pattern": False,
        "providers": ["CPUExecutionProvider"],
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"optimization": "max"}, "optimization must be one of all, extended, basic, none, got 'max'"),
        ({"execution_mode": "both"}, "execution_mode must be one of sequential, parallel, got 'both'"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
        ({"thread": 1}, "has no option 'thread'. Did you mean 'threads'?"),
    ],
)
def test_refuses_options(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        options_from(OnnxRuntime.Options, table, "[runtime.options]")
    assert message in str(raised.value)


def test_placement_names_every_node(artifacts: dict[str, Artifact]) -> None:
    placement = OnnxRuntime().open(artifacts["onnx"], OnnxRuntime.Options()).placement()
    assert placement.counts() == {"CPU": len(placement.nodes)}
    assert "Conv" in {node.op_type for node in placement.nodes}


def test_bind_with_a_shape_that_depends_on_the_values(tmp_path: Path) -> None:
    """Outputs cannot be allocated beforehand here: their size is only known when they are computed."""
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("NonZero", ["x"], ["y"]),
        [tensor("x", shape=[4])],
        [tensor("y", TensorProto.INT64, [1, "n"])],
    )
    session = OnnxRuntime().open(artifact, OnnxRuntime.Options())
    x = np.array([1, 0, 1, 0], np.float32)
    call = session.bind({"x": x})
    x[:] = 1  # more non-zeros than at the first run
    call()
    assert session.run({"x": x})["y"].shape == (1, 4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"])
def test_dtypes_that_numpy_has_not(tmp_path: Path, dtype: str) -> None:
    onnx_type = {"bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19}[dtype]
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("Identity", ["x"], ["y"]),
        [tensor("x", onnx_type, [3])],
        [tensor("y", onnx_type, [3])],
    )
    session = OnnxRuntime().open(artifact, OnnxRuntime.Options())
    x = np.array([1.5, -2.0, 0.0]).astype(getattr(ml_dtypes, dtype))
    assert session.inputs == (TensorSpec("x", dtype, (3,)),)
    got = session.run({"x": x})["y"]
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got.astype(np.float32), x.astype(np.float32))
    session.bind({"x": x})()


def test_four_bit_integers(tmp_path: Path) -> None:
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("DequantizeLinear", ["x", "scale"], ["y"]),
        [tensor("x", TensorProto.INT4, [3]), tensor("scale", shape=[])],
        [tensor("y", shape=[3])],
    )
    feeds = {"x": np.array([-8, 7, 1]).astype(ml_dtypes.int4), "scale": np.array(0.5, np.float32)}
    got = OnnxRuntime().open(artifact, OnnxRuntime.Options()).run(feeds)["y"]
    np.testing.assert_array_equal(got, np.array([-4.0, 3.5, 0.5], np.float32))


def test_strings(tmp_path: Path) -> None:
    string = TensorProto.STRING
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("Identity", ["x"], ["y"]),
        [tensor("x", string, [2])],
        [tensor("y", string, [2])],
    )
    session = OnnxRuntime().open(artifact, OnnxRuntime.Options())
    x = np.array(["cat", "dög"], dtype=object)
    assert session.run({"x": x})["y"].tolist() == ["cat", "dög"]
    session.bind({"x": x})()


def test_a_sequence_is_a_list(tmp_path: Path) -> None:
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("SplitToSequence", ["x"], ["y"], keepdims=0),
        [tensor("x", shape=[2, 3])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    session = OnnxRuntime().open(artifact, OnnxRuntime.Options())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = session.run({"x": x})["y"]
    assert isinstance(got, list)
    np.testing.assert_array_equal(np.stack(got), x)
    assert session.outputs[0].dtype == "seq(tensor(float))"
    session.bind({"x": x})()


def test_its_own_words_about_a_shape(artifacts: dict[str, Artifact], feeds: dict[str, np.ndarray]) -> None:
    session = OnnxRuntime().open(artifacts["onnx"], OnnxRuntime.Options())
    with pytest.raises(EngineError, match=r"Got invalid dimensions for input: image .* Got: 9 Expected: 8"):
        session.run({**feeds, "image": np.zeros((2, 3, 9, 8), np.float32)})


def test_its_own_words_about_an_operator(tmp_path: Path) -> None:
    artifact = save(
        tmp_path / "m.onnx",
        helper.make_node("NoSuchOp", ["x"], ["y"]),
        [tensor("x", shape=[1])],
        [tensor("y", shape=[1])],
    )
    with pytest.raises(EngineError, match=r"ONNX Runtime refuses m\.onnx: .*NoSuchOp"):
        OnnxRuntime().open(artifact, OnnxRuntime.Options())


@pytest.mark.parametrize(
    ("machine", "features", "message"),
    [
        ("x86_64", "", "bf16_gemm needs an ARM64 CPU with BF16 instructions on Linux, and this is x86_64"),
        ("aarch64", "fp asimd asimddp", "bf16_gemm needs BF16 instructions, which this CPU does not have"),
        ("aarch64", "fp asimd asimddp i8mm bf16", None),
    ],
)
def test_bf16_is_refused_where_the_engine_would_go_on_in_fp32(
    machine: str, features: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nFeatures\t: {features}\n")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    if message is None:
        _refuse_without_bf16(cpuinfo)
        return
    with pytest.raises(EngineError, match=message):
        _refuse_without_bf16(cpuinfo)

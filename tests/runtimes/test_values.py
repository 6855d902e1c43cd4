from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.contracts import TensorSpec
from edgekit.errors import EngineError
from edgekit.runtimes._values import from_bits, import_engine, is_plain, one_line, prepare, to_bits

DTYPES = [
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e8m0fnu",
    "int4",
    "uint4",
    "int2",
    "uint2",
    "float4_e2m1fn",
]


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 255), max_size=9))
def test_bits_round_trip(dtype: str, codes: list[int]) -> None:
    numpy = np.dtype(getattr(ml_dtypes, dtype))
    width = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}.get(dtype, 8)
    raw = np.array(codes, np.uint8) & ((1 << width) - 1)
    array = (raw.astype(np.uint16) if numpy.itemsize == 2 else raw).view(numpy)
    back = from_bits(to_bits(array), dtype, array.shape)
    np.testing.assert_array_equal(back.view(np.uint8) & ((1 << width) - 1), array.view(np.uint8) & ((1 << width) - 1))


def test_packing_puts_the_first_element_lowest() -> None:
    array = np.array([1, -1, 2]).astype(ml_dtypes.int4)
    assert to_bits(array).tolist() == [0xF1, 0x02]
    np.testing.assert_array_equal(from_bits(np.array([0xF1, 0x02], np.uint8), "int4", (3,)), array)


def test_float8_e5m2_is_not_numpys() -> None:
    # Its dtype has numpy's kind "f", and an engine that casts it would read the values as bits.
    assert not is_plain("float8_e5m2")
    assert is_plain("float16")


def test_prepare_names_what_is_wrong() -> None:
    specs = (TensorSpec("image", "float32", (1, 3)),)
    with pytest.raises(EngineError, match=r"the model has no input 'imag'\. Did you mean 'image'\?"):
        prepare({"imag": np.zeros((1, 3), np.float32)}, specs)
    with pytest.raises(EngineError, match=r"input 'image' \(image float32 1x3\) was not fed, got nothing"):
        prepare({}, specs)
    with pytest.raises(EngineError, match="input 'image' must be float32, got float64"):
        prepare({"image": np.zeros((1, 3))}, specs)
    with pytest.raises(EngineError, match=r"input 'image' must be an array \(float32\), got list"):
        prepare({"image": [1.0]}, specs)
    assert prepare(
        {"image": np.zeros((1, 3), np.float32), "dropped": np.zeros(1)}, specs, unused={"dropped"}
    ).keys() == {"image"}


def test_prepare_keeps_scalars_scalar() -> None:
    assert prepare({"x": np.array(1.0, np.float32)}, (TensorSpec("x", "float32", ()),))["x"].shape == ()


def test_a_missing_engine_is_named_with_its_install_line() -> None:
    with pytest.raises(EngineError) as raised:
        import_engine("no_such_engine", "pip install no-such-engine")
    assert str(raised.value) == "no_such_engine is not installed. Install it: pip install no-such-engine"
    assert raised.value.exit_code == 6


def test_a_broken_engine_says_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_engine.py").write_text("raise ImportError('libgomp.so.1: cannot open\\nshared object file')")
    (tmp_path / "hollow_engine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        EngineError, match=r"broken_engine cannot be imported: libgomp\.so\.1: cannot open shared object"
    ):
        import_engine("broken_engine", "pip install x")
    with pytest.raises(EngineError, match="hollow_engine is damaged: its folder holds no package"):
        import_engine("hollow_engine", "pip install x")
    sys.modules.pop("hollow_engine", None)


def test_two_distributions_of_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata pip leaves is what counts: nothing else tells that one has overwritten the other."""
    info = tmp_path / "onnxruntime_gpu-1.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.version("onnxruntime-gpu") == "1.32.0"

    from edgekit.runtimes.onnxruntime import OnnxRuntime

    with pytest.raises(EngineError) as raised:
        OnnxRuntime().version()
    assert str(raised.value) == (
        "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files in the folder "
        "'onnxruntime'. Keep one: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"
    )


def test_one_line_drops_places_in_the_engines_source() -> None:
    error = RuntimeError(
        "Exception from src/inference/src/cpp/core.cpp:84:\n"
        "Check 'false' failed at src/frontends/common/src/frontend.cpp:47:\nLoading input model\nUnsupported type\n\n"
    )
    assert one_line(error) == "Loading input model Unsupported type"
    error = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/onnxruntime/core/optimizer/"
        "transformer_memcpy.cc:253 bool onnxruntime::Impl::IsCompatible(const onnxruntime::Node&) const "
        "!node_provider_type.empty() was false. Provider type for ReduceL2 node with name 'norm' is not set\n"
    )
    assert one_line(error) == (
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: "
        "Provider type for ReduceL2 node with name 'norm' is not set"
    )
    assert one_line(RuntimeError("")) == "RuntimeError"
    assert len(one_line(RuntimeError("x" * 2000))) == 500


def test_what_openvino_cannot_convert_is_named_with_its_node_and_reason(tmp_path: Path) -> None:
    ir, openvino = pytest.importorskip("onnx_ir"), pytest.importorskip("openvino")
    wave, steps, window = (ir.Value(name=name) for name in ("wave", "steps", "window"))
    wave.type, wave.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", "n", 1])
    steps.type, steps.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([])
    window.type, window.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([16])
    node = ir.node("STFT", [wave, steps, window], name="spectrum")
    out = node.outputs[0]
    out.name, out.type = "image", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([wave, steps, window], [out], nodes=[node], opset_imports={"": 17}, name="g")
    ir.save(ir.Model(graph, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(RuntimeError) as caught:
        openvino.Core().read_model(tmp_path / "m.onnx")
    assert one_line(caught.value).startswith("it cannot convert STFT '")
    assert "\n" not in one_line(caught.value) and "src/" not in one_line(caught.value)
    assert one_line(caught.value).count(":") == 1


def test_where_a_file_lies_is_no_part_of_a_refusal() -> None:
    said = "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /a b/{}/model.onnx failed:This is an invalid one."
    assert len({one_line(RuntimeError(said.format(name))) for name in ("fp32", "int8")}) == 1
    assert one_line(RuntimeError(said)).endswith("INVALID_GRAPH : This is an invalid one")

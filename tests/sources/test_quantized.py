"""A source that is quantized already is told as what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgekit.errors import SourceError
from edgekit.sources.load import load_source
from edgekit.sources.quantized import Quantized, quantized_form


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], microsoft: bool = False) -> onnx.ModelProto:
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", T.FLOAT, [1, 4])],
        [h.make_tensor_value_info("y", T.FLOAT, [1, 8])],
        [nh.from_array(array, name) for name, array in constants.items()],
    )
    imports = [h.make_opsetid("", 21)] + ([h.make_opsetid("com.microsoft", 1)] if microsoft else [])
    return h.make_model(graph, opset_imports=imports, ir_version=10)


SCALE, ZERO = np.array(0.1, np.float32), np.array(0, np.int8)
WEIGHT, BIAS = np.arange(32, dtype=np.int8).reshape(4, 8), np.arange(8, dtype=np.int32)
READ = [
    h.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]),
    h.make_node("DequantizeLinear", ["b", "ss"], ["bf"]),  # whose scale is that of the products
]
ROUNDED = [
    h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    h.make_node("DequantizeLinear", ["q", "s", "z"], ["xf"]),
]
ALL = {"w": WEIGHT, "b": BIAS, "s": SCALE, "ss": SCALE * SCALE, "z": ZERO}


def qdq() -> onnx.ModelProto:
    return model([*ROUNDED, *READ, h.make_node("Gemm", ["xf", "wf", "bf"], ["y"])], ALL)


def weights_alone() -> onnx.ModelProto:
    return model([*READ, h.make_node("Gemm", ["x", "wf", "bf"], ["y"])], ALL)


def operators() -> onnx.ModelProto:
    inputs = ["q", "s", "z", "w", "s", "z", "s", "z"]
    nodes = [
        ROUNDED[0],
        h.make_node("QLinearMatMul", inputs, ["p"]),
        h.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    return model(nodes, {"w": WEIGHT, "s": SCALE, "z": ZERO})


def dynamic() -> onnx.ModelProto:
    nodes = [
        h.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        h.make_node("MatMulInteger", ["q", "w", "qz"], ["i"]),
        h.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
        h.make_node("Mul", ["f", "qs"], ["y"]),
    ]
    return model(nodes, {"w": WEIGHT})


def four_bits() -> onnx.ModelProto:
    node = h.make_node("MatMulNBits", ["x", "w", "ws"], ["y"], domain="com.microsoft", K=4, N=8, bits=4, block_size=16)
    return model([node], {"w": np.zeros((8, 1, 8), np.uint8), "ws": np.ones(8, np.float32)}, microsoft=True)


def rounded_constant() -> onnx.ModelProto:
    nodes = [
        h.make_node("QuantizeLinear", ["wf", "s", "z"], ["wq"]),
        h.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        *ROUNDED,
        h.make_node("MatMul", ["xf", "wd"], ["y"]),
    ]
    return model(nodes, {"wf": WEIGHT.astype(np.float32), "s": SCALE, "z": ZERO})


def halves() -> onnx.ModelProto:
    nodes = [
        h.make_node("Cast", ["x"], ["h"], to=T.FLOAT16),
        h.make_node("MatMul", ["h", "w"], ["m"]),
        h.make_node("Cast", ["m"], ["y"], to=T.FLOAT),
    ]
    return model(nodes, {"w": WEIGHT.astype(np.float16)})


def wide() -> onnx.ModelProto:
    zero = np.array(0, np.uint16)
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s", "z16"], ["q"]),
        h.make_node("DequantizeLinear", ["q", "s", "z16"], ["xf"]),
        READ[0],
        h.make_node("MatMul", ["xf", "wf"], ["y"]),
    ]
    return model(nodes, {"w": WEIGHT, "s": SCALE, "z": ZERO, "z16": zero})


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (qdq, Quantized("int8", "1 Gemm", 40)),
        (weights_alone, Quantized("int8-weights", "1 Gemm", 40)),
        (operators, Quantized("int8", "1 QLinearMatMul", 32)),
        (dynamic, Quantized("int8-dynamic", "1 MatMulInteger", 32)),
        (four_bits, Quantized("int4", "1 MatMulNBits", 32)),
        (rounded_constant, Quantized("int8", "1 MatMul", 32)),
        (halves, Quantized("fp16", "", 32)),
        (wide, Quantized("w8a16", "1 MatMul", 32)),
    ],
)
def test_the_graph_says_how_it_is_quantized(made, found) -> None:
    onnx.checker.check_model(made())
    assert quantized_form(ir.from_proto(made())) == found


def test_a_float_model_is_none() -> None:
    assert (
        quantized_form(ir.from_proto(model([h.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((4, 8), "f")})))
        is None
    )


def test_an_export_tells_it_and_quantizes_nothing_a_second_time(tmp_path: Path) -> None:
    from edgekit import export
    from edgekit.report.text import export_text

    onnx.save(qdq(), tmp_path / "q.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(20, 1, 4)).astype(np.float32))
    result = export(
        tmp_path / "q.onnx",
        "cpu-onnxruntime",
        data=str(tmp_path / "x.npz"),
        output=tmp_path / "q.edgekit",
        max_time_s=0.1,
        threads=1,
    )
    assert (result.source["precision"], result.source["parameters"]) == ("int8", 40)
    assert (result.pick.precision, result.pick.note) == ("int8", "as it was brought: int8 already (1 Gemm)")
    assert result.fp32_size_bytes is None
    assert {row.rejected for row in result.candidates[1:]} == {
        "the source is int8 already (1 Gemm): it is not quantized a second time"
    }
    text = export_text(result, colour=False, width=200)
    assert "int8 already (1 Gemm), 40 parameters" in text and "PyTorch" not in text and "ot quantized:" not in text
    assert text.endswith("Shipped as it was brought: int8 already (1 Gemm).")
    manifest = json.loads((tmp_path / "q.edgekit" / "manifest.json").read_text())
    assert (manifest["precision"], manifest["source"]["quantized"]) == ("int8", "int8 already (1 Gemm)")


PACKED = """
import torch

def build():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4))
    return torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}), torch.randn(1, 4)
"""


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore:.*:UserWarning")
def test_packed_modules_are_refused_with_what_to_bring_instead(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PACKED)
    with pytest.raises(SourceError) as caught:
        load_source(f"{tmp_path / 'net.py'}:build")
    assert "is quantized already, by torch.ao: '0' is a torch.ao.nn.quantized.dynamic" in str(caught.value)
    assert "Bring the float model" in caught.value.fix

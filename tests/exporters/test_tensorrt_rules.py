"""Each rule, set off by a small ONNX graph; and a clean graph, of which nothing is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass

from edgekit.exporters import Finding
from edgekit.exporters._tensorrt_rules import Plan, check, left_to_gpu
from edgekit.graph import MODULE_PATH
from edgekit.runtimes._tensorrt_recipe import ShapeRange

IMAGE = [1, 3, 8, 8]


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]] | None = None,
    outputs: tuple[str, ...] = ("y",),
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 20,
    domains: tuple[str, ...] = (),
) -> ir.Model:
    """A graph of the nodes, with types inferred."""
    fed = inputs if inputs is not None else {"x": (T.FLOAT, IMAGE)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in fed.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    graph = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=sets, ir_version=10))
    return ShapeInferencePass()(graph).model


def node(op_type: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs or ["y"], name=f"the_{op_type}", **attributes)


def one(found: list[Finding]) -> Finding:
    assert len(found) == 1, [str(item) for item in found]
    return found[0]


def qdq(scale: Any = 0.1, zero: Any = 0, dtype: Any = np.int8, bias: np.ndarray | None = None) -> ir.Model:
    """x → QuantizeLinear → DequantizeLinear → Conv with int8 weights by the channel."""
    constants = {
        "s": np.asarray(scale, np.float32),
        "z": np.asarray(zero, dtype),
        "w": np.ones((4, 3, 3, 3), np.int8),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="weights", axis=0),
    ]
    fed = ["d", "wd"]
    if bias is not None:
        constants |= {"b": bias, "bs": np.full(4, 0.001, np.float32)}
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], name="bias", axis=0))
        fed.append("bd")
    return model([*nodes, helper.make_node("Conv", fed, ["y"], name="conv")], constants=constants)


def test_a_clean_graph_has_nothing_said_of_it() -> None:
    assert check(qdq(), Plan()) == []
    half = model([node("Relu", ["x"])], {"x": (T.FLOAT16, IMAGE)})
    assert check(half, Plan(precision="fp16")) == []


def test_an_unknown_operator_is_named_with_its_module_reason_and_advice() -> None:
    graph = model([node("Det", ["x"])])
    next(iter(graph.graph)).metadata_props[MODULE_PATH] = "head.volume"
    found = one(check(graph, Plan()))
    assert (found.rule, found.op_type, found.node, found.module) == ("operator", "Det", "the_Det", "head.volume")
    assert str(found) == (
        "Det  (head.volume)  TensorRT's parser does not have it. Rewrite the module with other operators"
    )


def test_an_operator_of_another_domain() -> None:
    fused = helper.make_node("BiasGelu", ["x", "b"], ["y"], name="fused", domain="com.microsoft")
    graph = model([fused], constants={"b": np.zeros(8, np.float32)}, domains=("com.microsoft",))
    found = one(check(graph, Plan()))
    assert found.op_type == "com.microsoft.BiasGelu" and "'com.microsoft' are ONNX Runtime's" in found.reason


def test_an_operator_that_came_later() -> None:
    graph = model([node("HannWindow", ["n"])], {}, constants={"n": np.array(8, np.int64)})
    found = one(check(graph, Plan(oldest=(10, 3))))
    assert found.reason == "TensorRT has it since 10.4, the target has 10.3" and "tensorrt_min" in found.fix
    assert check(graph, Plan(oldest=(10, 4))) == []


@pytest.mark.parametrize("op_type", ["DynamicQuantizeLinear", "MatMulInteger"])
def test_dynamic_quantization_and_integer_arithmetic(op_type: str) -> None:
    if op_type == "DynamicQuantizeLinear":
        graph = model([node(op_type, ["x"], ["y", "s", "z"])])
    else:
        graph = model([node(op_type, ["x", "x"])], {"x": (T.INT8, [4, 4])})
    assert any(item.rule == "quantization" and "quantize_static" in item.fix for item in check(graph, Plan()))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (T.DOUBLE, "is float64, which TensorRT would round to float32"),
        (T.INT16, "is int16, which TensorRT does not have"),
        (T.UINT32, "is uint32, which TensorRT does not have"),
        (T.COMPLEX64, "is complex64, which TensorRT does not have"),
        (T.UINT8, "is uint8, which nothing but a Cast reads or makes"),
        (T.STRING, "is string, which TensorRT does not have"),
    ],
)
def test_types_that_it_has_not(kind: int, words: str) -> None:
    graph = model([node("Reshape", ["x", "s"])], {"x": (kind, [2, 3])}, constants={"s": np.array([6], np.int64)})
    assert any(item.rule == "type" and words in item.reason for item in check(graph, Plan()))


def test_an_image_of_bytes_may_come_in_if_it_is_cast_first() -> None:
    cast = [node("Cast", ["x"], ["f"], to=T.FLOAT), node("Relu", ["f"])]
    assert check(model(cast, {"x": (T.UINT8, IMAGE)}), Plan()) == []


def test_int64_is_for_shapes_indices_and_simple_arithmetic() -> None:
    ids = {"x": (T.INT64, [1, 8])}
    gather = model([node("Gather", ["t", "x"])], ids, constants={"t": np.ones((10, 4), np.float32)})
    assert check(gather, Plan()) == [] and check(model([node("Add", ["x", "x"])], ids), Plan()) == []
    found = one(check(model([node("CumSum", ["x", "a"])], ids, constants={"a": np.array(1)}), Plan()))
    assert found.reason == "it takes bfloat16, float, float16, got int64"


def test_a_sequence_is_no_tensor() -> None:
    graph = model([node("SequenceConstruct", ["x", "x"])])
    graph.graph.outputs[0].type = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    found = check(graph, Plan())
    assert {"operator", "type"} <= {item.rule for item in found}
    assert any("TensorRT has tensors only" in item.reason for item in found)


@pytest.mark.parametrize(("oldest", "opset", "refused"), [((10, 3), 21, 20), ((10, 6), 21, None), ((11, 0), 25, None)])
def test_the_opset_of_the_oldest_tensorrt(oldest: tuple[int, int], opset: int, refused: int | None) -> None:
    found = check(model([node("Relu", ["x"])], opset=opset), Plan(oldest=oldest))
    assert [item.rule for item in found] == ([] if refused is None else ["opset"])
    if refused is not None:
        assert "states opset 9 to 20" in found[0].reason


def test_asymmetric_zero_points() -> None:
    found = check(qdq(zero=3), Plan())
    assert {item.node for item in found} == {"quantize", "dequantize"}
    assert all(item.reason == "its zero point is 3, TensorRT takes 0 alone" for item in found)


def test_unsigned_activations_would_saturate() -> None:
    found = check(qdq(dtype=np.uint8), Plan())
    assert all("uint8 would be read as int8" in item.reason and "symmetric" in item.fix for item in found)
    assert {item.node for item in found} == {"quantize", "dequantize"}


def test_a_bias_in_integers() -> None:
    found = one(check(qdq(bias=np.ones(4, np.int32)), Plan()))
    assert found.node == "bias" and 'bias = "float"' in found.fix


def test_activations_with_a_scale_for_each_channel() -> None:
    found = check(qdq(scale=[0.1, 0.2, 0.3], zero=[0, 0, 0]), Plan())
    assert [item.reason for item in found] == ["activations are quantized with one scale for the whole tensor"]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_scales_that_are_no_scales(scale: float) -> None:
    assert {item.reason for item in check(qdq(scale=scale), Plan())} == {"its scales must be positive and finite"}


def test_a_scale_that_is_computed() -> None:
    nodes = [
        node("ReduceMax", ["x"], ["s"], keepdims=0),
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"]),
    ]
    found = check(model(nodes, constants={"z": np.array(0, np.int8)}), Plan())
    assert {item.reason for item in found} == {"its scale is computed; TensorRT wants constants"}


FREE = {"x": (T.FLOAT, ["batch", 3, 8, 8])}


def test_a_free_dimension_needs_a_range() -> None:
    graph = model([node("Relu", ["x"])], FREE)
    found = one(check(graph, Plan()))
    assert (found.rule, found.node) == ("profile", "x")
    assert found.reason == "its dimension 'batch' is free, and no range is stated to plan for"
    assert found.fix.endswith("--range batch=1..8..32")
    shapes = ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))
    assert check(graph, Plan(profiles={"x": shapes})) == []


def test_the_dla_takes_fixed_shapes_half_precision_and_its_own_operators() -> None:
    shapes = ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))
    free = Plan(profiles={"x": shapes}, dla=True, precision="fp16")
    assert one(check(model([node("Relu", ["x"])], FREE), free)).rule == "dla-shape"
    half = {"x": (T.FLOAT16, IMAGE)}
    odd = model([node("Erf", ["x"])], half)
    found = one(check(odd, Plan(dla=True, precision="fp16")))
    assert found.rule == "dla-operator" and "gpu_fallback = true" in found.fix
    assert check(odd, Plan(dla=True, precision="fp16", gpu_fallback=True)) == []
    assert left_to_gpu(odd) == ["Erf  (the_Erf)  the DLA does not have it"]
    cast = model([node("Cast", ["x"], to=T.FLOAT16)])
    assert one(check(cast, Plan(dla=True, precision="fp16"))).rule == "dla-operator"
    weights = {"w": np.ones((4, 3, 33, 33), np.float16)}
    large = model(
        [node("Conv", ["x", "w"], kernel_shape=[33, 33])], {"x": (T.FLOAT16, [1, 3, 64, 64])}, ("y",), weights
    )
    assert one(check(large, Plan(dla=True, precision="fp16"))).reason.startswith("kernel_shape [33, 33]")
    long = model([node("Relu", ["x"])], {"x": (T.FLOAT16, [1, 1, 1, 9000])})
    assert one(check(long, Plan(dla=True, precision="fp16"))).rule == "dla-size"
    single = model([node("Conv", ["x", "w"])], constants={"w": np.ones((4, 3, 3, 3), np.float32)})
    assert "float16 or int8" in one(check(single, Plan(dla=True, precision="fp32"))).reason


def test_more_dimensions_than_tensorrt_has() -> None:
    found = check(model([node("Relu", ["x"])], {"x": (T.FLOAT, [1] * 9)}), Plan())
    assert all(item.reason.endswith("has 9 dimensions, TensorRT at most 8") for item in found) and found


def test_weights_that_do_not_fit_one_file() -> None:
    graph = model([node("Relu", ["x"])])
    # A tensor that claims its size without having it: nobody allocates 3 GB for a test.
    big = ir.ExternalTensor("w.bin", 0, 3 << 30, ir.DataType.FLOAT, shape=ir.Shape([3 << 28]), name="w")
    graph.graph.register_initializer(
        ir.Value(name="w", const_value=big, shape=big.shape, type=ir.TensorType(big.dtype))
    )
    assert check(graph, Plan()) == []
    assert one(check(graph, Plan(external_data=False))).rule == "size"


CONSTANTS = {
    "k": np.array([3], np.int64),
    "many": np.array([5000], np.int64),
    "true": np.array(True),
    "half": np.array(0.5, np.float32),
    "sizes": np.array([1, 3, 4, 4], np.int64),
    "w": np.ones(8, np.float32),
}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2, 2]), "pooling with dilations"),
        (node("MaxPool", ["x"], ["m", "y"], kernel_shape=[2, 2]), "the indices of the maxima are not available"),
        (node("LpPool", ["x"], kernel_shape=[2, 2], p=3), "p must be 1 or 2, got 3"),
        (node("LayerNormalization", ["x", "w"], ["m", "y"]), "only its first output is available, 'y' is read"),
        (node("TopK", ["x", "k"], ["y", "i"], sorted=0), "it must sort what it finds"),
        (node("TopK", ["x", "many"], ["y", "i"]), "k must be less than 3840, got 5000"),
        (node("Mod", ["x", "x"]), "the remainder of floats needs fmod = 1"),
        (node("Dropout", ["x", "half", "true"]), "it is in training mode"),
        (node("GridSample", ["v", "grid"]), "it takes 4 dimensions, got 5"),
        (node("Resize", ["x", "", "", "sizes"], mode="linear", antialias=1), "antialiasing is not supported"),
        (node("Resize", ["x", "", "", "sizes"], coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop"),
        (node("ScatterND", ["x", "at", "new"], reduction="add"), "reduction 'add' is not supported"),
        (node("CumSum", ["x", "axis"]), "its input 1 ('axis') must be a constant, and is computed"),
        (node("ReduceSum", ["x", "axes"]), "its input 1 ('axes') must be a constant, and is computed"),
    ],
    ids=lambda item: item.op_type if isinstance(item, onnx.NodeProto) else "",
)
def test_restrictions_of_single_operators(made: onnx.NodeProto, reason: str) -> None:
    inputs = {
        "x": (T.FLOAT, IMAGE),
        "v": (T.FLOAT, [1, 2, 4, 4, 4]),
        "grid": (T.FLOAT, [1, 4, 4, 4, 3]),
        "at": (T.INT64, [1, 1]),
        "new": (T.FLOAT, [1, 3, 8, 8]),
        "axis": (T.INT64, []),
        "axes": (T.INT64, [1]),
    }
    used = set(made.input)
    graph = model(
        [made], {name: item for name, item in inputs.items() if name in used}, ("y",),
        {name: item for name, item in CONSTANTS.items() if name in used},
    )  # fmt: skip
    assert reason in one(check(graph, Plan())).reason


def test_a_recurrent_network_with_a_layout_of_its_own() -> None:
    constants = {"w": np.ones((1, 12, 4), np.float32), "r": np.ones((1, 12, 3), np.float32)}
    graph = model(
        [node("GRU", ["x", "w", "r"], hidden_size=3, layout=1)], {"x": (T.FLOAT, [1, 2, 4])}, ("y",), constants
    )
    assert one(check(graph, Plan())).reason == "'layout' must be 0"


def branch(name: str, shape: list[int]) -> onnx.GraphProto:
    value = numpy_helper.from_array(np.ones(shape, np.float32), f"{name}_value")
    output = helper.make_tensor_value_info(f"{name}_out", T.FLOAT, shape)
    made = helper.make_node("Constant", [], [f"{name}_out"], name=f"{name}_constant", value=value)
    return helper.make_graph([made], name, [], [output])


def test_branches_of_different_ranks() -> None:
    inputs = {"c": (T.BOOL, [])}
    same = [node("If", ["c"], then_branch=branch("a", [2, 3]), else_branch=branch("b", [4, 3]))]
    assert check(model(same, inputs), Plan()) == []
    other = [node("If", ["c"], then_branch=branch("a", [2, 3]), else_branch=branch("b", [2]))]
    assert one(check(model(other, inputs), Plan())).reason.startswith("its branches give outputs of 1 and 2 dimensions")


def test_what_is_wrong_inside_a_branch_is_found() -> None:
    inside = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"], name="inner")],
        "a",
        [],
        [helper.make_tensor_value_info("d", T.FLOAT, [1, 3])],
    )
    made = [node("If", ["c"], then_branch=inside, else_branch=branch("b", [1, 3]))]
    found = one(check(model(made, {"c": (T.BOOL, []), "x": (T.FLOAT, IMAGE)}), Plan()))
    assert (found.op_type, found.node) == ("Det", "inner")


def test_a_loop_that_collects_an_unknown_number_of_values() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"], name="keep"),
            helper.make_node("Identity", ["state"], ["next"], name="carry"),
            helper.make_node("Identity", ["state"], ["each"], name="collect"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", T.INT64, []),
            helper.make_tensor_value_info("go", T.BOOL, []),
            helper.make_tensor_value_info("state", T.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go_on", T.BOOL, []),
            helper.make_tensor_value_info("next", T.FLOAT, [2]),
            helper.make_tensor_value_info("each", T.FLOAT, [2]),
        ],
    )
    inputs = {"n": (T.INT64, []), "x": (T.FLOAT, [2])}
    made = [node("Loop", ["n", "", "x"], ["last", "y"], body=body)]
    assert "the number of turns is not known" in one(check(model(made, inputs), Plan())).reason
    fixed = model(made, {"x": (T.FLOAT, [2])}, ("y",), {"n": np.array(3, np.int64)})
    assert check(fixed, Plan()) == []

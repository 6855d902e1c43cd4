"""What of a single node TensorRT would refuse: the operator itself, its types, attributes and inputs.

Source: the column "Restrictions" of ONNX-TensorRT's operator matrix, and NVIDIA, "TensorRT Developer Guide", Explicit
Quantization; each confirmed with the parser where TensorRT-RTX brings it (`tests/exporters/test_tensorrt_parser.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from . import _tensorrt_operators as known


@dataclass(frozen=True, slots=True)
class Breach:
    """Why, and what to do about it."""

    rule: str
    reason: str
    fix: str


def check(node: ir.Node, oldest: tuple[int, int]) -> Iterator[Breach]:
    """What TensorRT from version ``oldest`` on would refuse of a node."""
    version = ".".join(map(str, oldest))
    if node.domain not in ("", "ai.onnx"):
        yield Breach(
            "operator",
            f"operators of '{node.domain}' are ONNX Runtime's or a vendor's own, TensorRT's parser does not have it",
            "Export with ONNX's own operators: leave out the pass that made it",
        )
        return
    name = node.op_type
    if name in known.QUANTIZED_OPERATORS:
        yield Breach(
            "quantization",
            "TensorRT takes no integer arithmetic written out, nor scales computed at run time",
            "Quantize statically, by QuantizeLinear and DequantizeLinear: the pass quantize_static",
        )
        return
    if name not in known.TYPES:
        yield Breach("operator", "TensorRT's parser does not have it", "Rewrite the module with other operators")
        return
    since = known.SINCE.get(name, (0, 0))
    if since > oldest:
        first = ".".join(map(str, since))
        fix = "Let the exporter decompose it, or state tensorrt_min in the target's export_options"
        yield Breach("operator", f"TensorRT has it since {first}, the target has {version}", fix)
    yield from _types(node)
    yield from _constants(node)
    if name in _SPECIAL:
        yield from _SPECIAL[name](node)


def is_quantizing(node: ir.Node) -> bool:
    """Whether a node moves numbers to integers or back."""
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _types(node: ir.Node) -> Iterator[Breach]:
    place = 1 if node.op_type in ("Where", "If", "Loop") else 0
    if node.op_type in ("If", "Loop", "DequantizeLinear", "ConstantOfShape", "Range") or place >= len(node.inputs):
        return
    value = node.inputs[place]
    allowed = known.TYPES[node.op_type]
    # What TensorRT has not at all is told once, by the tensor.
    if value is None or value.dtype is None or value.dtype in allowed or value.dtype not in known.TENSOR_TYPES:
        return
    if value.dtype == ir.DataType.UINT8 and node.op_type in ("Cast", "CastLike"):
        return
    if value.dtype == ir.DataType.UINT8:  # told by the tensor
        return
    names = ", ".join(sorted(item.name.lower() for item in allowed))
    yield Breach("type", f"it takes {names}, got {value.dtype.name.lower()}", "Cast its input")


def _constants(node: ir.Node) -> Iterator[Breach]:
    for place in known.CONSTANT_INPUTS.get(node.op_type, ()):
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None and _array(value) is None:
            yield Breach(
                "constant",
                f"its input {place} ('{value.name}') must be a constant, and is computed",
                "Make it a constant of the module, or run the pass fold_constants",
            )


def _quantize(node: ir.Node) -> Iterator[Breach]:
    scale, zero = (node.inputs[place] if place < len(node.inputs) else None for place in (1, 2))
    factors = _array(scale)
    if factors is None:
        yield Breach("quantization", "its scale is computed; TensorRT wants constants", _STATIC)
    elif not (np.isfinite(factors.astype(np.float64)) & (factors.astype(np.float64) > 0)).all():
        yield Breach("quantization", "its scales must be positive and finite", "Calibrate again")
    per_axis = factors is not None and factors.size > 1
    if per_axis and node.op_type == "QuantizeLinear" and _array(node.inputs[0]) is None:
        yield Breach("quantization", "activations are quantized with one scale for the whole tensor", _STATIC)
    in_blocks = (ir.DataType.INT4, ir.DataType.FLOAT4E2M1, ir.DataType.FLOAT8E4M3FN)
    if _integer(node, "block_size") and _dtype(node) not in in_blocks:
        yield Breach("quantization", "blocks are for 4 bits and float8 alone", _STATIC)
    dtype = _dtype(node)
    if dtype == ir.DataType.UINT8:
        reason = "uint8 would be read as int8, so that half of the range saturates"
        yield Breach("quantization", reason, 'Quantize to int8: activations = "int8", symmetric = true')
    elif dtype == ir.DataType.INT32:
        yield Breach("quantization", "a bias in int32 cannot be dequantized", 'Leave it in float: bias = "float"')
    elif dtype is not None and dtype not in known.TYPES["DequantizeLinear"]:
        yield Breach("quantization", f"{dtype.name.lower()} is not a type that TensorRT quantizes to", _STATIC)
    offsets = _array(zero)
    if zero is not None and offsets is None:
        yield Breach("quantization", "its zero point is computed; TensorRT wants 0", _STATIC)
    elif offsets is not None and offsets.astype(np.float32).any() and dtype != ir.DataType.UINT8:
        worst = offsets.reshape(-1)[np.abs(offsets.astype(np.float32)).argmax()]
        yield Breach("quantization", f"its zero point is {worst}, TensorRT takes 0 alone", "Use symmetric = true")


_STATIC = 'Quantize by the pass quantize_static with activations = "int8", symmetric = true, bias = "float"'


def _dtype(node: ir.Node) -> ir.DataType | None:
    """The integer type: what QuantizeLinear makes, what DequantizeLinear reads."""
    value = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    for item in (zero, value):
        if item is not None and item.dtype is not None:
            return item.dtype
    return None


def _pool(node: ir.Node) -> Iterator[Breach]:
    kernel = _integers(node, "kernel_shape")
    if len(kernel) > 3:
        yield Breach("attribute", f"pooling over {len(kernel)} dimensions; TensorRT takes up to 3", "Reshape around it")
    if any(size != 1 for size in _integers(node, "dilations")):
        yield Breach("attribute", "pooling with dilations", "Leave dilation at 1")
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        yield Breach("output", "the indices of the maxima are not available", "Do without return_indices")


def _lp_pool(node: ir.Node) -> Iterator[Breach]:
    yield from _pool(node)
    if _integer(node, "p", 2) not in (1, 2):
        yield Breach("attribute", f"p must be 1 or 2, got {_integer(node, 'p', 2)}", "Use another norm")


def _mod(node: ir.Node) -> Iterator[Breach]:
    value = node.inputs[0]
    if value is not None and value.dtype in known.FLOATS and not _integer(node, "fmod"):
        yield Breach("attribute", "the remainder of floats needs fmod = 1", "Use torch.fmod")


def _range(node: ir.Node) -> Iterator[Breach]:
    dtype = node.outputs[0].dtype
    if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        yield Breach("type", f"it counts in float32, int32 or int64, got {dtype.name.lower()}", "Count in float32")


def _attention(node: ir.Node) -> Iterator[Breach]:
    yield from _first_output_only(node)
    softcap = node.attributes.get("softcap")
    if softcap is not None and float(softcap.value):
        yield Breach("attribute", "softcap is not supported", "Write the attention out")


def _first_output_only(node: ir.Node) -> Iterator[Breach]:
    for output in node.outputs[1:]:
        if output.uses() or output.is_graph_output():
            yield Breach("output", f"only its first output is available, '{output.name}' is read", "Compute it apart")


def _recurrent(node: ir.Node) -> Iterator[Breach]:
    names = [item.decode() if isinstance(item, bytes) else str(item) for item in _values(node, "activations")]
    half = len(names) // 2
    if _text(node, "direction", "forward") == "bidirectional" and names[:half] != names[half:]:
        yield Breach("attribute", "both directions must have the same activations", "Use one set of activations")
    for attribute in ("input_forget", "layout"):
        if _integer(node, attribute):
            yield Breach("attribute", f"'{attribute}' must be 0", "Use PyTorch's own LSTM, GRU or RNN")


def _resize(node: ir.Node) -> Iterator[Breach]:
    modes = {
        "mode": ("nearest", "linear"),
        "coordinate_transformation_mode": (
            "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners",
        ),
        "keep_aspect_ratio_policy": ("stretch",),
    }  # fmt: skip
    for attribute, allowed in modes.items():
        got = _text(node, attribute, allowed[0])
        # Cubic interpolation came after the matrix: TensorRT has it since 8.6.
        if got not in allowed and not (attribute == "mode" and got == "cubic"):
            yield Breach("attribute", f"{attribute} '{got}' is not one of {', '.join(allowed)}", "Use another mode")
    axes, value = _integers(node, "axes"), node.inputs[0]
    by_scales = len(node.inputs) > 2 and node.inputs[2] is not None and not (len(node.inputs) > 3 and node.inputs[3])
    if axes and by_scales and axes != list(range(_rank(value) or len(axes))):
        yield Breach("attribute", f"scales for the axes {axes} alone", "Give a scale for each axis, or sizes")
    if _integer(node, "antialias"):
        yield Breach("attribute", "antialiasing is not supported", "Use antialias=False")


def _top_k(node: ir.Node) -> Iterator[Breach]:
    if not _integer(node, "sorted", 1):
        yield Breach("attribute", "it must sort what it finds", "Use sorted=True")
    count = _array(node.inputs[1]) if len(node.inputs) > 1 else None
    if count is not None and int(count.reshape(-1)[0]) >= _TOP_K:
        yield Breach("attribute", f"k must be less than {_TOP_K}, got {int(count.reshape(-1)[0])}", "Take fewer")


_TOP_K = 3840


def _scatter(node: ir.Node) -> Iterator[Breach]:
    reduction = _text(node, "reduction", "none")
    if reduction != "none":
        yield Breach("attribute", f"reduction '{reduction}' is not supported", "Scatter without a reduction")


def _training(node: ir.Node) -> Iterator[Breach]:
    fed = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    mode = _array(fed)
    if fed is not None and mode is None:
        yield Breach("constant", "training_mode must be a constant", "Call model.eval() before exporting")
    if _integer(node, "training_mode") or (mode is not None and bool(mode.any())):
        yield Breach("attribute", "it is in training mode", "Call model.eval() before exporting")


def _constant_node(node: ir.Node) -> Iterator[Breach]:
    for name in ("sparse_value", "value_string", "value_strings"):
        if name in node.attributes:
            yield Breach("attribute", f"'{name}' is not supported", "Use a dense tensor of numbers")


def _grid_sample(node: ir.Node) -> Iterator[Breach]:
    rank = _rank(node.inputs[0])
    if rank is not None and rank != 4:
        yield Breach("rank", f"it takes 4 dimensions, got {rank}", "Fold one dimension into the batch")


def _eye_like(node: ir.Node) -> Iterator[Breach]:
    value = node.inputs[0]
    if value is not None and value.shape is not None and not all(isinstance(dim, int) for dim in value.shape):
        yield Breach("shape", "its size must be known when the plan is built", "Use fixed shapes")


def _if(node: ir.Node) -> Iterator[Breach]:
    branches = [item.as_graph() for item in node.attributes.values() if item.type == ir.AttributeType.GRAPH]
    for outputs in zip(*(graph.outputs for graph in branches), strict=False):
        ranks = {_rank(value) for value in outputs} - {None}
        if len(ranks) > 1:
            told = " and ".join(map(str, sorted(rank for rank in ranks if rank is not None)))
            reason = f"its branches give outputs of {told} dimensions; they must have the same"
            yield Breach("control flow", reason, "Give both branches one shape")


def _loop(node: ir.Node) -> Iterator[Breach]:
    body = node.attributes["body"].as_graph() if "body" in node.attributes else None
    if body is None:
        return
    carried = len(node.inputs) - 2
    for before, after in zip(body.inputs[2:], body.outputs[1:], strict=False):
        if before.shape is not None and after.shape is not None and before.shape != after.shape:
            reason = f"'{before.name}' changes its shape from one turn to the next"
            yield Breach("control flow", reason, "Keep what a loop carries in a buffer of fixed size")
    if len(node.outputs) > carried and (node.inputs[0] is None or _array(node.inputs[0]) is None):
        reason = "it collects one value a turn, and the number of turns is not known when the plan is built"
        yield Breach("control flow", reason, "Loop a fixed number of times, or write into a buffer of fixed size")


def check_dla(node: ir.Node) -> Iterator[Breach]:
    """What a DLA does not take of a node. Source: NVIDIA, "DLA Supported Layers and Restrictions"."""
    fallback = "Allow the GPU for it (gpu_fallback = true), or use a candidate without the DLA"
    if is_quantizing(node):
        return
    if node.op_type not in known.DLA_OPERATORS:
        yield Breach("dla-operator", "the DLA does not have it", fallback)
        return
    for name, limit in (("kernel_shape", known.DLA_MAX_KERNEL), ("strides", known.DLA_MAX_STRIDE)):
        sizes = _integers(node, name)
        if node.op_type in ("Conv", "ConvTranspose") and (len(sizes) > 2 or any(size > limit for size in sizes)):
            yield Breach("dla-size", f"{name} {sizes}: the DLA takes two dimensions, each up to {limit}", fallback)
    for value in node.outputs:
        sizes = [dim for dim in value.shape or () if isinstance(dim, int)]
        if sizes and (sizes[0] > known.DLA_MAX_BATCH or any(size > known.DLA_MAX_SIZE for size in sizes[1:])):
            reason = (
                f"'{value.name}' is {'x'.join(map(str, sizes))}: the DLA takes a batch up to {known.DLA_MAX_BATCH} and "
                f"other dimensions up to {known.DLA_MAX_SIZE}"
            )
            yield Breach("dla-size", reason, fallback)


_SPECIAL: dict[str, Callable[[ir.Node], Iterator[Breach]]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "LpPool": _lp_pool,
    "Mod": _mod,
    "Range": _range,
    "Attention": _attention,
    "LayerNormalization": _first_output_only,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Resize": _resize,
    "TopK": _top_k,
    "ScatterND": _scatter,
    "Dropout": _training,
    "BatchNormalization": _training,
    "Constant": _constant_node,
    "GridSample": _grid_sample,
    "EyeLike": _eye_like,
    "If": _if,
    "Loop": _loop,
}


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _values(node: ir.Node, name: str) -> list[Any]:
    attribute = node.attributes.get(name)
    return [] if attribute is None else list(attribute.value)


def _integers(node: ir.Node, name: str) -> list[int]:
    return [int(item) for item in _values(node, name)]


def _integer(node: ir.Node, name: str, default: int = 0) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.value)


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    return attribute.value.decode() if isinstance(attribute.value, bytes) else str(attribute.value)

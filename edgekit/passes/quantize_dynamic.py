"""Dynamic int8: weights as integers in the file, activations quantized anew in every run. Needs no calibration data.

Only matrix products gain by it. ONNX Runtime's dynamic convolution (ConvInteger) is far slower than the float one
(258 ms instead of 76 ms on a ResNet-50), so Conv stays in float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..graph import MODULE_PATH
from ..quantization.plan import name_nodes
from ..quantization.qdq import quantize_weights
from . import Change, GraphPass
from ._linear import Linear, describe, linear_layers


@dataclass(frozen=True, slots=True)
class Options:
    """What a target profile may state."""

    per_channel: bool = True
    reduce_range: bool = False  # 7-bit weights, for x86 CPUs without VNNI
    op_types: tuple[str, ...] = ("MatMul", "Gemm")

    def __post_init__(self) -> None:
        for item in self.op_types:
            if item not in ("MatMul", "Gemm"):
                raise ValueError(
                    f"'op_types' may hold MatMul and Gemm, got '{item}'"
                    + (" (dynamic int8 convolution is slower than float)" if "Conv" in item else "")
                )


class QuantizeDynamic(GraphPass):
    """``x · W`` becomes ``(quantize(x) · W_int8) · scales``, in the form that ONNX Runtime fuses into one kernel."""

    name = "quantize_dynamic"
    Options = Options

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite every MatMul and Gemm of the main graph whose weights are constant."""
        options: Options = self.options
        layers, left = linear_layers(model, options.op_types, self.context.keep_float)
        convolutions = [node for node in model.graph if node.op_type == "Conv"]
        if convolutions:
            left["dynamic int8 convolution is slower than float"] = convolutions
        quantized: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
        if layers:
            name_nodes(model)  # new nodes and values are named after those that they replace
        for layer in layers:
            _rewrite(model.graph, layer, options, quantized)
        RemoveUnusedNodesPass()(model)
        return model, Change(bool(layers), describe(layers, left, "no MatMul or Gemm with constant weights"))


def _rewrite(
    graph: ir.Graph,
    layer: Linear,
    options: Options,
    quantized: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]],
) -> None:
    node, name = layer.node, layer.node.name
    axis = 1 if options.per_channel else None
    integers, scale = quantize_weights(layer.weights(), axis, reduce_range=options.reduce_range)
    x = node.inputs[0]
    assert x is not None
    new: list[ir.Node] = []
    if x not in quantized:  # one quantizer for all that read x
        quantizer = ir.node("DynamicQuantizeLinear", [x], num_outputs=3, name=f"{x.name}_DynamicQuantizeLinear")
        for output, suffix in zip(quantizer.outputs, ("quantized", "scale", "zero_point"), strict=True):
            output.name = f"{x.name}_{suffix}"
        new.append(quantizer)
        quantized[x] = (quantizer.outputs[0], quantizer.outputs[1], quantizer.outputs[2])
    x_integers, x_scale, x_zero = quantized[x]
    weights = layer.constant(graph, "quantized", integers)
    w_scale = layer.constant(graph, "scale", scale)
    zero = layer.constant(graph, "zero_point", np.zeros(scale.shape, np.int8))
    product = ir.node("MatMulInteger", [x_integers, weights, x_zero, zero], name=name)
    cast = ir.node("Cast", product.outputs, {"to": ir.DataType.FLOAT.value}, name=f"{name}_Cast")
    scales = ir.node("Mul", [x_scale, w_scale], name=f"{name}_scales")
    scaled = ir.node("Mul", [cast.outputs[0], scales.outputs[0]], name=f"{name}_Mul")
    new += [product, cast, scales, scaled]
    for item in new:
        for output in item.outputs:
            output.name = output.name or f"{item.name}_output"
        if MODULE_PATH in node.metadata_props:
            item.metadata_props[MODULE_PATH] = node.metadata_props[MODULE_PATH]
    layer.replace(graph, new)


PLUGIN = QuantizeDynamic

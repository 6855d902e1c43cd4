"""Weight-only quantization of matrix products: 4 or 8 bits a weight, a scale for every block of inputs.

The file shrinks to about a seventh (4 bits, blocks of 32) and activations keep their precision; it is faster where the
weights' way from memory is what takes the time (large layers, few rows). Writes ``com.microsoft.MatMulNBits``, which
ONNX Runtime computes as it is and OpenVINO reads as compressed weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..graph import MODULE_PATH
from . import Change, GraphPass
from ._linear import Linear, describe, linear_layers

_DOMAIN = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Options:
    """What a target profile may state."""

    bits: int = 4
    block_size: int = 32  # inputs that share a scale: a power of two, at least 16
    accuracy_level: int = 4  # what ONNX Runtime may compute in: 0 or 1 float32, 2 float16, 3 bfloat16, 4 int8 (fastest)
    op_types: tuple[str, ...] = ("MatMul", "Gemm")

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ValueError(f"'bits' must be 4 or 8, got {self.bits}")
        if self.block_size < 16 or self.block_size & (self.block_size - 1):
            raise ValueError(f"'block_size' must be a power of two of at least 16, got {self.block_size}")
        if self.accuracy_level not in range(5):
            raise ValueError(f"0 <= 'accuracy_level' <= 4 must hold, got {self.accuracy_level}")
        for item in self.op_types:
            if item not in ("MatMul", "Gemm"):
                raise ValueError(f"'op_types' may hold MatMul and Gemm, got '{item}'")


class QuantizeWeights(GraphPass):
    """Store weights in few bits; compute as the engine likes."""

    name = "quantize_weights"
    Options = Options

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite every MatMul and Gemm of the main graph whose weights are constant."""
        options: Options = self.options
        layers, left = linear_layers(model, options.op_types, self.context.keep_float)
        for layer in layers:
            _rewrite(model.graph, layer, options)
        if layers:
            model.opset_imports.setdefault(_DOMAIN, 1)
            RemoveUnusedNodesPass()(model)
        return model, Change(bool(layers), describe(layers, left, "no MatMul or Gemm with constant weights"))


def quantize_blocks(
    weights: NDArray[np.float32], bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric integers by blocks along the inputs, as MatMulNBits stores them.

    ``weights [in, out]`` → integers ``[out, blocks, block_size · bits / 8]`` and scales ``[out, blocks]``, with
    ``blocks = ceil(in / block_size)``. The zero point is ``2^(bits−1)``. The value of largest magnitude in a block is
    the lowest integer exactly, whichever its sign: ``scale = value / −2^(bits−1)`` uses the whole range.
    """
    inputs, outputs = weights.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((outputs, blocks * block_size), np.float32)
    padded[:, :inputs] = weights.T
    grouped = padded.reshape(outputs, blocks, block_size)
    peak = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=2, keepdims=True), axis=2)
    middle = 1 << (bits - 1)
    scale = peak / np.float32(-middle)
    safe = np.where(scale == 0, np.float32(1), scale)
    integers = np.clip(np.rint(grouped / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        integers = integers[:, :, 0::2] | (integers[:, :, 1::2] << 4)
    return integers, np.asarray(scale[:, :, 0], np.float32)


def _rewrite(graph: ir.Graph, layer: Linear, options: Options) -> None:
    node, weights = layer.node, layer.weights()
    integers, scale = quantize_blocks(weights, options.bits, options.block_size)
    attributes: dict[str, Any] = {
        "K": weights.shape[0],
        "N": weights.shape[1],
        "bits": options.bits,
        "block_size": options.block_size,
        "accuracy_level": options.accuracy_level,
    }
    inputs = [
        node.inputs[0],
        layer.constant(graph, f"q{options.bits}", integers),
        layer.constant(graph, "scales", scale.reshape(-1)),
    ]
    product = ir.node("MatMulNBits", inputs, attributes, domain=_DOMAIN, name=node.name)
    product.outputs[0].name = f"{node.name}_output"
    if MODULE_PATH in node.metadata_props:
        product.metadata_props[MODULE_PATH] = node.metadata_props[MODULE_PATH]
    layer.replace(graph, [product])


PLUGIN = QuantizeWeights

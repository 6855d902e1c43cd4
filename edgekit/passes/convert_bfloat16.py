"""Compute in bfloat16: 8 bits of precision, the range of float32."""

from __future__ import annotations

import onnx_ir as ir

from ._precision import ConvertFloat


class ConvertBFloat16(ConvertFloat):
    """Convert float32 nodes and weights to bfloat16; inputs and outputs stay float32 unless told otherwise."""

    name = "convert_bfloat16"
    dtype = ir.DataType.BFLOAT16


PLUGIN = ConvertBFloat16

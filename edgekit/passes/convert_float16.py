"""Compute in float16: 11 bits of precision, numbers up to 65504."""

from __future__ import annotations

import onnx_ir as ir

from ._precision import ConvertFloat


class ConvertFloat16(ConvertFloat):
    """Convert float32 nodes and weights to float16; inputs and outputs stay float32 unless told otherwise."""

    name = "convert_float16"
    dtype = ir.DataType.FLOAT16


PLUGIN = ConvertFloat16

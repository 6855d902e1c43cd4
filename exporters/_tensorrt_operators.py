"""Which ONNX operators TensorRT's parser has, since when, and in which types.

Sources: ONNX-TensorRT, ``docs/operators.md`` of release 10.1 and ``docs/Changelog.md`` up to 10.6 (github.com/onnx/
onnx-tensorrt); for what came later, the parser itself as it answers in TensorRT-RTX 1.7, the sibling of TensorRT 11.4
(``OnnxParser.supports_operator``; `tests/exporters/test_tensorrt_parser.py` asks it).
"""

from __future__ import annotations

import onnx_ir as ir

_D = ir.DataType
FLOATS = frozenset({_D.FLOAT, _D.FLOAT16, _D.BFLOAT16})
NUMBERS = FLOATS | {_D.INT32, _D.INT64}
ANY = NUMBERS | {_D.BOOL}
_BOOL = frozenset({_D.BOOL})
_HALF = frozenset({_D.FLOAT, _D.FLOAT16})

# Operator → the types of what it computes on. An operator that is in none of these TensorRT does not take.
_BY_TYPES = {
    FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Conv ConvTranspose Cos Cosh CumSum
        Dropout Einsum Elu Erf Exp Floor Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU
        HardSigmoid HardSwish Hardmax InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM
        LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu QuantizeLinear RMSNormalization
        Reciprocal Resize RNN Round RotaryEmbedding Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh
        ThresholdedRelu Upsample Attention""",
    _HALF: "DeformConv GridSample Mish NonMaxSuppression NonZero RoiAlign STFT",
    NUMBERS: """
        Abs Add ArgMax ArgMin Clip DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min
        Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
        ReduceProd ReduceSum ReduceSumSquare Relu Scan Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub
        Sum TensorScatter TopK""",
    ANY: """
        Cast CastLike Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If
        Loop OneHot RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reshape ReverseSequence Shape Size
        Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where BlackmanWindow HammingWindow HannWindow""",
    _BOOL: "And Not Or Xor",
}
TYPES: dict[str, frozenset[ir.DataType]] = {
    name: types for types, names in _BY_TYPES.items() for name in names.split()
} | {"DequantizeLinear": frozenset({_D.INT8, _D.INT4, _D.FLOAT8E4M3FN, _D.FLOAT4E2M1})}
"""Operator of ONNX's own domain → the types that its first input (of Where, the second) may have."""

SINCE: dict[str, tuple[int, int]] = {
    "DeformConv": (10, 1),
    "BlackmanWindow": (10, 4),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
    # Of ONNX 1.19 and later, which TensorRT 10.3's parser was not built with.
    "Attention": (11, 0),
    "RMSNormalization": (11, 0),
    "RotaryEmbedding": (11, 0),
    "Swish": (11, 0),
    "TensorScatter": (11, 0),
}
"""Operator → the first TensorRT whose parser has it, where that is later than 10.0."""

MAX_OPSET = (((10, 0), 20), ((10, 6), 22), ((10, 11), 23), ((11, 0), 25))
"""The first TensorRT of a line → the newest opset that its parser states."""
MIN_OPSET = 9

QUANTIZED_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
"""Integer arithmetic written out: TensorRT takes QuantizeLinear and DequantizeLinear around float operators instead."""

TENSOR_TYPES = frozenset(
    {*ANY, _D.INT8, _D.UINT8, _D.INT4, _D.FLOAT8E4M3FN, _D.FLOAT4E2M1, _D.FLOAT8E8M0}
)  # fmt: skip
"""What a tensor may hold at all; uint8 only beside a Cast, the other types under 16 bits only quantized."""

# Operator → the positions of inputs that must be constants.
CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    "CumSum": (1,),
    "OneHot": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    **{f"Reduce{kind}": (1,) for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")},
    "ReduceSumSquare": (1,),
    "STFT": (1, 3),
}

# On the deep learning accelerator of a Jetson Orin. Source: NVIDIA, "DLA Supported Layers and Restrictions".
DLA_OPERATORS = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Div", "Flatten",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "LRN", "MatMul", "Max", "MaxPool", "Min",
    "Mul", "Pow", "PRelu", "ReduceMax", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Sub", "Sum",
    "Tanh", "Transpose",
})  # fmt: skip
DLA_MAX_BATCH = 4096
DLA_MAX_SIZE = 8192
DLA_MAX_KERNEL, DLA_MAX_STRIDE = 32, 8

"""Multiply–accumulates of one node, from its operator's definition and the shapes around it.

Counted is what grows with a product of sizes: convolutions, matrix products, attention, recurrences. Element-wise
operators, normalizations and softmax are not, as is the custom (1 MAC = 1 multiplication with its addition).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir


class UnknownShapeError(ValueError):
    """A shape that the formula needs is not known."""


def macs(node: ir.Node) -> int | None:
    """The node's MACs, or None for an operator that has none worth counting.

    Raises:
        UnknownShapeError: a shape that the formula needs is not known.
    """
    formula = _FORMULAS.get((node.domain, node.op_type))
    return None if formula is None else formula(node)


def _size(node: ir.Node, place: int) -> tuple[int, ...]:
    """The shape of an input."""
    value = node.inputs[place] if place < len(node.inputs) else None
    return _known(value, node)


def _known(value: ir.Value | None, node: ir.Node) -> tuple[int, ...]:
    tensor = value.const_value if value is not None else None
    shape = tensor.shape if tensor is not None else value.shape if value is not None else None
    if shape is None or not all(isinstance(size, int) for size in shape):
        name = "" if value is None else value.name
        raise UnknownShapeError(f"{node.op_type} '{node.name}': the shape of '{name}' is not known")
    return tuple(int(size) for size in shape)  # type: ignore[arg-type]


def _conv(weight: int) -> Callable[[ir.Node], int]:
    """Each output number sums over in/groups × kernel; W is [out, in/groups, *kernel]."""
    return lambda node: math.prod(_known(node.outputs[0], node)) * math.prod(_size(node, weight)[1:])


def _conv_transpose(node: ir.Node) -> int:
    """Each input number goes into out/groups × kernel sums; W is [in, out/groups, *kernel]."""
    return math.prod(_size(node, 0)) * math.prod(_size(node, 1)[1:])


def _gemm(node: ir.Node) -> int:
    """A is [M, K], or [K, M] where transA says so; each of M × N numbers sums over K."""
    transposed = "transA" in node.attributes and node.attributes["transA"].as_int()
    return math.prod(_known(node.outputs[0], node)) * _size(node, 0)[0 if transposed else 1]


def _matmul(node: ir.Node) -> int:
    """A is [..., M, K]: each number of the output sums over K."""
    return math.prod(_known(node.outputs[0], node)) * _size(node, 0)[-1]


def _recurrent(node: ir.Node) -> int:
    """Every step of X [time, batch, in] multiplies by W [dirs, gates·H, in] and R [dirs, gates·H, H]."""
    steps = math.prod(_size(node, 0)[:2])
    return steps * (math.prod(_size(node, 1)) + math.prod(_size(node, 2)))


def _attention(node: ir.Node) -> int:
    """Q·Kᵀ and the product with V. [batch, heads, length, head], or [batch, length, heads·head], for each of Q, K, V.

    Keys that come from a cache (past_key) lengthen L_k.
    """
    query, key, value = (_size(node, place) for place in range(3))
    if len(query) == 3:
        # heads × head of Q; with grouped queries V has fewer heads, of the same size as each of Q's uses.
        heads = node.attributes["q_num_heads"].as_int() if "q_num_heads" in node.attributes else 1
        shared = node.attributes["kv_num_heads"].as_int() if "kv_num_heads" in node.attributes else heads
        batch, length, width = query
        past = _size(node, 4)[2] if len(node.inputs) > 4 and node.inputs[4] is not None else 0
        return batch * length * (key[1] + past) * (width + value[2] // shared * heads)
    batch, heads, length, head = query
    past = _size(node, 4)[2] if len(node.inputs) > 4 and node.inputs[4] is not None else 0
    return batch * heads * length * (key[2] + past) * (head + value[3])


def _multi_head_attention(node: ir.Node) -> int:
    """com.microsoft: Q [batch, L, D], K [batch, L_k, D], V [batch, L_k, D_v]."""
    (batch, length, width), key, value = _size(node, 0), _size(node, 1), _size(node, 2)
    if len(key) == 4:  # [batch, heads, L_k, head]
        return batch * length * key[2] * (width + value[1] * value[3])
    return batch * length * key[1] * (width + value[2])


def _packed_attention(node: ir.Node) -> int:
    """com.microsoft: X [batch, L, D] times W [D, D_q + D_k + D_v], then attention over L."""
    (batch, length, width), (_, packed) = _size(node, 0), _size(node, 1)
    return batch * length * width * packed + 2 * batch * length * length * (packed // 3)


def _matmul_nbits(node: ir.Node) -> int:
    """com.microsoft: A [..., K] times a packed [N, K]."""
    return math.prod(_size(node, 0)) * node.attributes["N"].as_int()


def _einsum(node: ir.Node) -> int:
    """Every combination of the indices is one multiplication (two operands, no ellipsis)."""
    left = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    if len(left) != 2 or "." in "".join(left):
        raise UnknownShapeError(f"Einsum '{node.name}': the formula holds for two operands without '...'")
    sizes: dict[str, int] = {}
    for place, letters in enumerate(left):
        sizes.update(zip(letters, _size(node, place), strict=True))
    return math.prod(sizes.values())


_MICROSOFT = "com.microsoft"
_FORMULAS: dict[tuple[str, str], Callable[[ir.Node], int]] = {
    ("", "Conv"): _conv(1),
    ("", "ConvInteger"): _conv(1),
    ("", "QLinearConv"): _conv(3),
    (_MICROSOFT, "FusedConv"): _conv(1),
    ("", "ConvTranspose"): _conv_transpose,
    ("", "Gemm"): _gemm,
    (_MICROSOFT, "FusedGemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "MatMulInteger"): _matmul,
    ("", "QLinearMatMul"): _matmul,
    (_MICROSOFT, "FusedMatMul"): _matmul,
    (_MICROSOFT, "MatMulIntegerToFloat"): _matmul,
    (_MICROSOFT, "DynamicQuantizeMatMul"): _matmul,
    (_MICROSOFT, "MatMulNBits"): _matmul_nbits,
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
    ("", "Attention"): _attention,
    (_MICROSOFT, "MultiHeadAttention"): _multi_head_attention,
    (_MICROSOFT, "Attention"): _packed_attention,
    ("", "Einsum"): _einsum,
}

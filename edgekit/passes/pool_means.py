"""Turn a mean over all spatial axes into ``GlobalAveragePool``, which engines compute in one kernel, in either layout.

    ReduceMean(x, axes = [2, …, r − 1], keepdims = 1) = GlobalAveragePool(x)          x [N, C, D₃, …]

and without ``keepdims`` a Flatten of it. PyTorch's adaptive pooling to 1 and squeeze-and-excitation blocks reach ONNX
as such means; ONNX Runtime's CUDA provider computes them by a reduction and a division of its own.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from . import Change, GraphPass
from ._rewriting import constant, int_of, is_onnx, main_nodes, rank_of, replace, unique_names

_FLOATING = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


class PoolMeans(GraphPass):
    """Replace ReduceMean where GlobalAveragePool computes the same."""

    name = "pool_means"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite each one that can be, and say for the others why not."""
        found = [node for node in main_nodes(model) if is_onnx(node, "ReduceMean")]
        if not found:
            return model, Change(False, "the graph has no ReduceMean")
        reasons = Counter(reason for node in found if (reason := _rewrite(node)))
        done = len(found) - reasons.total()
        if done:
            unique_names(model)
        detail = f"rewrote {done} of {len(found)} ReduceMean"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(done > 0, f"{detail}; {left}" if left else detail)


def _rewrite(node: ir.Node) -> str | None:
    """Rewrite one node; or return why not."""
    data = node.inputs[0]
    rank = None if data is None else rank_of(data)
    if data is None or rank is None or rank < 3:
        return "its data has no spatial axes, or no known rank"
    dtype = data.dtype
    if dtype is None or dtype not in _FLOATING:
        return "it is of no floating-point type"
    axes = _axes(node)
    if axes is None or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        return "it is over other axes than the spatial ones"
    pool = ir.node("GlobalAveragePool", [data])
    new = [pool]
    if not int_of(node, "keepdims", 1):
        if rank_of(node.outputs[0]) not in (None, 2):
            return "its result has another rank than it should"
        new.append(ir.node("Flatten", [pool.outputs[0]], {"axis": 1}))
    for item in new:
        item.outputs[0].dtype = dtype
    replace([node], new, node.outputs[0], new[-1].outputs[0])
    return None


def _axes(node: ir.Node) -> list[int] | None:
    """An attribute up to operator set 17, an input from 18 on; None: not stated, or computed."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    stated = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if stated is None else [int(axis) for axis in stated.reshape(-1)]


PLUGIN = PoolMeans

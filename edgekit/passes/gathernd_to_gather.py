"""Turn ``GatherND`` by constant indices into ``Gather``, which every engine has and most run faster.

PyTorch's ``x[:, idx]`` becomes Transpose → GatherND → Transpose. With indices I of shape [n₁…, K] and no batch axes,

    GatherND(x, I)[n, …] = x[I[n, 0], …, I[n, K−1], …]

- K = 1: that is ``Gather(x, I[…, 0], axis=0)`` for any I, constant or not.
- K > 1, I constant with K axes before the last, and I[n₁…n_K, k] depending on n_k only (the mesh of K index vectors,
  checked number by number): that is K Gathers, one an axis.

Both are equalities for every x, negative indices included, as both operators count them from the end. A Transpose
before, if nobody else reads it, moves into the axis of the Gather, and one after is merged; what remains of the two
is one Transpose or none.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from ..contracts import Array
from ..graph import add_initializer
from . import Change, GraphPass
from ._rewriting import constant, int_of, is_onnx, main_nodes, rank_of, replace, single_user, unique_names


class GatherNDToGather(GraphPass):
    """Replace GatherND where Gather computes the same."""

    name = "gathernd_to_gather"

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Rewrite each one that can be, and say for the others why not."""
        found = [node for node in main_nodes(model) if is_onnx(node, "GatherND")]
        if not found:
            return model, Change(False, "the graph has no GatherND")
        reasons = Counter(reason for node in found if (reason := _rewrite(node)))
        done = len(found) - reasons.total()
        if done:
            unique_names(model)
        detail = f"rewrote {done} of {len(found)} GatherND"
        left = "; ".join(f"{count} left: {reason}" for reason, count in reasons.most_common())
        return model, Change(done > 0, f"{detail}; {left}" if left else detail)


def _rewrite(node: ir.Node) -> str | None:
    """Rewrite one node; or return why not."""
    data, indices, graph = node.inputs[0], node.inputs[1], node.graph
    if data is None or indices is None or graph is None:
        return "it lacks an input"
    if int_of(node, "batch_dims", 0):
        return "it has batch axes"
    rank = rank_of(data)
    if rank is None:
        return "the rank of its data is unknown"
    old, new = [node], list[ir.Node]()

    vectors = _vectors(indices)
    if isinstance(vectors, str):
        return vectors
    if vectors is None:
        flat = ir.node("Squeeze", [indices, add_initializer(graph, f"{node.name}_axes", np.array([-1]))])
        new.append(flat)
        picks, pick_ranks = [flat.outputs[0]], [(rank_of(indices) or 1) - 1]
    else:
        picks = [add_initializer(graph, f"{indices.name}_{k}", vector) for k, vector in enumerate(vectors)]
        pick_ranks = [vector.ndim for vector in vectors]

    # Follow the axes by name: those of x are 0…rank−1, those of the k-th index are (k, 0), (k, 1)….
    order: list[object] = list(range(rank))
    maker = data.producer()
    if maker is not None and maker.graph is graph and single_user(data) is node:
        permutation = _transpose(maker)
        if permutation is not None:
            old.insert(0, maker)
            data, order = maker.inputs[0], list(permutation)
    count = len(picks)
    wanted: list[object] = [(k, axis) for k in range(count) for axis in range(pick_ranks[k])] + order[count:]
    axes: list[object] = list(range(rank))
    value = data
    for k, pick in enumerate(picks):
        place = axes.index(order[k])
        gather = ir.node("Gather", [value, pick], {"axis": place})
        new.append(gather)
        value = gather.outputs[0]
        axes[place : place + 1] = [(k, axis) for axis in range(pick_ranks[k])]

    result = node.outputs[0]
    after = single_user(result)
    if after is not None and after.graph is graph and (permutation := _transpose(after)) is not None:
        old.append(after)
        result = after.outputs[0]
        wanted = [wanted[axis] for axis in permutation]
    if wanted != axes:
        transpose = ir.node("Transpose", [value], {"perm": [axes.index(axis) for axis in wanted]})
        new.append(transpose)
        value = transpose.outputs[0]
    if value is None:
        return "it lacks an input"
    replace(old, new, result, value)
    return None


def _vectors(indices: ir.Value) -> list[Array] | str | None:
    """One index array for each indexed axis; None: the one that squeezing ``indices`` gives; or why there are none."""
    known = constant(indices)
    if known is None:
        shape = indices.shape
        if shape is None or shape[-1] != 1:
            return "its indices are not constant"
        return None
    if known.shape[-1] == 1:
        return [np.ascontiguousarray(known[..., 0])]
    count = known.shape[-1]
    if known.ndim != count + 1:
        return "its indices are not a mesh of one vector for each axis"
    vectors = []
    for k in range(count):
        mesh = known[..., k]
        vector = mesh[tuple(slice(None) if axis == k else slice(1) for axis in range(count))]
        if mesh.size == 0 or not np.array_equal(np.broadcast_to(vector, mesh.shape), mesh):
            return "its indices are not a mesh of one vector for each axis"
        vectors.append(np.ascontiguousarray(vector.reshape(-1)))
    return vectors


def _transpose(node: ir.Node | None) -> tuple[int, ...] | None:
    """The permutation of a Transpose that states it."""
    if node is None or not is_onnx(node, "Transpose") or "perm" not in node.attributes:
        return None
    return tuple(node.attributes["perm"].as_ints())


PLUGIN = GatherNDToGather

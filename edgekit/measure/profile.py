"""Where the time goes: the engine's nodes, mapped back to the graph's and its PyTorch modules, against the roofline.

    limit = max(MACs / peak rate, bytes / bandwidth)        of_limit = limit / time

The bytes of a node are those of the tensors that it reads and writes, each once; what fused nodes hand to each other
stays inside and does not count. Sources: see `peaks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..contracts import LayerTime
from ..errors import BundleError
from .client import WorkerInfo
from .peaks import Peaks

SCHEMA = 1
# Nodes that engines add to change a tensor's layout or type: they belong to no node of the graph.
_LAYOUT = frozenset({"Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Convert", "Cast", "MemcpyToHost"})
_ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1, "u8": 1, "i32": 4, "i64": 8, "i4": 0.5, "u4": 0.5}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the artifact's graph, as ``layers.json`` has it."""

    name: str
    op_type: str
    module: str
    macs: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """The content of ``layers.json``."""

    nodes: tuple[GraphNode, ...]
    tensors: Mapping[str, Mapping[str, Any]]  # name → elements, bytes, constant


@dataclass(frozen=True, slots=True)
class ProfiledLayer:
    """One node of the engine."""

    name: str
    op_type: str
    time_s: float
    share: float  # of all nodes' time
    nodes: tuple[str, ...]  # of the graph; () where the engine made it itself, to change a layout for instance
    modules: tuple[str, ...]  # PyTorch's, the one with the most MACs first
    macs: int | None
    bytes: float | None
    limit: str | None  # "compute" or "memory": which roof is the lower one
    of_limit: float | None  # 1: as fast as the machine can; above: a faster data type, or a cache, than the roof knows


def read_layers(path: Path) -> Layers | None:
    """The graph's nodes as export wrote them into the bundle; None in one that an older version wrote.

    Raises:
        BundleError: not what `edgekit.analysis.layers.layers_json` writes.
    """
    if not path.is_file():
        return None
    try:
        table = json.loads(path.read_bytes())
        if table["schema"] != SCHEMA:
            raise BundleError(f"'{path.name}' has schema {table['schema']!r}; this edgekit reads schema {SCHEMA}")
        nodes = tuple(
            GraphNode(
                item["name"],
                item["op_type"],
                item["module"],
                item["macs"],
                tuple(item["inputs"]),
                tuple(item["outputs"]),
            )
            for item in table["nodes"]
        )
        return Layers(nodes, table["tensors"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"'{path.name}' is not what export writes: {type(error).__name__} {error}") from error


def join(times: Sequence[LayerTime], layers: Layers | None, peaks: Peaks | None) -> list[ProfiledLayer]:
    """Each of the engine's nodes with what it computes and how far it is from the limit, the slowest first.

    Args:
        times: the engine's nodes in the order they ran.
        layers: the graph; None: not known, and times are all there is.
        peaks: the machine's roofs; None: not known.
    """
    total_s = sum(item.time_s for item in times) or 1.0
    groups = _groups(times, layers) if layers is not None else [()] * len(times)
    found = []
    for item, group in zip(times, groups, strict=True):
        macs = _macs(group)
        size = _bytes(group, layers, item.precision) if layers is not None and group else None
        limit, limit_s = _limit(macs, size, peaks)
        found.append(
            ProfiledLayer(
                name=item.name,
                op_type=item.op_type,
                time_s=item.time_s,
                share=item.time_s / total_s,
                nodes=tuple(node.name for node in group),
                modules=_modules(group),
                macs=macs,
                bytes=size,
                limit=limit,
                of_limit=limit_s / item.time_s if limit_s is not None and item.time_s > 0 else None,
            )
        )
    return sorted(found, key=lambda layer: -layer.time_s)


def _modules(group: Sequence[GraphNode]) -> tuple[str, ...]:
    # What quantizes a tensor carries the module that made it, which may be another than the one that computes here.
    computing = [node for node in group if not _is_quantization(node)] or group
    ranked = sorted(computing, key=lambda node: -(node.macs or 0))
    return tuple(dict.fromkeys(node.module for node in ranked if node.module))


def _macs(group: Sequence[GraphNode]) -> int | None:
    if not group or any(node.macs is None for node in group):
        return None
    return sum(node.macs or 0 for node in group)


def _bytes(group: Sequence[GraphNode], layers: Layers, precision: str | None) -> float | None:
    """Of the tensors that cross the group's border, in the engine's precision where it tells one."""
    inside = {id(node) for node in group}
    made = {name for node in group for name in node.outputs}
    read = {name for node in group for name in node.inputs} - made
    used_outside = {name for node in layers.nodes if id(node) not in inside for name in node.inputs}
    used_inside = {name for node in group for name in node.inputs}
    written = {name for name in made if name in used_outside or name not in used_inside}
    total = 0.0
    for name in read | written:
        tensor = layers.tensors[name]
        if tensor["bytes"] is None:
            return None
        item_bytes = _ITEM_BYTES.get(precision or "")
        total += tensor["bytes"] if item_bytes is None else tensor["elements"] * item_bytes
    return total


def _limit(macs: int | None, size: float | None, peaks: Peaks | None) -> tuple[str | None, float | None]:
    if peaks is None or macs is None or size is None:
        return None, None
    compute_s, memory_s = macs / peaks.macs_per_s, size / peaks.bandwidth(size)
    return ("compute", compute_s) if compute_s > memory_s else ("memory", memory_s)


def _groups(times: Sequence[LayerTime], layers: Layers) -> list[tuple[GraphNode, ...]]:
    """The graph's nodes in each of the engine's, in the graph's order."""
    nodes = layers.nodes
    by_name = {node.name: index for index, node in enumerate(nodes)}
    by_output = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    owner: dict[int, set[int]] = {}  # node of the graph → nodes of the engine
    anchors: list[int | None] = []  # of each node of the engine: its last known node of the graph
    for place, item in enumerate(times):
        known = [by_name.get(name, by_output.get(name)) for name in item.covers]
        found = [index for index in known if index is not None]
        for index in found:
            owner.setdefault(index, set()).add(place)
        anchors.append(max(found, default=None))
    _fill_gaps(times, anchors, owner, nodes)
    _absorb(times, owner, nodes)
    groups: list[list[GraphNode]] = [[] for _ in times]
    for index, node in enumerate(nodes):
        for place in owner.get(index, ()):
            groups[place].append(node)
    return [tuple(group) for group in groups]


def _fill_gaps(
    times: Sequence[LayerTime], anchors: Sequence[int | None], owner: dict[int, set[int]], nodes: Sequence[GraphNode]
) -> None:
    """An engine's node of an unknown name stands for what is missing between its neighbours (a decomposed operator)."""
    for place, item in enumerate(times):
        if anchors[place] is not None or item.op_type in _LAYOUT:
            continue
        before = next((anchor for anchor in reversed(anchors[:place]) if anchor is not None), -1)
        after = next((anchor for anchor in anchors[place + 1 :] if anchor is not None), len(nodes))
        for index in range(before + 1, after):
            if index not in owner and not _is_quantization(nodes[index]):
                owner[index] = {place}


def _absorb(times: Sequence[LayerTime], owner: dict[int, set[int]], nodes: Sequence[GraphNode]) -> None:
    """Give each node without a time of its own to the neighbour that it was fused into.

    To what reads it: a DequantizeLinear (each of its readers has its own copy), and a node of the operator that the
    engine says its reader is (a convolution whose fused node is named after the activation). Else to what made its
    input; else to what reads it.
    """
    makers = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(index)

    def after(index: int) -> set[int]:
        return {
            place
            for name in nodes[index].outputs
            for reader in readers.get(name, ())
            for place in owner.get(reader, ())
        }

    def before(index: int) -> set[int]:
        return {place for name in nodes[index].inputs if name in makers for place in owner.get(makers[name], ())}

    for index in reversed(range(len(nodes))):  # from the end: what reads a node has its owner by then
        if index not in owner:
            claims = after(index)
            if nodes[index].op_type != "DequantizeLinear":
                claims = {place for place in claims if times[place].op_type == nodes[index].op_type}
            if claims:
                owner[index] = claims
    for index in range(len(nodes)):
        if index not in owner and (claims := before(index)):
            owner[index] = {max(claims)}
    for index in reversed(range(len(nodes))):
        if index not in owner and (claims := after(index)):
            owner[index] = {min(claims)}


def _is_quantization(node: GraphNode) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def to_json(layers: Iterable[ProfiledLayer], runs: int, peaks: Peaks | None, notes: Sequence[str]) -> dict[str, Any]:
    """The object under ``profile`` of ``bench --json``, the slowest layer first."""
    rows = [
        {
            "name": item.name,
            "op_type": item.op_type,
            "modules": list(item.modules),
            "nodes": list(item.nodes),
            "time_s": item.time_s,
            "share": item.share,
            "macs": item.macs,
            "bytes": item.bytes,
            "macs_per_s": item.macs / item.time_s if item.macs and item.time_s > 0 else None,
            "bytes_per_s": item.bytes / item.time_s if item.bytes and item.time_s > 0 else None,
            "limit": item.limit,
            "of_limit": item.of_limit,
        }
        for item in layers
    ]
    return {
        "layers": rows,
        "total_s": sum(row["time_s"] for row in rows),
        "runs": runs,
        "peaks": None if peaks is None else peaks.to_json(),
        "notes": list(notes),
    }


PROFILE_S = 2.0
"""Time for profiled runs."""


class Profiler(Protocol):
    """What a worker offers for a profile."""

    info: WorkerInfo

    def profile(self, seconds: float) -> tuple[list[LayerTime], int]:
        """Times of the nodes, and the number of runs."""
        ...

    def peaks(self, threads: int) -> Peaks | str:
        """The machine's roofs, or why they are not known."""
        ...


def profile_worker(worker: Profiler, layers_file: Path) -> dict[str, Any]:
    """Profile the model that a worker holds; the object under ``profile`` of ``bench --json``.

    Args:
        worker: a fresh one.
        layers_file: the bundle's ``layers.json``; it may be missing.

    Raises:
        EngineError: the engine or its adapter tells no times of single nodes.
        BundleError: ``layers.json`` is damaged.
    """
    layers = read_layers(layers_file)
    times, runs = worker.profile(PROFILE_S)
    peaks = worker.peaks(int(worker.info.in_force.get("threads") or 0))
    notes = []
    if layers is None:
        notes.append("the bundle has no information about its layers: an older edgekit wrote it")
    if isinstance(peaks, str):
        notes.append(peaks)
    else:
        notes.append("the compute roof is float32's: int8, bf16 and f16 layers may exceed it")
    known = None if isinstance(peaks, str) else peaks
    return to_json(join(times, layers, known), runs, known, notes)

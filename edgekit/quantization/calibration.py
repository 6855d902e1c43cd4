"""Streaming calibration: the ranges of a graph's activations over the calibration samples.

Memory does not grow with the number of samples. The first pass over them lets the engine itself reduce every tensor to
its minimum, maximum and size, so no activation leaves it. Where a method needs the distribution, a second pass counts
values into a histogram of fixed bins between those exact ends. It takes the tensors out in groups that fit a byte
budget (their sizes are known by then), each group in a pass of its own over the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..context import PassContext
from ..contracts import Feeds
from ..errors import DataError, UsageError
from ..graph import clone
from .float_session import float_session, run
from .ranges import Histogram, Method, choose

BUDGET_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class _Extent:
    """What the first pass knows of a tensor: its exact ends, and the bytes of the largest one that was seen."""

    low: float
    high: float
    size_bytes: int


def calibrate(
    model: ir.Model,
    tensors: Sequence[str],
    method: Method,
    context: PassContext,
    *,
    percentile: float = 99.999,
    budget_bytes: int = BUDGET_BYTES,
    infinite: bool = False,
) -> dict[str, tuple[float, float]]:
    """Range ``(low, high)`` of each tensor, with ``low <= 0 <= high``.

    Args:
        model: the float graph; it is left as it was.
        tensors: names of float32 values of the main graph.
        method: see `_ranges.choose`.
        context: where the samples come from; progress is reported to it, a step a sample. Its ``ranges`` keep what was
            found, so that nothing is calibrated twice.
        percentile: for the method of that name.
        budget_bytes: activations taken out of the engine in one run; at least one tensor always is.
        infinite: whether an activation may reach ±∞, as a mask does; its range then does too.

    Raises:
        UsageError: there are no calibration samples.
        DataError: an activation is not finite (with ``infinite``: not a number).
        EngineError: the engine refuses the graph or a sample.
    """
    if context.calibration is None:
        raise UsageError("quantization to static ranges needs calibration data", fix="Pass samples with --data.")
    known = context.ranges.setdefault((method, percentile if method == "percentile" else None), {})
    missing = [name for name in tensors if name not in known]
    if missing:
        known |= _calibrate(model, missing, method, context, percentile, budget_bytes, infinite)
    return {name: known[name] for name in tensors}


def _calibrate(
    model: ir.Model,
    tensors: Sequence[str],
    method: Method,
    context: PassContext,
    percentile: float,
    budget_bytes: int,
    infinite: bool,
) -> dict[str, tuple[float, float]]:
    extents = _extents(model, tensors, context, infinite)
    ranges = {name: (min(item.low, 0.0), max(item.high, 0.0)) for name, item in extents.items()}
    if method == "minmax":
        return ranges
    extents = {name: item for name, item in extents.items() if np.isfinite((item.low, item.high)).all()}
    for group in _groups(extents, budget_bytes):
        for name, histogram in _histograms(model, {name: extents[name] for name in group}, context).items():
            ranges[name] = choose(histogram, method, percentile=percentile)
    return ranges


def _extents(model: ir.Model, tensors: Sequence[str], context: PassContext, infinite: bool) -> dict[str, _Extent]:
    probe = clone(model)
    values = _values(probe)
    probe.graph.outputs.clear()
    for name in tensors:
        for op_type in ("ReduceMin", "ReduceMax", "Size"):
            attributes = {} if op_type == "Size" else {"keepdims": 0}
            node = ir.node(op_type, [values[name]], attributes)
            node.outputs[0].name = f"{name}/edgekit.{op_type}"
            node.outputs[0].type = ir.TensorType(ir.DataType.INT64 if op_type == "Size" else ir.DataType.FLOAT)
            node.outputs[0].shape = ir.Shape([])
            probe.graph.append(node)
            probe.graph.outputs.append(node.outputs[0])
    low = np.full(len(tensors), np.inf)
    high = np.full(len(tensors), -np.inf)
    size = np.zeros(len(tensors), np.int64)
    with float_session(probe, context.workdir) as session:
        for feeds in _samples(context, "ranges"):
            found = np.array(run(session, None, feeds), dtype=np.float64).reshape(len(tensors), 3)
            fine = ~np.isnan(found) if infinite else np.isfinite(found)
            if not fine.all():
                bad = tensors[int(np.flatnonzero(~fine.all(axis=1))[0])]
                raise DataError(
                    f"a calibration sample makes the activation '{bad}' infinite or not a number",
                    fix="Check the data and its preprocessing; the float model itself overflows on it.",
                )
            low, high = np.minimum(low, found[:, 0]), np.maximum(high, found[:, 1])
            size = np.maximum(size, found[:, 2].astype(np.int64))
    return {
        name: _Extent(float(low[i]), float(high[i]), int(size[i]) * np.dtype(np.float32).itemsize)
        for i, name in enumerate(tensors)
    }


def _histograms(model: ir.Model, extents: dict[str, _Extent], context: PassContext) -> dict[str, Histogram]:
    histograms = {name: Histogram.empty(item.low, item.high) for name, item in extents.items()}
    probe = clone(model)
    values = _values(probe)
    given = {value.name for value in probe.graph.inputs}  # an engine need not hand back what it is fed
    computed = [name for name in extents if name not in given]
    probe.graph.outputs.clear()
    for name in computed:
        values[name].type = values[name].type or ir.TensorType(ir.DataType.FLOAT)
        probe.graph.outputs.append(values[name])
    if not computed:
        for feeds in _samples(context, "distributions"):
            for name, histogram in histograms.items():
                histogram.add(feeds[name])
        return histograms
    with float_session(probe, context.workdir) as session:
        for feeds in _samples(context, "distributions"):
            for name, array in zip(computed, run(session, computed, feeds), strict=True):
                histograms[name].add(array)
            for name in extents.keys() & feeds.keys():
                histograms[name].add(feeds[name])
    return histograms


def _groups(extents: dict[str, _Extent], budget_bytes: int) -> list[list[str]]:
    """Split the tensors, in their order, into runs that fit the budget."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, item in extents.items():
        if groups[-1] and used + item.size_bytes > budget_bytes:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += item.size_bytes
    return groups


def _samples(context: PassContext, note: str) -> Iterator[Feeds]:
    assert context.calibration is not None
    total = context.calibration_samples or None
    count = 0
    for feeds in context.calibration():
        yield feeds
        count += 1
        context.progress.step(count, total, f"calibration: {note}")
    if not count:
        raise UsageError("the calibration data holds no samples", fix="Pass samples with --data.")


def _values(model: ir.Model) -> dict[str, ir.Value]:
    """Name → value of the main graph: its inputs and what its nodes compute."""
    values = {value.name: value for value in model.graph.inputs if value.name}
    values.update({value.name: value for node in model.graph for value in node.outputs if value.name})
    return values

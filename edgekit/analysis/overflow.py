"""Which nodes of a float16 candidate stay in float32: those around numbers that float16 does not hold.

float16 ends at 65504. A layer whose outputs pass that on real inputs makes infinities, and soon everything is NaN. So
the float32 graph is run on the samples that were missed, every tensor reduced to its largest magnitude, and where one
is too large, the node that makes it and the nodes that read it stay in float32. What overflows inside an operator,
unseen in float32 (a sum of squares), shows in the candidate itself: the first value of its own run that is not finite.

Its other end is 2⁻¹⁴ = 6.1e-5: below it numbers lose digits one by one, and below 6e-8 they are zero. A tensor that
stays below that end on all samples has lost digits throughout, so it is named as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..contracts import Feeds
from ..graph import add_initializer, clone, module_path
from ..passes.infer_shapes import InferShapes
from ..quantization.float_session import float_session, run
from ..quantization.plan import name_nodes

if TYPE_CHECKING:
    from pathlib import Path


LARGEST = 65504.0
"""The largest finite float16."""
SMALLEST = 2.0**-14
"""The smallest normal float16: a smaller number has fewer digits, or is zero."""
SAMPLES = 64
"""Samples the float32 graph is run on; the first ones of those that candidates are checked on."""
_LIKE_INFINITY = 1e30  # masks write −3.4e38 for −∞, which `convert_float16` clips: no layer computes such numbers


@dataclass(frozen=True, slots=True)
class Overflow:
    """A tensor that float16 does not hold, and the nodes that meet it."""

    tensor: str
    largest: float  # magnitude on the samples
    module: str  # of the node that makes it; its name where the graph does not tell; '' for an input of the model
    nodes: tuple[str, ...]  # the one that makes it, and those that read it

    def __str__(self) -> str:
        where = self.module or self.tensor
        if self.largest < SMALLEST:
            return f"values stay below {self.largest:.3g} in {where}, float16 has all its digits from {SMALLEST:.2g} on"
        return f"values reach {self.largest:.3g} in {where}, float16 ends at {LARGEST:.0f}"


def find_overflows(
    model: ir.Model,
    samples: Iterable[Feeds],
    workdir: Path | None = None,
    limit: float = LARGEST,
    smallest: float = 0.0,
) -> list[Overflow]:
    """The float32 tensors of the main graph whose magnitude passes ``limit`` on the samples, in the graph's order.

    Infinities and numbers that stand for them do not count, nor do tensors that are zero throughout.

    Args:
        model: the float32 graph; nameless nodes get a name, otherwise it is left as it was.
        samples: real inputs.
        workdir: where a temporary file goes.
        limit: the largest magnitude that is held.
        smallest: a tensor whose largest magnitude is below this is found, too.

    Raises:
        EngineError: ONNX Runtime refuses the graph or a sample.
    """
    name_nodes(model)
    largest = _magnitudes(model, samples, workdir)
    found = []
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        magnitude = largest.get(value.name or "", 0.0)
        if magnitude > limit or 0.0 < magnitude < smallest:
            maker = value.producer()
            met = [maker] if maker is not None else []
            met += [use.node for use in value.uses() if use.node.graph is model.graph]
            where = "" if maker is None else module_path(maker) or maker.name or ""
            names = dict.fromkeys(node.name for node in met if node.name)
            found.append(Overflow(value.name or "", magnitude, where, tuple(names)))
    return found


def _magnitudes(model: ir.Model, samples: Iterable[Feeds], workdir: Path | None) -> dict[str, float]:
    """Name of each float32 tensor → max |x| over the samples, of finite values below `_LIKE_INFINITY`."""
    probe = InferShapes()(clone(model)).model  # tells which tensors are float32
    values = [value for node in probe.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    values += [value for value in probe.graph.inputs if value.dtype == ir.DataType.FLOAT]
    values = [value for value in values if value.name]
    probe.graph.outputs.clear()
    bound = add_initializer(probe.graph, "edgekit.bound", np.array(_LIKE_INFINITY, np.float32))
    zero = add_initializer(probe.graph, "edgekit.zero", np.array(0.0, np.float32))
    for value in values:
        magnitude = ir.node("Abs", [value])
        counts = ir.node("Less", [magnitude.outputs[0], bound])  # false for NaN
        kept = ir.node("Where", [counts.outputs[0], magnitude.outputs[0], zero])
        largest = ir.node("ReduceMax", [kept.outputs[0]], {"keepdims": 0})
        largest.outputs[0].name = f"{value.name}/edgekit.largest"
        largest.outputs[0].type, largest.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        probe.graph.extend([magnitude, counts, kept, largest])
        probe.graph.outputs.append(largest.outputs[0])
    found = np.zeros(len(values))
    with float_session(probe, workdir) as session:
        for feeds in samples:
            found = np.maximum(found, np.array(run(session, None, feeds), np.float64))
    return {value.name or "": float(magnitude) for value, magnitude in zip(values, found, strict=True)}

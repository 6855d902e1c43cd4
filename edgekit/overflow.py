"""Which nodes of a float16 candidate stay in float32: those around numbers that float16 does not hold.

float16 ends at 65504. A layer whose outputs pass that on real inputs makes infinities, and soon everything is NaN. So
the float32 graph is run on the samples that were missed, every tensor reduced to its largest magnitude, and where one
is too large, the node that makes it and the nodes that read it stay in float32. What overflows inside an operator,
unseen in float32 (a sum of squares), shows in the candidate itself: the first value of its own run that is not finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from .contracts import Feeds
from .divergence import diverging_layer
from .graph import clone
from .passes import module_path
from .passes._plan import name_nodes
from .passes._session import float_session, run
from .passes.infer_shapes import InferShapes
from .repair import MAX_TRIES, Proposal
from .target import Candidate

if TYPE_CHECKING:
    from pathlib import Path

    from .candidates import Built, Check, Job

LARGEST = 65504.0
"""The largest finite float16."""
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


def find_overflows(
    model: ir.Model, samples: Iterable[Feeds], workdir: Path | None = None, limit: float = LARGEST
) -> list[Overflow]:
    """The float32 tensors of the main graph whose magnitude passes ``limit`` on the samples, in the graph's order.

    Infinities and numbers that stand for them do not count.

    Args:
        model: the float32 graph; nameless nodes get a name, otherwise it is left as it was.
        samples: real inputs.
        workdir: where a temporary file goes.
        limit: the largest magnitude that is held.

    Raises:
        EngineError: ONNX Runtime refuses the graph or a sample.
    """
    name_nodes(model)
    largest = _magnitudes(model, samples, workdir)
    found = []
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        magnitude = largest.get(value.name or "", 0.0)
        if magnitude > limit:
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
    bound = _constant(probe.graph, "edgekit.bound", _LIKE_INFINITY)
    zero = _constant(probe.graph, "edgekit.zero", 0.0)
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


def _constant(graph: ir.Graph, name: str, number: float) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(np.array(number, np.float32), name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    graph.register_initializer(value)
    return value


@dataclass
class OverflowRepair:
    """Proposals for a float16 candidate (see `repair.Repair`)."""

    candidate: Candidate
    missed: Check
    job: Job
    _kept: dict[str, str] = field(default_factory=dict)  # node → its module
    _tries: int = 0

    def next(self, failed: Built) -> Proposal | None:
        """First the nodes around numbers that are too large; then, one by one, those whose inside overflows."""
        self._tries += 1
        if self._tries > MAX_TRIES:
            return None
        if self._tries == 1:
            overflows = find_overflows(self.job.graph, self._samples(), self.job.workdir)
            if overflows:
                paths = {node.name: module_path(node) for node in self.job.graph.graph}
                self._kept |= {name: paths.get(name, "") for item in overflows for name in item.nodes}
                worst = max(overflows, key=lambda item: item.largest)
                where = worst.module or worst.tensor
                why = f"values reach {worst.largest:.3g} in {where}, float16 ends at {LARGEST:.0f}"
                return self._proposal([item.module for item in overflows], why)
        return self._inside(failed)

    def _inside(self, failed: Built) -> Proposal | None:
        """The first node of the candidate's own run whose output is not finite though its inputs are."""
        if not self.job.site.is_here:  # the walk opens the engine on this machine
            return None
        for feeds in self._samples():
            found = diverging_layer(failed, self.job, feeds)
            if found is None or np.isfinite(found.rel_l2) or not found.node or found.node in self._kept:
                continue
            self._kept |= {node.name or "": module_path(node) for node in self._around(found.node)}
            where = found.module or found.node
            return self._proposal([where], f"{found.op_type} in {where} overflows float16")
        return None

    def _around(self, name: str) -> list[ir.Node]:
        """A node of the float32 graph and those that read its outputs: what is too large for one is for the others."""
        node = next(node for node in self.job.graph.graph if node.name == name)
        return [node, *(use.node for output in node.outputs for use in output.uses() if use.node.graph is node.graph)]

    def _samples(self) -> list[Feeds]:
        return [sample.feeds for sample in self.job.expected.first(SAMPLES)]

    def _proposal(self, modules: Iterable[str], why: str) -> Proposal:
        shown: Mapping[str, None] = dict.fromkeys(name for name in modules if name)
        total = sum(1 for node in self.job.graph.graph if node.op_type != "Constant")
        return Proposal(frozenset(self._kept), tuple(shown), total, "float32", why)

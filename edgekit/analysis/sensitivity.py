"""Which nodes quantization damages most, and which to leave in floating point.

One *switchable* graph answers all questions: every planned node becomes an ``If`` with two branches, the node as it was
and the node between its quantizers with its rounded weights. The switches are the elements of one boolean input, so one
session evaluates any subset of quantized nodes with one run a sample, without building a graph for each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..context import PassContext
from ..contracts import Array, Feeds
from ..errors import UsageError
from ..graph import add_initializer, clone, module_path
from ..measure.parity import Parity, ParityMeter
from ..passes.quantize_static import Options, static_plan
from ..quantization.calibration import calibrate
from ..quantization.float_session import float_session, run
from ..quantization.plan import NodePlan, Plan, name_nodes
from ..quantization.qdq import Params, Scheme, activation_params, quantize_weights

MAX_RUNS = 512
"""About how often the model is run to rank its nodes: samples times groups of nodes."""
MAX_GROUPS = 96
_SWITCHES = "edgekit.switches"


class NothingToRankError(UsageError):
    """The graph holds no node that static quantization would touch."""


@dataclass(frozen=True, slots=True)
class NodeDamage:
    """What quantizing one node (or one module's nodes, where there are many) does to the outputs."""

    node: str  # the node's name in the float graph; the first one's, of several
    module_path: str  # its PyTorch module, or ''
    op_type: str
    noise: (
        float  # error over signal (powers) if only this is quantized, as `Goal` weighs an output's whole and worst part
    )
    nodes: tuple[str, ...] = ()  # all of them

    @property
    def sqnr_db(self) -> float:
        """``−10 · log10(noise)``."""
        return _decibels(self.noise)


@dataclass(frozen=True, slots=True)
class Goal:
    """What has to be reached against the float graph, on every output; see `measure.parity` and `measure.parts`.

    Args:
        sqnr_db: signal-to-noise ratio of the whole output.
        part_db: of its worst part; −∞: not asked for.
    """

    sqnr_db: float
    part_db: float = -math.inf

    def decibels(self, parity: Parity) -> float:
        """One figure for both, to be compared with ``sqnr_db``: the part counts with what less is asked of it."""
        return min(parity.sqnr_db, parity.part_db - self.part_db + self.sqnr_db)


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """The nodes to leave in float, and what that reaches."""

    keep_float: frozenset[str]
    sqnr_db: float  # of the switchable graph with all the others quantized, as `Goal.decibels` has it
    damage: tuple[NodeDamage, ...]  # of every quantized node, the worst first


def mixed_precision(
    model: ir.Model,
    context: PassContext,
    goal: Goal,
    options: Options | None = None,
    max_runs: int = MAX_RUNS,
) -> MixedPrecision:
    """The smallest set of nodes whose staying in float brings the quantized model to ``goal``.

    The damage of nodes is taken to add up, which gives a first set; the switchable graph with all the others quantized
    then tells what it really reaches, and the set grows or shrinks along the ranking until it just holds.

    Args:
        model: .
        context: .
        goal: what every output must reach against the float graph.
        options: .
        max_runs: .

    Raises:
        UsageError: no calibration data.
        NothingToRankError: nothing to quantize.
    """
    goal_db = goal.sqnr_db
    with _measured(model, context, options or Options(), max_runs, goal) as graph:
        damage = graph.rank()
        start = next(k for k in range(len(damage) + 1) if _decibels(sum(d.noise for d in damage[k:])) >= goal_db)
        reached: dict[int, float] = {}

        def holds(kept: int) -> bool:
            if kept not in reached:
                quantized = [name for item in damage[kept:] for name in item.nodes]
                reached[kept] = graph.decibels(quantized)
            return reached[kept] >= goal_db

        # Gallop from the first guess to a bracket, then halve it. All in float always holds.
        low, high, stride = -1, len(damage), 1
        if holds(start):
            high = start
            while high > 0 and holds(max(high - stride, 0)):
                high, stride = max(high - stride, 0), stride * 2
            low = max(high - stride, 0) if high > 0 else -1
        else:
            low = start
            while low + stride < len(damage) and not holds(low + stride):
                low, stride = low + stride, stride * 2
            high = min(low + stride, len(damage))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        holds(high)
        kept = damage[:high]
        return MixedPrecision(
            keep_float=frozenset(name for item in kept for name in item.nodes),
            sqnr_db=reached[high],
            damage=tuple(damage),
        )


@dataclass
class Rankings:
    """What `mixed_precision` found for one graph, by goal; made when first asked for, then shared by its candidates."""

    _by_goal: dict[Goal, MixedPrecision] = field(default_factory=dict)

    def reach(self, goal: Goal, model: ir.Model, context: PassContext) -> MixedPrecision:
        """See `mixed_precision`; always of the same ``model`` and ``context``."""
        if goal not in self._by_goal:
            self._by_goal[goal] = mixed_precision(model, context, goal)
        return self._by_goal[goal]


@contextmanager
def _measured(model: ir.Model, context: PassContext, options: Options, max_runs: int, goal: Goal) -> Iterator[_Graph]:
    name_nodes(model)
    plan = static_plan(model, options, context)
    planned = {name: item for name, item in plan.nodes.items() if not item.same_scale}
    if not planned:
        raise NothingToRankError(f"there is nothing to rank: {plan.describe() or 'no node can be quantized'}")
    ranges = calibrate(
        model,
        plan.activations(),
        options.method,  # type: ignore[arg-type]  # Options has checked it
        context,
        percentile=options.percentile,
    )
    groups = _groups(planned)
    count = max(2, max_runs // len(groups))
    assert context.calibration is not None  # calibrate has refused that
    samples = list(itertools.islice(context.calibration(), count))
    order = list(planned)
    switchable = _switchable(model, plan, order, ranges, options.scheme())
    with float_session(switchable, context.workdir) as session:
        yield _Graph(session, samples, order, groups, planned, context, goal)


def _groups(planned: Mapping[str, NodePlan]) -> list[tuple[str, ...]]:
    """The nodes one by one, or, above `MAX_GROUPS`, by module, going up the tree as far as that takes."""
    depth = max(module_path(item.node).count(".") + 1 for item in planned.values())
    groups: list[tuple[str, ...]] = [(name,) for name in planned]
    while len(groups) > MAX_GROUPS and depth > 0:
        together: dict[str, list[str]] = {}
        for name, item in planned.items():
            path = module_path(item.node)
            together.setdefault(".".join(path.split(".")[:depth]) if path else name, []).append(name)
        groups = [tuple(names) for names in together.values()]
        depth -= 1
    return groups


class _Graph:
    """An open session of the switchable graph, and the float graph's outputs to compare with."""

    def __init__(
        self,
        session: Any,
        samples: Sequence[Feeds],
        order: Sequence[str],
        groups: Sequence[tuple[str, ...]],
        planned: Mapping[str, NodePlan],
        context: PassContext,
        goal: Goal,
    ) -> None:
        self.session, self.samples, self.groups, self.planned = session, samples, groups, planned
        self.position = {name: index for index, name in enumerate(order)}
        self.progress, self.goal = context.progress, goal
        self.reference = [self._run(feeds, ()) for feeds in samples]

    def decibels(self, quantized: Sequence[str]) -> float:
        """What is reached with only these nodes quantized."""
        meter = ParityMeter()
        for feeds, reference in zip(self.samples, self.reference, strict=True):
            meter.add(reference, self._run(feeds, quantized))
        return self.goal.decibels(meter.result())

    def rank(self) -> list[NodeDamage]:
        found: list[NodeDamage] = []
        for index, names in enumerate(self.groups):
            node = self.planned[names[0]].node
            noise = 10.0 ** (-self.decibels(names) / 10.0)
            found.append(NodeDamage(names[0], module_path(node), node.op_type, noise, names))
            self.progress.step(index + 1, len(self.groups), "sensitivity")
        return sorted(found, key=lambda item: -item.noise)

    def _run(self, feeds: Feeds, quantized: Sequence[str]) -> dict[str, Array]:
        switches = np.zeros(len(self.position), np.bool_)
        switches[[self.position[name] for name in quantized]] = True
        outputs = run(self.session, None, {**feeds, _SWITCHES: switches})
        return {str(i): y for i, y in enumerate(outputs) if isinstance(y, np.ndarray)}


def _switchable(
    model: ir.Model,
    plan: Plan,
    order: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
    scheme: Scheme,
) -> ir.Model:
    """A copy of the float graph with one more input, a boolean for each node of ``order``: whether it is quantized."""
    copy = clone(model)
    graph = copy.graph
    nodes = {node.name: node for node in graph}
    switches = ir.Value(name=_SWITCHES, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(order)]))
    graph.inputs.append(switches)
    copy.opset_imports.setdefault(_QDQ_DOMAIN, 1)
    params = {
        name: activation_params(low, high, scheme.activations, scheme.symmetric) for name, (low, high) in ranges.items()
    }
    for index, name in enumerate(order):
        item, node = plan.nodes[name], nodes[name]
        last = nodes[item.absorbed.name] if item.absorbed is not None else node
        label = f"edgekit.{index}"
        chosen = ir.node(
            "Gather", [switches, add_initializer(graph, f"{label}.index", np.array(index))], name=f"{label}.switch"
        )
        chosen.outputs[0].name = f"{label}.switch"
        graph.insert_before(node, chosen)
        on = _Branch(f"{label}.on", node, last).quantized(graph, item, params, scheme)
        off = _Branch(f"{label}.off", node, last).graph()
        result = ir.Value(name=f"{label}.result", type=last.outputs[0].type, shape=last.outputs[0].shape)
        switch = ir.node("If", chosen.outputs, {"then_branch": on, "else_branch": off}, outputs=[result], name=label)
        graph.insert_after(last, switch)
        _replace(graph, last.outputs[0], result)
        graph.remove([node] if last is node else [last, node], safe=True)
    return copy


_QDQ_DOMAIN = "com.microsoft"  # has 16 bits at any opset; ONNX Runtime is what runs this


class _Branch:
    """A copy of a node (and of the Relu it absorbs) as a subgraph that reads the same values."""

    def __init__(self, label: str, node: ir.Node, last: ir.Node) -> None:
        self.label, self.count = label, itertools.count()
        self.inputs: list[ir.Value | None] = list(node.inputs)
        self.chain = [node] if last is node else [node, last]
        self.nodes: list[ir.Node] = []

    def quantized(self, graph: ir.Graph, item: NodePlan, params: Mapping[str, Params], scheme: Scheme) -> ir.Graph:
        """The branch between its quantizers, with weights as their integers stand for them."""
        for position in item.activations:
            value, original = self.inputs[position], item.node.inputs[position]
            assert value is not None and original is not None
            if (
                original.name and original.name in params
            ):  # else a layout node passes it on, quantized before that already
                self.inputs[position] = self._through_integers(graph, value, params[original.name])
        if item.weight is not None:
            value = self.inputs[item.weight]
            tensor = ir.convenience.get_const_tensor(value) if value is not None else None
            assert tensor is not None
            rounded = round_weights(tensor.numpy(), item.axis if scheme.per_channel else None, scheme)
            self.inputs[item.weight] = add_initializer(graph, f"{self.label}.weights", rounded)
        output = params.get(item.output.name or "") if item.output is not None else None
        return self.graph(lambda value: value if output is None else self._through_integers(graph, value, output))

    def graph(self, then: Callable[[ir.Value], ir.Value] = lambda value: value) -> ir.Graph:
        """The subgraph: the copied nodes, and ``then`` on what they compute."""
        inputs = self.inputs
        for node in self.chain:
            copied = self._add(node.op_type, inputs, node.attributes.values(), node.domain)
            inputs = [copied, *self.chain[-1].inputs[1:]]
        result = then(copied)
        result.type = result.type or ir.TensorType(ir.DataType.FLOAT)
        return ir.Graph([], [result], nodes=self.nodes, name=self.label)

    def _through_integers(self, graph: ir.Graph, value: ir.Value, params: Params) -> ir.Value:
        name = f"{self.label}.{next(self.count)}"
        scale = add_initializer(graph, f"{name}.scale", np.array(params.scale))
        zero = add_initializer(graph, f"{name}.zero", np.array(params.zero_point, params.dtype.numpy()))
        integers = self._add("QuantizeLinear", [value, scale, zero], (), _QDQ_DOMAIN)
        return self._add("DequantizeLinear", [integers, scale, zero], (), _QDQ_DOMAIN)

    def _add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Iterable[ir.Attr], domain: str
    ) -> ir.Value:
        output = ir.Value(name=f"{self.label}.{next(self.count)}")
        self.nodes.append(ir.Node(domain, op_type, inputs, attributes, outputs=[output], name=output.name))
        return output


def round_weights(weights: NDArray[np.float32], axis: int | None, scheme: Scheme) -> NDArray[np.float32]:
    """The float weights that the integers of ``weights`` stand for."""
    integers, scale = quantize_weights(weights, axis, reduce_range=scheme.reduce_range)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    return np.asarray(integers * scale.reshape(shape), np.float32)


def _replace(graph: ir.Graph, value: ir.Value, by: ir.Value) -> None:
    """Let everybody who reads ``value`` read ``by``; a graph output keeps its name."""
    for use in list(value.uses()):
        use.node.replace_input_with(use.idx, by)
    for position, output in enumerate(graph.outputs):
        if output is value:
            name, value.name = value.name, f"{value.name}_float"
            by.name = name
            graph.outputs[position] = by


def _decibels(noise: float) -> float:
    return float("inf") if noise <= 0 else float(-10 * np.log10(noise))

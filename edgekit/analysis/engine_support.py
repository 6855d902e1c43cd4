"""Which nodes of a graph an engine does not take, in its own words.

An engine that refuses a model names one node at best. So where it refuses, each distinct operator of the graph is put
into a model of its own, and the engine is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..context import PassContext
from ..contracts import Placement, Progress, Quiet
from ..errors import EdgekitError, EngineError, PlacementError
from ..exporters import Checks
from ..graph import module_path
from ..placement import refusal
from ..target.profile import Candidate, Target
from ..target.toolchain import Toolchain

if TYPE_CHECKING:
    from ..sources.source import Source


@dataclass(frozen=True, slots=True)
class RefusedOperator:
    """One operator, with its dtypes and attributes, that an engine does not take."""

    op_type: str  # "Erf", or "com.microsoft.Gelu" outside ONNX's own domain
    signature: str  # "(float32[3], float32[4]) axis=1": input dtypes with their ranks, attributes
    count: int  # nodes like this in the graph
    modules: tuple[str, ...]  # their PyTorch modules, or the nodes' names where the graph does not tell
    words: str  # the engine's


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What one engine says to a graph."""

    runtime: str
    version: str | None
    takes: bool
    reason: str | None = None  # why it does not, or could not be asked (not installed)
    refusals: tuple[
        RefusedOperator, ...
    ] = ()  # empty although it does not take the graph: no operator alone is the cause
    elsewhere: tuple[str, ...] = ()  # nodes that would run on another device than the target allows
    by_rules: bool = False  # judged by what is documented of the engine, which cannot run here
    asked: bool = True  # False: neither the engine nor rules of it are here; ``reason`` says what is missing

    def to_json(self) -> dict[str, Any]:
        """As in `inspect --json`."""
        return asdict(self)


def ask_engines(
    model: ir.Model,
    target: Target,
    workdir: Path,
    progress: Progress | None = None,
    source: Source | None = None,
    dimensions: Mapping[str, tuple[int, int, int]] | None = None,
) -> list[Acceptance]:
    """Ask every engine of the target's candidates whether it takes a graph in floating point.

    Args:
        model: after the target's shared passes; left as it was.
        target: states the engines.
        workdir: an existing folder for the models that the engines are asked about.
        progress: where to say how far it is.
        source: what the graph was made from, for engines that convert the PyTorch program itself.
        dimensions: see `PassContext.dimensions`.
    """
    first: dict[str, Candidate] = {}
    for candidate in target.candidates_for(target.device_arch()):
        known = first.get(candidate.runtime)
        if known is None or (candidate.precision == "fp32" and known.precision != "fp32"):
            first[candidate.runtime] = candidate
    asked = _Asked(target, source, dimensions or {})
    return [
        _ask(model, Toolchain(candidate), asked, workdir / name, progress or Quiet())
        for name, candidate in first.items()
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every engine is asked for."""

    target: Target
    source: Source | None
    dimensions: Mapping[str, tuple[int, int, int]]

    def context(self, candidate: Candidate, workdir: Path) -> PassContext:
        """For a candidate's exporter."""
        return PassContext(
            arch=self.target.device_arch(),
            runtime=candidate.runtime,
            workdir=workdir,
            target=self.target.name,
            device=next(iter(self.target.devices_of(candidate)), ""),
            dimensions=self.dimensions,
        )


def _ask(model: ir.Model, toolchain: Toolchain, asked: _Asked, folder: Path, progress: Progress) -> Acceptance:
    runtime = toolchain.runtime
    try:
        version = runtime.version()
    except EngineError as error:
        return _by_rules(model, toolchain, asked, folder, error)
    by_program = toolchain.takes_program
    if by_program and (asked.source is None or asked.source.program is None):
        return Acceptance(runtime.name, version, False, "it converts PyTorch programs, which this source does not have")
    try:
        given = asked.source if by_program and asked.source is not None else model
        placement = _open(given, toolchain, asked, folder / "whole")
    except PlacementError as error:
        return Acceptance(runtime.name, version, False, error.what, elsewhere=error.details)
    except EngineError as error:
        if by_program:
            return Acceptance(runtime.name, version, False, _words(error))
        refusals = tuple(_refusals(model, toolchain, asked, folder, progress))
        return Acceptance(runtime.name, version, False, _words(error), refusals)
    refused = _refused(placement, model, toolchain.candidate, asked.target)
    if refused is None:
        return Acceptance(runtime.name, version, True)
    return Acceptance(runtime.name, version, False, refused.what, elsewhere=refused.details)


def _refused(
    placement: Placement, model: ir.Model | Source, candidate: Candidate, target: Target
) -> PlacementError | None:
    nodes = model.graph if isinstance(model, ir.Model) else ()
    modules = {node.name or "": module_path(node) for node in nodes}
    return refusal(placement, devices=target.devices_of(candidate), target=target.name, modules=modules)


def _by_rules(model: ir.Model, toolchain: Toolchain, asked: _Asked, folder: Path, missing: EngineError) -> Acceptance:
    """What is known without the engine: the exporter's rules, where it has any, and what writing the artifact says."""
    candidate, exporter = toolchain.candidate, toolchain.exporter
    if not isinstance(exporter, Checks):
        return Acceptance(candidate.runtime, None, False, reason=str(missing), asked=False)
    context = asked.context(candidate, folder.parent)
    options = toolchain.export_options()
    found = exporter.check(model, candidate.precision, options, context)
    if not found:
        folder.mkdir(parents=True)
        try:
            _, info = exporter.write(model, folder, candidate.precision, options, context)
        except EngineError as error:
            return Acceptance(candidate.runtime, None, False, _words(error), by_rules=True)
        also = f", and {info['parsed_by']} takes it" if info.get("parsed_by") else ""
        reason = f"nothing is documented against it{also}; {missing.what}"
        return Acceptance(candidate.runtime, None, True, reason, by_rules=True)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for item in found:
        groups.setdefault((item.op_type, item.reason, item.fix), []).append(item.module or item.node)
    refusals = tuple(
        RefusedOperator(op_type, "", len(places), tuple(dict.fromkeys(places)), f"{reason}. {fix}")
        for (op_type, reason, fix), places in groups.items()
    )
    return Acceptance(candidate.runtime, None, False, f"by its documentation; {missing.what}", refusals, by_rules=True)


def _open(model: ir.Model | Source, toolchain: Toolchain, asked: _Asked, folder: Path) -> Placement:
    """Write the model as the engine wants it (a graph, or a source whose program its exporter takes) and open it.

    Raises:
        EngineError: the engine or its converter refuses it.
        PlacementError: the engine itself refuses to run nodes elsewhere.
    """
    folder.mkdir(parents=True)
    candidate, exporter, runtime = toolchain.candidate, toolchain.exporter, toolchain.runtime
    context = asked.context(candidate, folder.parent)
    table = {key: value for key, value in candidate.export_options.items() if key != "quantize"}  # in floating point
    how = toolchain.export_options(table)
    write = exporter.write if isinstance(model, ir.Model) else exporter.write_program
    artifact, _ = write(model, folder, "fp32", how, context)
    options = toolchain.session_options(candidate.options)
    try:
        session = runtime.open(artifact, options)
    except PlacementError as error:
        if not toolchain.has_option("fallback"):
            raise
        session = runtime.open(artifact, replace(options, fallback=("*",)))
        refused = _refused(session.placement(), model, candidate, asked.target)
        session.close()
        raise refused or error from error
    try:
        return session.placement()
    finally:
        session.close()


def _refusals(
    model: ir.Model, toolchain: Toolchain, asked: _Asked, folder: Path, progress: Progress
) -> Iterator[RefusedOperator]:
    groups: dict[tuple[str, str], list[ir.Node]] = {}
    for graph in model.graphs():
        for node in graph:
            if node.op_type != "Constant":
                groups.setdefault((_op_name(node), signature(node)), []).append(node)
    for index, ((op_type, described), nodes) in enumerate(groups.items()):
        progress.step(index, len(groups), f"{toolchain.runtime.name}: {op_type}")
        alone = one_node_model(nodes[0], model)
        if alone is None:
            continue
        try:
            _open(alone, toolchain, asked, folder / f"node-{index}")
        except EdgekitError as error:
            modules = dict.fromkeys(module_path(node) or node.name or "" for node in nodes)
            yield RefusedOperator(
                op_type, described, len(nodes), tuple(name for name in modules if name), _words(error)
            )


def one_node_model(node: ir.Node, model: ir.Model) -> ir.Model | None:
    """``node`` alone: its computed inputs become the model's inputs, its constants stay constants.

    None where that cannot be done: it holds a subgraph (whose nodes are asked one by one), or the dtype of an input is
    not known.
    """
    if any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in node.attributes.values()):
        return None
    fed: dict[ir.Value, ir.Value] = {}
    for value in node.inputs:
        if value is None or value in fed:
            continue
        if value.dtype is None and value.const_value is None:
            return None
        constant = ir.convenience.get_const_tensor(value)
        fed[value] = ir.Value(
            name=value.name,
            type=value.type if constant is None else ir.TensorType(constant.dtype),
            shape=value.shape if constant is None else ir.Shape(constant.shape.numpy()),
            const_value=constant,
        )
    outputs = [ir.Value(name=item.name, type=item.type, shape=item.shape) for item in node.outputs]
    alone = ir.Node(
        node.domain,
        node.op_type,
        [None if item is None else fed[item] for item in node.inputs],
        attributes=list(node.attributes.values()),
        overload=node.overload,
        outputs=outputs,
        name=node.name,
    )
    graph = ir.Graph(
        [value for value in fed.values() if value.const_value is None],
        [item for item in outputs if item.name],
        nodes=[alone],
        initializers=[value for value in fed.values() if value.const_value is not None],
        opset_imports=dict(model.opset_imports),
        name=node.op_type,
    )
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


def signature(node: ir.Node) -> str:
    """What decides whether an engine takes an operator: input dtypes and ranks, and the attributes."""
    inputs = ", ".join(_type(value) for value in node.inputs)
    attributes = " ".join(f"{name}={_attribute(item)}" for name, item in sorted(node.attributes.items()))
    return f"({inputs}) {attributes}".strip()


def _type(value: ir.Value | None) -> str:
    if value is None:
        return "—"
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    return f"{dtype}[{len(value.shape) if value.shape is not None else '?'}]"


def _attribute(item: ir.Attr) -> str:
    if item.type == ir.AttributeType.TENSOR:
        return f"{item.value.dtype.name.lower()}[{len(item.value.shape)}]"
    if item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "graph"
    return str(item.value)


def _op_name(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _words(error: EdgekitError) -> str:
    """The engine's own words: the message without the advice, and without ours ("X refuses model.onnx: ")."""
    return re.sub(r"^.*? refuses \S+: ", "", "; ".join((error.what, *error.details)))

"""Exporters write formats. One a module, called as the module, its class in ``PLUGIN``.

A *graph exporter* turns a source into the graph that every pass works on; an *artifact exporter* turns that graph into
the files one engine loads. A *program exporter* writes such files past the graph, for an engine that has a converter of
its own from PyTorch's exported program. A plug-in is one of them. What else it may state of itself: `edgekit.facts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..contracts import Artifact

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..context import PassContext
    from ..sources.source import Source


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """What the target asks of a graph."""

    opset: int
    report: Path  # where a full report of a failure goes


@runtime_checkable
class GraphExporter(Protocol):
    """Source → graph."""

    name: str
    kinds: tuple[str, ...]  # the kinds of Source it takes

    def to_graph(self, source: Source, request: GraphRequest) -> ir.Model:
        """The model as an ONNX graph whose inputs and outputs are named as ``source`` names them.

        Every node's ``metadata_props[edgekit.graph.MODULE_PATH]`` holds its PyTorch module path, where there is one.

        Raises:
            SourceError: it cannot be exported; names the module, the line, the operator and what usually helps.
        """
        ...


@runtime_checkable
class ArtifactExporter(Protocol):
    """Graph → files that an engine loads."""

    name: str
    format: str  # Artifact.format of what it writes
    Options: type[Any]

    def write(
        self, model: ir.Model, directory: Path, precision: str, options: Any, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """Write the artifact into ``directory`` (which exists and is empty) and say what was done, for the manifest.

        The graph is left as it was.

        Raises:
            EngineError: the engine's converter is missing or refuses the graph.
        """
        ...


@runtime_checkable
class ProgramExporter(Protocol):
    """PyTorch program → files that an engine loads. Graph passes do not reach it, and ONNX sources have no program."""

    name: str
    format: str  # Artifact.format of what it writes
    Options: type[Any]

    def write_program(
        self, source: Source, directory: Path, precision: str, options: Any, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """Write the artifact of ``source.program`` into ``directory``, which exists and is empty; say what was done.

        Inputs and outputs are named as ``source`` names them. The program is left as it was.

        Raises:
            EngineError: the engine's converter is missing or refuses the program.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an engine would refuse, known without asking it."""

    rule: str  # what kind of thing: "operator", "type", "quantization", …
    op_type: str  # "" where it is no node's
    node: str  # its name, or that of the tensor
    module: str  # the node's PyTorch module; "": not known
    reason: str
    fix: str

    def __str__(self) -> str:
        """``Unique  (encoder.dedup)  TensorRT's parser does not have it. Rewrite …``."""
        where = self.module or self.node
        head = f"{self.op_type}  ({where})" if self.op_type else where
        return f"{head}  {self.reason}. {self.fix}"


@runtime_checkable
class Checks(ArtifactExporter, Protocol):
    """What an artifact exporter may offer beyond the rest: the engine's rules, for machines without the engine."""

    def check(self, model: ir.Model, precision: str, options: Any, context: PassContext) -> Sequence[Finding]:
        """Everything in a graph that the engine would refuse by its documentation; empty: nothing is known against it.

        The graph is left as it was.
        """
        ...

"""The stages that export and inspection share: source → graph → passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import plugins
from ..context import PassContext
from ..contracts import PassRecord
from ..errors import UsageError
from ..facts import exporter_facts
from ..passes import Result
from ..target.toolchain import Step

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..sources.source import Source

REPORTS = Path(".edgekit") / "reports"
"""Where the full report of a failed export goes, in the user's folder."""


def to_graph(source: Source, opset: int) -> ir.Model:
    """The source as an ONNX graph, by the exporter that takes its kind.

    Raises:
        SourceError: it cannot be exported.
        UsageError: no installed exporter takes this kind of source.
    """
    from ..exporters import GraphExporter, GraphRequest

    for name in plugins.names("exporters"):
        plugin = plugins.load("exporters", name)
        if source.kind in exporter_facts(plugin).kinds:
            exporter: GraphExporter = plugin()
            return exporter.to_graph(source, GraphRequest(opset=opset, report=REPORTS / f"{source.name}-export.md"))
    raise UsageError(f"no installed exporter takes a source of kind '{source.kind}'")


def run_passes(model: ir.Model, steps: Sequence[Step], context: PassContext) -> tuple[ir.Model, tuple[PassRecord, ...]]:
    """Run passes in order; returns the graph they leave and a record of each."""
    records = []
    for step in steps:
        result = step.plugin.from_table(dict(step.options), context)(model)
        assert isinstance(result, Result)
        model = result.model
        records.append(result.record)
    return model, tuple(records)

"""What builds and runs one candidate: its plug-ins, each looked up once, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, NamedTuple

from .. import plugins
from ..contracts import Emulated, Runtime, options_from
from ..errors import UsageError
from ..facts import AsksForSamples, ExporterFacts, RuntimeFacts, exporter_facts, runtime_facts, writes_programs
from .profile import Candidate, PassSpec


class Step(NamedTuple):
    """A pass and the options that the profile states for it."""

    plugin: type[Any]  # a GraphPass
    options: Mapping[str, Any]


def steps(specs: Sequence[PassSpec]) -> tuple[Step, ...]:
    """The passes that a profile names, in order.

    Raises:
        UsageError: one is not known (with the nearest name).
    """
    return tuple(Step(plugins.load("passes", spec.name), spec.options) for spec in specs)


class Toolchain:
    """A candidate's runtime, exporter and passes. Each is imported when first asked for, and then kept.

    Raises:
        UsageError: when asked for one that is not known, or that states of itself what edgekit does not know.
        ImportError: when asked for an exporter whose module needs packages that are not installed.
    """

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate

    @cached_property
    def runtime_class(self) -> type[Any]:
        """The engine's adapter: a `contracts.Runtime`."""
        plugin: type[Any] = plugins.load("runtimes", self.candidate.runtime)
        return plugin

    @cached_property
    def runtime(self) -> Runtime:
        """An instance of `runtime_class`."""
        adapter: Runtime = self.runtime_class()
        return adapter

    @cached_property
    def runtime_facts(self) -> RuntimeFacts:
        """What the runtime states of itself."""
        return runtime_facts(self.runtime_class)

    @cached_property
    def exporter(self) -> Any:
        """What writes the artifact: an `exporters.ArtifactExporter`, or a `ProgramExporter` where `takes_program`."""
        return plugins.load("exporters", self.candidate.format)()

    @cached_property
    def exporter_facts(self) -> ExporterFacts:
        """What the exporter states of itself."""
        return exporter_facts(type(self.exporter))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The candidate's passes, in order."""
        return steps(self.candidate.passes)

    @cached_property
    def takes_program(self) -> bool:
        """Whether the exporter converts the PyTorch program itself: no pass and no choice of nodes reaches it then.

        Raises:
            UsageError: the candidate states passes all the same.
        """
        if not writes_programs(self.exporter):
            return False
        if self.candidate.passes:
            names = ", ".join(item.name for item in self.candidate.passes)
            raise UsageError(
                f"candidate '{self.candidate.name}' states passes ({names}), which work on the ONNX graph; "
                f"exporter '{self.candidate.format}' converts the PyTorch program instead",
                fix="Remove its passes.",
            )
        return True

    @cached_property
    def needs_calibration(self) -> bool:
        """Whether building it needs samples; if so, single nodes can be left in floating point as well."""
        if any(step.plugin.needs_calibration for step in self.steps):
            return True
        if "quantize" not in self.candidate.export_options:
            return False
        exporter = self.exporter
        return not isinstance(exporter, AsksForSamples) or exporter.needs_calibration(self.export_options())

    @property
    def emulator(self) -> str | None:
        """What stands for the device on this machine; None: the device itself, or the runtime does not tell."""
        return self.runtime.emulator() if isinstance(self.runtime, Emulated) else None

    def has_option(self, name: str) -> bool:
        """Whether the runtime's sessions have an option of this name."""
        return any(field.name == name for field in fields(self.runtime_class.Options))

    def session_options(self, table: Mapping[str, Any]) -> Any:
        """An instance of the runtime's ``Options``.

        Raises:
            UsageError: the engine does not know an option or a value.
        """
        where = f"session options of candidate '{self.candidate.name}'"
        return options_from(self.runtime_class.Options, table, where)

    def export_options(self, table: Mapping[str, Any] | None = None) -> Any:
        """An instance of the exporter's ``Options``: the candidate's own, or of another table.

        Raises:
            UsageError: the exporter does not know an option or a value.
        """
        stated = self.candidate.export_options if table is None else table
        return options_from(self.exporter.Options, stated, f"candidate '{self.candidate.name}', exporter")

"""What a plug-in may state of itself beyond its contract, as attributes of its class: all of it, in one place.

What is written wrongly is an error that names the nearest: an attribute that nobody knows would never be asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MemberDescriptorType
from typing import Any, Protocol, TypeVar, runtime_checkable

from .contracts import Runtime
from .errors import UsageError, suggestion

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What a Runtime may state beyond the rest, as attributes of its class; each has a default."""

    advice: Mapping[str, str] = field(default_factory=dict)  # operator the engine refuses → what to write instead
    affects: Mapping[str, Sequence[str]] = field(default_factory=dict)  # session option → the operators it is about
    by_pip: bool = True  # False: wheels alone do not bring the engine to a device
    host: str = ""  # the device of this machine that it runs on, where that is not the CPU or a GPU: "browser"
    install_on: Mapping[str, str] = field(default_factory=dict)  # "aarch64" → the line that installs it there
    note: str = ""  # what else is worth knowing about installing it; for the bundle's README
    on_the_device: str = ""  # a section of the bundle's README on the app's side
    prepares: str = ""  # what the first open on a device builds, which may take minutes: "plan"


_RUNTIME = ("name", "formats", "install", "Options", "version", "open", "emulator", "app_glue")


def runtime_facts(runtime: Runtime | type[Runtime]) -> RuntimeFacts:
    """What a runtime states.

    Raises:
        UsageError: it states what edgekit does not know (with the nearest known name).
    """
    return stated(runtime if isinstance(runtime, type) else type(runtime), RuntimeFacts, _RUNTIME)


def install_on(runtime: Runtime | type[Runtime], machine: str) -> str:
    """The line that installs a runtime's engine on such a machine: a board's system may bring it."""
    return runtime_facts(runtime).install_on.get(machine, runtime.install)


@dataclass(frozen=True, slots=True)
class ExporterFacts:
    """What an exporter may state beyond the rest, as attributes of its class; each has a default."""

    kinds: tuple[str, ...] = ()  # a graph exporter's: the kinds of Source it takes
    packages: tuple[str, ...] = ()  # the distributions that it needs beyond the extra "export"


_EXPORTER = ("name", "format", "Options", "to_graph", "write", "write_program", "check", "needs_calibration")


@runtime_checkable
class AsksForSamples(Protocol):
    """What an exporter whose quantizer also works without samples offers. Any other's always needs some."""

    def needs_calibration(self, options: Any) -> bool:
        """Whether it needs samples with these options, an instance of its ``Options``."""
        ...


def writes_programs(exporter: object) -> bool:
    """Whether an exporter converts PyTorch programs (`exporters.ProgramExporter`) and not graphs."""
    return callable(getattr(exporter, "write_program", None))


def exporter_facts(exporter: type[Any]) -> ExporterFacts:
    """What an exporter states.

    Raises:
        UsageError: it states what edgekit does not know (with the nearest known name).
    """
    return stated(exporter, ExporterFacts, _EXPORTER)


def stated(plugin: type[Any], facts: type[T], protocol: Collection[str]) -> T:
    """``facts``, filled with those attributes of a plug-in's class that have the names of its fields.

    Another public attribute whose name is nearly one of these is refused: nobody would ever ask for it.

    Args:
        plugin: the plug-in's class.
        facts: a dataclass, each field with a default.
        protocol: the names that the plug-in's contract has beside these.

    Raises:
        UsageError: with the nearest known name.
    """
    known = {item.name for item in dataclasses.fields(facts)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for cls in reversed(plugin.__mro__[:-1]):
        for name, value in vars(cls).items():
            if name in known:
                found[name] = value
            elif not name.startswith("_") and name not in protocol and _is_misspelt(name, value, known, protocol):
                raise UsageError(
                    f"plug-in {plugin.__module__}.{plugin.__qualname__} has '{name}', which edgekit does not know",
                    fix=suggestion(name, {*known, *protocol}),
                )
    return facts(**found)


def _is_misspelt(name: str, value: object, known: Collection[str], protocol: Collection[str]) -> bool:
    """Whether an unknown public attribute was meant to be a known one; a method only for one of ``protocol``."""
    if isinstance(value, (property, MemberDescriptorType)):
        return False
    if callable(value) or isinstance(value, (classmethod, staticmethod)):
        return bool(difflib.get_close_matches(name, protocol, n=1, cutoff=0.85))
    return bool(difflib.get_close_matches(name, {*known, *protocol}, n=1, cutoff=0.7))

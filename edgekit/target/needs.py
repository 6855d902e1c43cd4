"""What an export needs and this machine lacks: engines, what stands in for them, and packages of exporters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .. import plugins
from ..contracts import Emulated, options_from
from ..errors import EngineError, UsageError
from ..facts import AsksForSamples, exporter_facts
from ..measure.engines import installed_version
from .profile import Candidate


@dataclass(frozen=True, slots=True)
class StandIn:
    """The runtime that checks a candidate on a machine that cannot run the candidate's own engine."""

    runtime: str
    version: str
    reason: str  # why the candidate's own engine cannot
    options: Mapping[str, Any] = field(default_factory=dict)  # session options


def refuse_missing(target: str, candidates: Sequence[Candidate], is_here: bool) -> None:
    """Say before any long work that none of a target's candidates can be built and checked.

    Args:
        target: its name.
        candidates: those of the target that are to be tried.
        is_here: whether their engines are this machine's; another's are not asked, opening says what is missing there.

    Raises:
        EngineError: with all that is missing, and the line that installs it.
    """
    errors = []
    for candidate in candidates:
        error = _missing(candidate, is_here)
        if error is None:
            return
        errors.append(error)
    if len(set(map(str, errors))) == 1:
        raise errors[0]
    if errors:
        lines = [f"{item.name}: {error.what}" for item, error in zip(candidates, errors, strict=True)]
        raise EngineError(f"no candidate of target '{target}' can be used", details=lines, fix=errors[0].fix)


def engine_or_stand_in(candidate: Candidate, is_here: bool) -> StandIn | EngineError | None:
    """What checks this candidate: None, its own engine; or the stand-in that its profile names; or the error.

    Another machine's engine is not asked: opening says what is missing there.

    Raises:
        EngineError: the stand-in is missing too.
    """
    missing = _missing_engine(candidate) if is_here else None
    if missing is None or not candidate.check_with:
        return missing
    version = plugins.load("runtimes", candidate.check_with)().version()
    return StandIn(candidate.check_with, version, missing.what, candidate.check_options)


def missing_packages(exporter: str) -> list[str]:
    """The distributions that an exporter needs beyond the extra "export", and that are not installed."""
    try:
        packages = exporter_facts(plugins.load("exporters", exporter)).packages
    except ImportError:  # it imports what that extra brings, and so does all else of an export
        return []
    return [name for name in packages if installed_version(name) is None]


def _missing_engine(candidate: Candidate) -> EngineError | None:
    """The error that opening this candidate's engine would raise because it is not installed, or None."""
    try:
        plugins.load("runtimes", candidate.runtime)().version()
    except EngineError as error:
        return error
    return None


def _missing(candidate: Candidate, is_here: bool) -> EngineError | None:
    try:
        checker = engine_or_stand_in(candidate, is_here)
    except EngineError as error:
        checker = error
    engine = checker if isinstance(checker, EngineError) else None
    packages = missing_packages(candidate.format)
    if engine is None:
        return EngineError(f"{_and(packages)} not installed", fix=_install(packages)) if packages else None
    packages = [name for name in packages if name not in engine.fix.split()]  # the engine may be the exporter too
    if not packages:
        return engine
    one_line = re.search(r"pip install [\w-]+( [\w-]+)*$", engine.fix)
    fix = f"{engine.fix} {' '.join(packages)}" if one_line else f"{engine.fix} {_install(packages)}"
    return EngineError(f"{engine.what}, and {_and(packages)} missing too", details=engine.details, fix=fix)


def _and(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _install(names: Sequence[str]) -> str:
    return f"Install it: pip install {' '.join(names)}"


def emulator_of(runtime: str) -> str | None:
    """What stands for a runtime's device on this machine; None: the device itself, or the runtime does not tell."""
    adapter = plugins.load("runtimes", runtime)()
    return adapter.emulator() if isinstance(adapter, Emulated) else None


def takes_program(candidate: Candidate) -> bool:
    """Whether its exporter converts the PyTorch program itself: then no graph pass and no choice of nodes reaches it.

    Raises:
        UsageError: the candidate states passes all the same.
    """
    if not hasattr(plugins.load("exporters", candidate.format), "write_program"):
        return False
    if candidate.passes:
        names = ", ".join(item.name for item in candidate.passes)
        raise UsageError(
            f"candidate '{candidate.name}' states passes ({names}), which work on the ONNX graph; "
            f"exporter '{candidate.format}' converts the PyTorch program instead",
            fix="Remove its passes.",
        )
    return True


def has_option(runtime: str, name: str) -> bool:
    """Whether the sessions of a runtime have an option of this name."""
    return any(field.name == name for field in fields(plugins.load("runtimes", runtime).Options))


def needs_calibration(candidate: Candidate) -> bool:
    """Whether building the candidate needs samples; if so, single nodes can be left in floating point as well."""
    if any(plugins.load("passes", spec.name).needs_calibration for spec in candidate.passes):
        return True
    if "quantize" not in candidate.export_options:
        return False
    exporter = plugins.load("exporters", candidate.format)()
    options = options_from(exporter.Options, candidate.export_options, f"candidate '{candidate.name}', exporter")
    return not isinstance(exporter, AsksForSamples) or exporter.needs_calibration(options)

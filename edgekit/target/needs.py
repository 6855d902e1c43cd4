"""What an export needs and this machine lacks: engines, what stands in for them, and packages of exporters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import plugins
from ..contracts import Runtime
from ..errors import EngineError
from ..facts import exporter_facts
from ..measure.engines import installed_version
from .toolchain import Toolchain


@dataclass(frozen=True, slots=True)
class StandIn:
    """The runtime that checks a candidate on a machine that cannot run the candidate's own engine."""

    runtime: str
    version: str
    reason: str  # why the candidate's own engine cannot
    options: Mapping[str, Any] = field(default_factory=dict)  # session options


@dataclass(frozen=True, slots=True)
class Checker:
    """What checks a candidate: its own engine, where both are None."""

    stand_in: StandIn | None = None  # in place of its own engine
    missing: EngineError | None = None  # nothing can: its engine is not here, and no stand-in


def checker_of(toolchain: Toolchain, is_here: bool, unfit: Mapping[str, EngineError] | None = None) -> Checker:
    """What checks a candidate: its own engine, the stand-in that its profile names, or nothing.

    Args:
        toolchain: the candidate's.
        is_here: whether the engines are this machine's; another's is not asked, opening says what is missing there.
        unfit: runtime → why it does not start in a new process, though it does in this one.
    """
    missing = _missing_engine(toolchain.runtime) if is_here else None
    name, options = toolchain.candidate.check_with, toolchain.candidate.check_options
    runtime, unfit = toolchain.candidate.runtime, unfit or {}
    if missing is None or not name:
        return Checker(missing=missing or unfit.get(runtime))
    if name in unfit:
        return Checker(missing=unfit[name])
    try:
        version = plugins.load("runtimes", name)().version()
    except EngineError as error:
        return Checker(missing=error)
    return Checker(StandIn(name, version, missing.what, options))


def engines_of(toolchains: Sequence[Toolchain], is_here: bool) -> list[str]:
    """The runtimes that check these candidates on this machine, as far as they are installed; see `checker_of`."""
    if not is_here:
        return []
    checkers = [(toolchain.candidate.runtime, checker_of(toolchain, is_here)) for toolchain in toolchains]
    own = [checker.stand_in.runtime if checker.stand_in else name for name, checker in checkers if not checker.missing]
    return list(dict.fromkeys(own))


def refuse_missing(
    target: str, toolchains: Sequence[Toolchain], is_here: bool, unfit: Mapping[str, EngineError] | None = None
) -> None:
    """Say before any long work that none of a target's candidates can be built and checked.

    Args:
        target: its name.
        toolchains: of those of its candidates that are to be tried.
        is_here: see `checker_of`.
        unfit: see `checker_of`.

    Raises:
        EngineError: with all that is missing, and the line that installs it.
    """
    errors = []
    for toolchain in toolchains:
        error = _missing(toolchain, is_here, unfit)
        if error is None:
            return
        errors.append(error)
    if len(set(map(str, errors))) == 1:
        raise errors[0]
    if errors:
        lines = [f"{item.candidate.name}: {error.what}" for item, error in zip(toolchains, errors, strict=True)]
        raise EngineError(f"no candidate of target '{target}' can be used", details=lines, fix=errors[0].fix)


def missing_packages(exporter: str) -> list[str]:
    """The distributions that an exporter needs beyond the extra "export", and that are not installed."""
    try:
        packages = exporter_facts(plugins.load("exporters", exporter)).packages
    except ImportError:  # it imports what that extra brings, and so does all else of an export
        return []
    return [name for name in packages if installed_version(name) is None]


def _missing_engine(runtime: Runtime) -> EngineError | None:
    """The error that opening this engine would raise because it is not installed, or None."""
    try:
        runtime.version()
    except EngineError as error:
        return error
    return None


def _missing(toolchain: Toolchain, is_here: bool, unfit: Mapping[str, EngineError] | None) -> EngineError | None:
    engine = checker_of(toolchain, is_here, unfit).missing
    packages = missing_packages(toolchain.candidate.format)
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

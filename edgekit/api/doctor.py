"""What is installed, what each target still needs, and how to get it."""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from .. import plugins
from ..errors import EdgekitError, EngineError, OutputError
from ..facts import install_on, runtime_facts
from ..json_output.doctor import Doctor
from ..measure import here
from ..measure.engines import installed_version
from ..target.load import load_target
from ..target.needs import missing_packages
from ..target.profile import Candidate, Target
from ..tempdir import temporary_folder
from ..version import __version__

# Feature → (the flags that tell it in /proc/cpuinfo: x86, ARM), and what it is good for.
_CPU_FEATURES = {
    "avx2": (("avx2",), "fp32 and int8 kernels on x86"),
    "avx512_vnni": (("avx512_vnni", "avx_vnni"), "fast int8 on x86"),
    "amx_int8": (("amx_int8",), "int8 matrix tiles on x86"),
    "bf16": (("avx512_bf16", "amx_bf16", "bf16"), "fast bf16"),
    "dotprod": (("asimddp",), "fast int8 on ARM"),
    "i8mm": (("i8mm",), "int8 matrix products on ARM"),
    "fp16": (("avx512_fp16", "asimdhp"), "fast fp16"),
}
_ARCH_OF = {"avx2": "x86_64", "avx512_vnni": "x86_64", "amx_int8": "x86_64", "dotprod": "aarch64", "i8mm": "aarch64"}


@dataclass(frozen=True, slots=True)
class Package:
    """A package that edgekit uses."""

    name: str
    version: str | None  # None: not installed
    wanted: str  # ">=2.9", or ""
    extra: str  # the extra that brings it; "": always there

    @property
    def problem(self) -> str | None:
        """Why it will not do, or None where it will."""
        if self.version is None:
            return f"{self.name} is not installed"
        if self.version not in SpecifierSet(self.wanted, prereleases=True):
            return f"{self.name} {self.version} is installed, and edgekit needs {self.wanted}"
        return None


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime and whether it can be used here."""

    name: str
    version: str | None  # None: not usable
    reason: str | None  # why not
    install: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a target still needs before this machine can export for it."""

    name: str
    description: str
    needs: tuple[str, ...]  # one line each; empty: ready
    install: tuple[str, ...]  # the command lines that help, in order
    measured: str | None  # None: measured here; else why not

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.needs


@dataclass(frozen=True, slots=True)
class Report:
    """What `doctor` found."""

    edgekit: str
    python: str
    machine: dict[str, Any]
    cpu_features: dict[str, bool] | None  # of this architecture; None: this system does not tell
    memory_available_bytes: int | None
    disk_free_bytes: dict[str, int]  # folder → bytes: the current one, and the one for temporary files
    packages: tuple[Package, ...]
    engines: tuple[Engine, ...]
    targets: tuple[Readiness, ...]
    problems: tuple[str, ...]  # what is wrong with the installation itself

    def to_json(self) -> Doctor:
        """The object of `doctor --json` (schema 1)."""
        value = {
            "schema": 1,
            **asdict(self),
            "packages": [{**asdict(item), "problem": item.problem} for item in self.packages],
            "targets": [{**asdict(item), "ready": item.ready} for item in self.targets],
        }
        return cast("Doctor", value)


def examine(target: str | Path | None = None) -> Report:
    """Look at this installation and this machine.

    Packages are looked up without importing them; engines are imported, because only that shows whether they work.

    Args:
        target: only this target, by name or by the path of its file; None: every installed one.

    Raises:
        UsageError: the target is unknown or malformed.
    """
    if target is not None:
        profiles = [load_target(target)]
    else:
        profiles = [item for item in map(load_target, plugins.target_files()) if not item.abstract]
    packages = _packages()
    engines = {name: _engine(name) for name in plugins.names("runtimes")}
    return Report(
        edgekit=__version__,
        python=platform.python_version(),
        machine=here.describe(),
        cpu_features=cpu_features(),
        memory_available_bytes=_memory_available(),
        disk_free_bytes=_disk_free(),
        packages=tuple(packages),
        engines=tuple(engines.values()),
        targets=tuple(_readiness(item, packages, engines) for item in profiles),
        problems=tuple(_problems()),
    )


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool] | None:
    """Which of the features that make a precision fast this CPU has; None where the system does not tell."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return None
    listed = re.search(r"^(flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    if listed is None:
        return None
    arch = "x86_64" if listed[1] == "flags" else "aarch64"
    found = set(listed[2].split())
    return {
        name: any(flag in found for flag in flags)
        for name, (flags, _) in _CPU_FEATURES.items()
        if _ARCH_OF.get(name, arch) == arch
    }


def feature_use(name: str) -> str:
    """What a CPU feature is good for."""
    return _CPU_FEATURES[name][1]


def _packages() -> list[Package]:
    """What edgekit's own metadata names as dependencies, the ones without which nothing works first."""
    found: dict[str, Package] = {}
    extras = metadata.metadata("edgekit").get_all("Provides-Extra") or []
    for line in metadata.requires("edgekit") or []:
        needed = Requirement(line)
        extra = next((item for item in ("", *extras) if _applies(needed, item)), None)  # None: to other machines
        if extra in (None, "dev") or needed.name in ("edgekit", *found):  # `edgekit[export]`: one extra holds another
            continue
        found[needed.name] = Package(needed.name, installed_version(needed.name), str(needed.specifier), extra)
    return list(found.values())


def _applies(needed: Requirement, extra: str) -> bool:
    """Whether an extra ("": none) needs this package, on this machine."""
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def _engine(name: str) -> Engine:
    runtime = plugins.load("runtimes", name)()
    line = install_on(runtime, platform.machine())
    try:
        return Engine(name, runtime.version(), None, line)
    except EngineError as error:
        # Installed twice over, one more install would not help: the error's own line does.
        kept = error.fix.partition("Keep one: ")[2]
        return Engine(name, None, str(error), kept or line)


def _readiness(target: Target, packages: Iterable[Package], engines: dict[str, Engine]) -> Readiness:
    missing = [item for item in packages if item.extra == "export" and item.problem]
    needs = [str(item.problem) for item in missing]
    install = ['pip install "edgekit[export]"'] if missing else []
    candidates = target.candidates_for(target.device_arch())
    replaced = {item.runtime: item.check_with for item in candidates if item.check_with and _missing(item, engines)}
    for name in dict.fromkeys(replaced.get(item.runtime, item.runtime) for item in candidates):
        engine = engines.get(name)
        if engine is None:
            needs.append(f"runtime '{name}' is not known")
        elif engine.reason:
            needs.append(f"runtime '{name}': {engine.reason}")
            install.append(engine.install)
    for kind, names in (
        ("exporters", [item.format for item in candidates]),
        ("passes", [step.name for item in candidates for step in (*target.passes, *item.passes)]),
    ):
        needs += _unknown(kind, names)  # type: ignore[arg-type]
    exporters = [] if missing else [item.format for item in candidates if item.format in plugins.names("exporters")]
    for name in dict.fromkeys(exporters):  # they import what the extra "export" brings
        for distribution in missing_packages(name):
            needs.append(f"exporter '{name}': {distribution} is not installed")
            install.append(f"pip install {distribution}")
    tools = {str(item.export_options["quantize"]) for item in candidates if item.export_options.get("quantize")}
    for package in packages:
        if package.name in tools and package.problem:
            needs.append(package.problem)
            install.append(f"pip install {package.name}")
    measured = _stand_ins(replaced) if replaced else _not_here(target)
    return Readiness(target.name, target.description, tuple(needs), tuple(dict.fromkeys(install)), measured)


def _missing(candidate: Candidate, engines: dict[str, Engine]) -> bool:
    engine = engines.get(candidate.runtime)
    return engine is not None and engine.reason is not None


def _stand_ins(replaced: Mapping[str, str]) -> str:
    """What this machine cannot do for a target whose engine cannot run here, although it can export for it."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, other in replaced.items():
        what = runtime_facts(plugins.load("runtimes", name)).prepares
        grouped.setdefault((other, what), []).append(name)
    return "; ".join(
        f"{' and '.join(names)} cannot run here: checked with {other}"
        + (f"; the device builds the {what}, none is built here" if what else "")
        for (other, what), names in grouped.items()
    )


def _unknown(kind: plugins.Kind, names: Sequence[str]) -> list[str]:
    known = set(plugins.names(kind))
    word = {"exporters": "exporter", "passes": "pass", "runtimes": "runtime"}[kind]
    return [f"{word} '{name}' is not known" for name in dict.fromkeys(names) if name not in known]


def _not_here(target: Target) -> str | None:
    from ..target.profile import machine as here
    from ..target.toolchain import Toolchain

    if target.runs_here():
        return None
    emulators = dict.fromkeys(filter(None, (Toolchain(item).emulator for item in target.candidates)))
    if emulators:
        return f"verified on the emulator ({', '.join(emulators)}); latency needs a device"
    if target.arch and here() not in target.arch:
        return f"this machine is {here()}, the target is {' or '.join(target.arch)}"
    return "the profile says to measure on the device itself"


def _problems() -> list[str]:
    """What is wrong with the installation as a whole."""
    from ..runtimes._ort import DISTRIBUTIONS

    problems = []
    try:
        temporary_folder()
    except OutputError as error:
        problems.append(str(error))
    present = [name for name in DISTRIBUTIONS if installed_version(name)]
    if len(present) > 1:
        problems.append(
            f"{' and '.join(present)} are both installed; they overwrite each other's files. "
            f"Keep one: pip uninstall -y {' '.join(present)}, then install the one you need"
        )
    try:
        plugins.target_files()
        for kind in ("runtimes", "exporters", "passes"):
            plugins.names(kind)
    except EdgekitError as error:
        problems.append(str(error))
    return problems


def _disk_free() -> dict[str, int]:
    """Folder → bytes: the current one, and the one for temporary files, if there is any."""
    folders = [Path.cwd()]
    with contextlib.suppress(OutputError):
        folders.append(temporary_folder())
    return {str(path): shutil.disk_usage(path).free for path in folders}


def _memory_available() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None

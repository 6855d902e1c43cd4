"""What a remote device still needs, the line that installs it, and putting it there from here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import plugins
from ..bundle.read import hash_file
from ..bundle.write import vendor_floor
from ..errors import EngineError, signal_name
from ..facts import install_on, runtime_facts
from ..target.load import load_target
from ..target.profile import Target
from ..tempdir import work_folder
from .remote import RemoteDevice

_TIMEOUT_S = 120.0  # an engine's first import from a slow card
_HOST_ONLY = {"null", "torch_eager"}
_NUMPY = "import numpy; print(numpy.__version__)"
_ENGINE = """
import sys
from edgekit.errors import EngineError
from edgekit.measure.engines import load_runtime
try:
    print(load_runtime({name!r}).version())
except EngineError as error:
    sys.exit(str(error))
"""
# Run on the device: what a wheel must be made for.
_WHEEL_TAGS = """
def tags():
    import os, platform, sys
    name = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    return {"machine": platform.machine(), "libc": name, "python": list(sys.version_info[:2])}
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Something a device needs to measure bundles."""

    name: str
    version: str | None  # None: not usable
    problem: str | None
    install: str  # the line to type on the device
    by_pip: bool = True  # False: the system brings it, and wheels sent from here would not do


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What was found on a device."""

    url: str
    device: dict[str, Any]
    python: str  # the interpreter's path there
    cache: str  # edgekit's folder there
    numpy: Part
    engines: tuple[Part, ...]
    target: str | None
    unverified: str | None  # what this kind of device was not tested on

    @property
    def missing(self) -> list[Part]:
        """What stands in the way: numpy, the target's engines, or, without a target, every engine."""
        engines = [item for item in self.engines if item.problem]
        enough = self.target is None and len(engines) < len(self.engines)
        return [item for item in (self.numpy, *([] if enough else engines)) if item.problem]

    @property
    def packages(self) -> list[str]:
        """What pip calls numpy and the engines."""
        parts = [part for part in (self.numpy, *self.engines) if part.by_pip]
        lines = [part.install.partition(" pip install ")[2] for part in parts]
        return list(dict.fromkeys(word for line in lines for word in line.split()))

    def to_json(self) -> dict[str, Any]:
        """The object of ``doctor --device URL --json`` (schema 1)."""
        return {
            "schema": 1,
            **asdict(self),
            "ready": not self.missing,
            "missing": [asdict(item) for item in self.missing],
        }


def examine_device(remote: RemoteDevice, target: str | Path | None = None) -> DeviceReport:
    """Look at a device through the same adapters that a bundle there would use.

    Args:
        remote: the device.
        target: whose engines it needs; None: those of every target made for such a machine.

    Raises:
        EngineError: it is unreachable, or has no Python >= 3.10.
        UsageError: the target is unknown or malformed.
    """
    session = remote.session
    facts = session.describe()
    version, problem = _try(remote, _NUMPY, "/")
    numpy = Part("numpy", version, problem and "numpy is not installed", f"{session.python} -m pip install numpy")
    on = str(facts["machine"])
    engines = [_engine(remote, name, on, problem is None) for name in _runtimes(target, on)]
    return DeviceReport(
        url=remote.url,
        device=facts,
        python=session.python,
        cache=session.root,
        numpy=numpy,
        engines=tuple(engines),
        target=None if target is None else str(target),
        unverified=session.transport.unverified,
    )


def install(remote: RemoteDevice, packages: list[str]) -> str:
    """Download wheels for the device here and unpack them in edgekit's folder there, where its workers find them.

    Nothing else on the device changes, and it needs neither pip nor a network. Packages from an earlier call
    go: name all that it needs.

    Args:
        remote: the device.
        packages: as pip takes them: ``["numpy", "onnxruntime"]``.

    Returns:
        The folder there.

    Raises:
        EngineError: pip finds no wheel for such a device, or the device has no room.
    """
    session = remote.session
    tags = session.ask("call", {"source": _WHEEL_TAGS, "function": "tags"})["value"]
    with work_folder() as folder:
        options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", *_pip_tags(tags, remote.url)]
        pip = [sys.executable, "-m", "pip", "download", "--dest", str(folder), *options, *packages]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-3:]
            raise EngineError(f"pip finds no wheels of {', '.join(packages)} for device '{remote.url}'", details=said)
        wheels = {hash_file(path).sha256: path for path in sorted(folder.glob("*.whl"))}
        session.send(wheels)
        session.packages = str(session.ask("install", {"wheels": list(wheels)})["packages"])
    return session.packages


def _runtimes(target: str | Path | None, machine: str) -> list[str]:
    if target is not None:
        profiles: list[Target] = [load_target(target)]
    else:
        every = [load_target(path) for path in plugins.target_files().values()]
        # A target of another host than "local" is no machine: a browser, say.
        own = [item for item in every if not item.abstract and item.measure.host == "local"]
        profiles = [item for item in own if not item.arch or machine in item.arch]
    names = [item.runtime for profile in profiles for item in profile.candidates_for(machine)]
    usual = [name for name in dict.fromkeys(names) if name not in _HOST_ONLY]
    # What the system brings is looked for where a target is named: most devices have not the hardware for it.
    return usual if target is not None else [name for name in usual if _by_pip(name)]


def _by_pip(runtime: str) -> bool:
    return runtime_facts(plugins.load("runtimes", runtime)).by_pip


def _engine(remote: RemoteDevice, name: str, machine: str, has_numpy: bool) -> Part:
    adapter = plugins.load("runtimes", name)
    line = install_on(adapter, machine)
    if line.startswith("pip "):
        line = f"{remote.session.python} -m {line}"
    if not has_numpy:
        return Part(name, None, "cannot be tried without numpy", line, _by_pip(name))
    with work_folder() as folder:
        source = Path(str(sys.modules[adapter.__module__].__file__))
        vendor_floor(folder / "edgekit", source, adapter.__qualname__, name)
        copy = remote.session.push(folder)
    version, problem = _try(remote, _ENGINE.format(name=name), copy)
    return Part(name, version, problem, line, _by_pip(name))


def _try(remote: RemoteDevice, code: str, folder: str) -> tuple[str | None, str | None]:
    """What ``code`` prints on the device, or why it does not."""
    done = remote.execute(["-c", code], folder, _TIMEOUT_S)
    if done["code"] == 0:
        return done["out"].strip(), None
    if done["code"] < 0:
        return None, f"it crashed when it was imported: {signal_name(-done['code'])}"
    lines = [line for line in done["err"].splitlines() if line.strip()]
    return None, lines[-1] if lines else f"exit code {done['code']}"


def _pip_tags(tags: dict[str, Any], url: str) -> list[str]:
    """Options of pip for a device: every manylinux that its glibc can load, the newest first (PEP 600)."""
    libc, machine = tags["libc"], tags["machine"]
    if not libc or not libc.startswith("glibc "):
        raise EngineError(
            f"device '{url}' does not use glibc, and wheels are made for that", fix="Install there by hand."
        )
    minor = int(libc.split(".")[1])
    platforms = [f"manylinux_2_{number}_{machine}" for number in range(minor, 16, -1)] + [f"manylinux2014_{machine}"]
    major, lesser = tags["python"]
    words = [word for name in platforms for word in ("--platform", name)]
    return [*words, "--python-version", f"{major}.{lesser}", "--implementation", "cp"]

"""``edgekit doctor --json``."""

from typing import Any, Literal, TypedDict

from .common import Device


class Package(TypedDict):
    """A package that edgekit uses."""

    name: str
    version: str | None
    """null: not installed"""
    wanted: str
    """">=2.9", or empty"""
    extra: str
    """the extra that brings it; empty: always there"""
    problem: str | None


class Engine(TypedDict):
    """A runtime and whether it can be used here."""

    name: str
    version: str | None
    """null: not usable"""
    reason: str | None
    install: str
    """the line that installs it"""


class Readiness(TypedDict):
    """What a target still needs before this machine can export for it."""

    name: str
    description: str
    needs: list[str]
    """a line each; empty: ready"""
    install: list[str]
    """the command lines that help, in order"""
    measured: str | None
    """null: it is measured here; else why not"""
    ready: bool


class Doctor(TypedDict):
    """This installation and this machine."""

    schema: Literal[1]
    edgekit: str
    python: str
    machine: Device
    cpu_features: dict[str, bool] | None
    """null: this system does not tell"""
    memory_available_bytes: int | None
    disk_free_bytes: dict[str, int]
    """folder → bytes"""
    packages: list[Package]
    engines: list[Engine]
    targets: list[Readiness]
    problems: list[str]
    """what is wrong with the installation itself"""


class Part(TypedDict):
    """Something a device needs to run bundles."""

    name: str
    version: str | None
    """null: not usable"""
    problem: str | None
    install: str
    """the line to type on the device"""
    by_pip: bool
    """false: the system brings it"""


class DeviceReport(TypedDict):
    """`--device ssh://…` or `adb://…`: a device through the adapters that a bundle there would use."""

    schema: Literal[1]
    url: str
    device: Device
    python: str
    """the interpreter's path there"""
    cache: str
    """edgekit's folder there"""
    numpy: Part
    engines: list[Part]
    target: str | None
    unverified: str | None
    """what this kind of device was not tested on"""
    ready: bool
    missing: list[Part]


class BrowserReport(TypedDict):
    """`--device browser`: what a page can have in the browser of this machine."""

    schema: Literal[1]
    url: str
    path: str
    version: str
    engine: str | None
    """onnxruntime-web's version"""
    engine_folder: str | None
    no_engine: str | None
    """why it is not here, and how it comes"""
    cores: int | None
    threads: bool
    """whether WebAssembly may have several"""
    webgpu: dict[str, Any] | None
    """the adapter"""
    no_webgpu: str | None
    ready: bool


class Cleaned(TypedDict):
    """`--device URL --clean`."""

    schema: Literal[1]
    url: str
    deleted: str
    """the folder there"""


AnyDoctor = Doctor | DeviceReport | BrowserReport | Cleaned

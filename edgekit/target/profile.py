"""A target's profile: the values of its TOML file, typed."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contracts import Tolerance
from ..measure.machine import architecture

DEFAULT_OPSET = 20


def _key(default: Any, doc: str) -> Any:
    """A field of a table of the profile. ``doc`` is told to whoever writes one (`edgekit targets new`)."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device has. None: not stated."""

    memory_bytes: int | None = _key(None, "Main memory that the model, the engine and the app share, in bytes.")
    source: str = _key("", "Where these numbers come from: the data sheet's name or address.")


@dataclass(frozen=True, slots=True)
class ExportRules:
    """How the graph and the artifact are written."""

    format: str = _key("onnx", "The artifact exporter of candidates that name none: onnx, openvino_ir, …")
    opset: int = _key(DEFAULT_OPSET, "The ONNX operator set that the graph is exported in.")
    dynamic: bool = _key(True, "Whether --dynamic, a free dimension, is allowed.")
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"doc": "Options of that exporter, for every candidate; its own export_options win."},
    )


@dataclass(frozen=True, slots=True)
class MeasureRules:
    """How the device is measured."""

    where: str = _key("here", 'Where numbers mean something: "here", on this machine, or "device", only on it.')
    host: str = _key("local", 'What checks and measures on this machine, as --device names it: "local" or "browser".')
    warmup_s: float = _key(0.3, "Seconds of untimed runs before a process is timed.")
    processes: int = _key(3, "Fresh processes that each contender is timed in.")
    fallback: bool = _key(False, "Whether nodes may run elsewhere than on `device`; false: that is an error (exit 5).")
    device: str = _key("CPU", "Where every node has to run, as the engine's adapter calls it: CPU, CUDA, HTP, …")
    also: tuple[str, ...] = _key((), "Devices beside it on which nodes may run all the same: a Jetson's DLA.")
    samples: int = _key(1000, "Check on at most so many samples: fewer where the engine is slow, as an emulator is.")

    def __post_init__(self) -> None:
        if self.where not in ("here", "device"):
            raise ValueError(f"'where' must be 'here' or 'device', got '{self.where}'")
        if self.samples < 1:
            raise ValueError(f"'samples' must be 1 or more, got {self.samples}")
        if "://" in self.host:
            raise ValueError(f"'host' must be a device of this machine, local or browser, got '{self.host}'")


@dataclass(frozen=True, slots=True)
class Verified:
    """Where a profile was tried, one line each: what, with which versions. "": not there. Never inherited."""

    cpu: str = _key("", "On a CPU of the kind that it is for.")
    gpu: str = _key("", "On a real GPU: which.")
    stand_in: str = _key("", "In another engine, on a machine that cannot run its own: which, and what it shows.")
    emulator: str = _key("", "On the vendor's emulator of the accelerator: right numbers, no latency.")
    emulated_device: str = _key("", "On a whole device run by an emulator, over ssh or adb: right numbers, no latency.")
    browser: str = _key("", "In a real browser: which.")
    device: str = _key("", "On the device itself: which board, which system.")
    open: str = _key("", "What was not verified, and what it takes.")


@dataclass(frozen=True, slots=True)
class PassSpec:
    """A pass by name, with the options written for it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to ship the model: an engine, a precision, passes and session options."""

    name: str
    runtime: str
    precision: str
    format: str
    passes: tuple[PassSpec, ...] = ()
    export_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # session options
    tune: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # session option → values to try
    arch: tuple[str, ...] = ()  # machines it is made for; empty: any
    check_with: str = ""  # the runtime that checks the numerics where this machine cannot run the engine; "": none may
    check_options: Mapping[str, Any] = field(default_factory=dict)  # that one's session options
    device: str | None = None  # where its nodes must run; None: where the target says


@dataclass(frozen=True, slots=True)
class Target:
    """A device profile after inheritance."""

    name: str
    description: str
    abstract: bool  # only to be extended: no device by itself
    arch: tuple[str, ...]  # the device's machine, as `platform.machine()` says it; empty: any
    limits: Limits
    export: ExportRules
    passes: tuple[PassSpec, ...]  # for every candidate, before its own
    candidates: tuple[Candidate, ...]
    tolerance: Mapping[str, Tolerance]  # precision → what parity must hold
    tolerance_with_metric: Mapping[str, Tolerance]  # the same where a metric on labels judges the accuracy
    measure: MeasureRules
    verified: Verified
    files: tuple[Path, ...]  # the profile's own file first, then those it inherits from
    origins: Mapping[str, Path]  # dotted key → the file its value came from

    def runs_here(self) -> bool:
        """Whether this machine may stand for the device: measuring here says something."""
        return self.measure.where == "here" and (not self.arch or machine() in self.arch)

    def candidates_for(self, arch: str) -> tuple[Candidate, ...]:
        """The candidates made for a machine of this architecture."""
        return tuple(item for item in self.candidates if not item.arch or arch in item.arch)

    def devices_of(self, candidate: Candidate) -> tuple[str, ...]:
        """Where a candidate's nodes may run, the device they are meant for first; empty: anywhere."""
        return () if self.measure.fallback else (candidate.device or self.measure.device, *self.measure.also)

    def device_arch(self) -> str:
        """The architecture to build for: the device's, or this machine's where the profile leaves it open."""
        return machine() if not self.arch or machine() in self.arch else self.arch[0]


def machine() -> str:
    """This machine's architecture, ``x86_64`` or ``aarch64`` on every operating system."""
    return architecture(platform.machine())

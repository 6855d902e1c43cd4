"""Prepare a bundle on its device: what its engine builds at first open is built now, with progress, and kept there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..bundle import Bundle, open_bundle
from ..contracts import Progress, Quiet
from ..devices import device_for
from ..devices.prepare import builds, prepare
from ..errors import UsageError
from ..json_output.bundle import Build


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built, where, and how long it took."""

    bundle: Path
    what: str  # "plan"
    runtime: str
    version: str  # the engine's, on the device
    device: Mapping[str, Any]
    load_s: float  # opening the model, building included
    first_run_s: float | None
    placement: Mapping[str, int]
    in_force: Mapping[str, Any]  # what the engine's adapter tells: where it is kept, whether it was built just now

    def to_json(self) -> Build:
        """The object of ``build --json`` (schema 1)."""
        value = {
            "schema": 1,
            "bundle": str(self.bundle),
            "what": self.what,
            "built": self.in_force.get(f"{self.what}_built_now"),
            "build_s": self.in_force.get(f"{self.what}_build_s"),
            "path": self.in_force.get(self.what),
            "because": self.in_force.get(f"{self.what}_built_because"),
            "load_s": self.load_s,
            "first_run_s": self.first_run_s,
            "device": dict(self.device),
            "runtime": {"name": self.runtime, "version": self.version, "in_force": dict(self.in_force)},
            "placement": dict(self.placement),
        }
        return cast("Build", value)


def build(bundle: str | Path | Bundle, device: str = "local", *, progress: Progress | None = None) -> BuildResult:
    """Open a bundle on its device, so that its engine builds and keeps what it runs (a TensorRT plan).

    Args:
        bundle: its folder or zip, or an open one.
        device: ``local``, ``ssh://[user@]host[:port]`` or ``adb://serial``.
        progress: where to say how far it is.

    Raises:
        UsageError: this bundle's engine builds nothing.
        BundleError: the bundle is damaged, or is none.
        EngineError: the device or the engine is missing, or refuses the model.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(bundle) as opened:
            return build(opened, device, progress=progress)
    what = builds(bundle)
    if not what:
        raise UsageError(
            f"'{bundle.path}' runs with {bundle.manifest.runtime.name}, which builds nothing on the device",
            fix="Measure it: edgekit bench BUNDLE",
        )
    progress = progress or Quiet()
    with device_for(device) as place:
        place.push(bundle, progress)
        described = place.describe()
        info = prepare(bundle, place, progress)
    return BuildResult(
        bundle.path,
        what,
        bundle.manifest.runtime.name,
        info.version,
        described,
        info.load_s,
        info.first_run_s,
        info.placement.counts(),
        info.in_force,
    )

"""Prepare a bundle on its device: what its engine builds at first open is built now, with progress, and kept there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plugins
from .bundle import Bundle, open_bundle
from .contracts import Progress, Quiet
from .devices import Device, device_for
from .errors import UsageError

if TYPE_CHECKING:
    from .measure.client import WorkerInfo

_STEPS = 100


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

    def to_json(self) -> dict[str, Any]:
        """The object of ``build --json`` (schema 1)."""
        return {
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
            fix="Measure it: edgekit bench.",
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


def builds(bundle: Bundle) -> str:
    """What the bundle's engine builds when it opens the model for the first time on a device; "": nothing."""
    try:
        runtime = plugins.load("runtimes", bundle.manifest.runtime.name)
    except UsageError:  # an adapter that came with the bundle and is not installed here: it builds without being asked
        return ""
    return str(getattr(runtime, "prepares", ""))


def bring(bundle: Bundle, place: Device, progress: Progress) -> None:
    """Bring a bundle to a device, and let its engine build there what it has to, before anything is measured.

    Raises:
        EngineError: the device is unreachable, or has no room; the engine is missing there, or refuses the model.
    """
    place.push(bundle, progress)
    if builds(bundle):
        prepare(bundle, place, progress)


def prepare(bundle: Bundle, place: Device, progress: Progress) -> WorkerInfo:
    """Open the bundle once on a device that has it, and close it again; at most one golden input runs.

    Raises:
        EngineError: the engine is missing there, or refuses the model.
    """
    with progress.stage(f"build the {builds(bundle)}"):

        def told(doing: str, share: float | None) -> None:
            progress.step(0 if share is None else round(share * _STEPS), _STEPS, doing)

        feeds = [inputs for inputs, _ in bundle.golden()[:1]]
        use = bundle.manifest.runtime
        with place.open(bundle.artifact, use.name, bundle.options(), feeds, told) as worker:
            return worker.info

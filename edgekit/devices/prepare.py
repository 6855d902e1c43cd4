"""Bring a bundle to a device, and let its engine build there what it builds at first open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import plugins
from ..bundle import Bundle
from ..contracts import Progress
from ..errors import UsageError
from ..facts import runtime_facts
from . import Device

if TYPE_CHECKING:
    from ..measure.client import WorkerInfo


_STEPS = 100


def builds(bundle: Bundle) -> str:
    """What the bundle's engine builds when it opens the model for the first time on a device; "": nothing."""
    try:
        runtime = plugins.load("runtimes", bundle.manifest.runtime.name)
    except UsageError:  # an adapter that came with the bundle and is not installed here: it builds without being asked
        return ""
    return runtime_facts(runtime).prepares


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

"""What is measured beside the latency, in a fresh process each: the energy of a run, and the time of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts import Artifact, Feeds
from ..errors import EngineError
from .client import Memory
from .energy import Energy
from .opening import OpenWorker
from .profile import profile_worker

ENERGY_S = 4.0
"""Runs while the meters count: a GPU's counter moves ten times a second, and there are `energy.WINDOWS` windows."""
IDLE_S = 1.5
NOT_ASKED = "not asked for: --profile"


@dataclass(frozen=True, slots=True)
class Extras:
    """The energy by each meter, the one that sees most first, and the profile. What is missing has its reason."""

    energy: tuple[Energy, ...] = ()
    no_energy: str | None = None
    profile: Mapping[str, Any] | None = None
    no_profile: str | None = NOT_ASKED

    def energy_json(self) -> dict[str, Any] | None:
        """``energy_j`` of ``bench --json``: the first meter, the others under ``others``."""
        if not self.energy:
            return None
        first, *others = self.energy
        return {**first.to_json(), "others": [item.to_json() for item in others]}

    def not_measured(self) -> dict[str, str]:
        """The reasons, by the keys of ``bench --json``."""
        reasons = {"energy_j": self.no_energy, "profile": self.no_profile}
        return {key: reason for key, reason in reasons.items() if reason is not None}


def measure_extras(
    open_worker: OpenWorker,
    artifact: Artifact,
    runtime: str,
    options: Any,
    feeds: Sequence[Feeds],
    *,
    layers_file: Path,
    profile: bool,
) -> Extras:
    """Measure the energy where the machine has a meter, and the layers where it is asked for.

    Args:
        open_worker: starts a worker on the device.
        artifact: what to open.
        runtime: the engine's adapter.
        options: session options.
        feeds: real inputs.
        layers_file: the bundle's ``layers.json``.
        profile: whether to profile.

    Raises:
        EngineError: the engine fails. That it cannot tell the times of its nodes is a reason in the result, no error.
        BundleError: ``layers.json`` is damaged.
    """
    energy, no_energy = _energy(open_worker, artifact, runtime, options, feeds)
    if not profile:
        return Extras(energy, no_energy)
    with open_worker(artifact, runtime, options, feeds) as worker:
        try:
            return Extras(energy, no_energy, profile_worker(worker, layers_file), None)
        except EngineError as error:
            return Extras(energy, no_energy, None, str(error))


def _energy(
    open_worker: OpenWorker, artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds]
) -> tuple[tuple[Energy, ...], str | None]:
    # Most machines have no meter that a user may read: asking a worker without an engine costs little.
    with open_worker(artifact, "null", {}, ()) as worker:
        count, reasons = worker.meters()
    if not count:
        return (), "; ".join(reasons)
    with open_worker(artifact, runtime, options, feeds) as worker:
        try:
            return tuple(worker.energy(ENERGY_S, IDLE_S)), None
        except EngineError as error:
            return (), str(error)


def memory_json(
    model_bytes: int, memories: Sequence[Memory], in_force: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """``memory`` of ``bench --json``, and the reasons for what is null in it: the largest over all processes.

    ``peak_above_engine_bytes`` is what opening and running the model took: the peak less what was resident with the
    engine loaded and no model open.
    """
    peaks = [item.peak_rss_bytes for item in memories if item.peak_rss_bytes is not None]
    above = [
        item.peak_rss_bytes - item.rss_before_open_bytes
        for item in memories
        if item.peak_rss_bytes is not None and item.rss_before_open_bytes is not None
    ]
    device = in_force.get("device_memory_bytes")
    reasons = {}
    if not peaks:
        reasons["memory.peak_rss_bytes"] = "this system does not report a process's peak memory"
    if not above:
        elsewhere = "the engine runs in a process of its own, which starts with the model"
        reasons["memory.peak_above_engine_bytes"] = (
            elsewhere if peaks else "this system does not report a process's memory"
        )
    if device is None:
        reasons["memory.device_bytes"] = "this engine does not report its memory on its device"
    return {
        "model_bytes": model_bytes,
        "peak_rss_bytes": max(peaks, default=None),
        "peak_above_engine_bytes": max(above, default=None),
        "device_bytes": device,
    }, reasons

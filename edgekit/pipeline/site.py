"""Where an export's candidates are checked and timed: on this machine, or on the device itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UsageError
from ..measure.machine import architecture
from ..measure.quota import worth
from ..target.profile import Target, machine

if TYPE_CHECKING:
    from ..devices import Device


class SelfTester(Protocol):
    """Runs a bundle's self-test."""

    def __call__(self, folder: Path, *, substitute: bool = False) -> str:
        """The line that it prints; ``substitute``: in the runtime that stands in for the bundle's engine."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """A place with engines, and what its latencies are worth."""

    device: Device
    facts: Mapping[str, Any]  # `measure.here.describe`
    arch: str  # to build for
    cores: tuple[int, ...]  # what "every core" may mean there; (0,): left to the engine
    unmeasured: str | None  # why nothing is timed there; None: it is
    is_here: bool  # whether the engines are this machine's
    is_device: bool  # whether it is the device that the bundle is for
    self_test: SelfTester


@contextmanager
def site_for(target: Target, url: str) -> Iterator[Site]:
    """The site that ``--device URL`` names, for the time of the ``with`` block.

    Raises:
        UsageError: not a device's address, or a device that the target is not for.
        EngineError: it is unreachable.
    """
    from ..devices import device_for, remote_device
    from ..devices.staging import StagingDevice

    own = target.measure.host if url == "local" else url
    if "://" not in own:
        with device_for(own) as device:
            yield _here(target, device)
        return

    with remote_device(url) as remote:
        facts = remote.describe()
        arch = architecture(str(facts["machine"]))
        if target.arch and arch not in target.arch:
            raise UsageError(
                f"device '{url}' is {arch}, target '{target.name}' is for {' or '.join(target.arch)}",
                fix="List the others: edgekit targets list",
            )
        staging = StagingDevice(remote)
        emulated = facts["emulated"]
        why = f"'{url}' is emulated by {emulated}, its latencies mean nothing" if emulated else None
        cores = (worth(int(facts["usable_cores"] or 0), facts.get("cpu_quota")),)
        yield Site(staging, facts, arch, cores, why, is_here=False, is_device=True, self_test=staging.self_test)


def _here(target: Target, device: Device) -> Site:
    from ..devices.local import self_test
    from ..measure.affinity import cores

    why = _why_not_measured(target)
    known = cores() if why is None else (0,)
    return Site(device, device.describe(), target.device_arch(), known, why, True, target.runs_here(), self_test)


def _why_not_measured(target: Target) -> str | None:
    if target.runs_here():
        return None
    if target.measure.where == "device":
        return f"target '{target.name}' is measured on the device itself (--device)"
    return f"this machine is {machine()}, the target {' or '.join(target.arch)}"

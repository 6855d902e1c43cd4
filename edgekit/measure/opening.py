"""What must hold of every worker before it is measured: its nodes are where they should be, it stays on its cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..contracts import Artifact, Feeds, NodePlacement, Placement
from ..errors import EngineError, PlacementError, UsageError
from .affinity import Applied
from .client import Worker

OpenWorker = Callable[[Artifact, str, Any, Sequence[Feeds]], Worker]


def checked(open_worker: OpenWorker, expected: Mapping[str, int]) -> OpenWorker:
    """``open_worker``, which now refuses what must not be measured: a device that is emulated by its engine
    (EngineError), nodes on a device that export had none of them on (PlacementError).

    Args:
        open_worker: starts a worker.
        expected: a bundle's placement: device → number of nodes; empty: not known, and nothing is checked.
    """

    def opened(artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds] = ()) -> Worker:
        worker = open_worker(artifact, runtime, options, feeds)
        error = emulated(worker.info.in_force) or misplaced(worker.info.placement, expected)
        if error is not None:
            worker.close()
            raise error
        return worker

    return opened


def emulated(in_force: Mapping[str, Any]) -> EngineError | None:
    """The error for a session whose device is emulated: its latency would pass for the device's; None: it is real."""
    emulator = in_force.get("emulated")
    if not emulator:
        return None
    return EngineError(
        f"{emulator} stands for the device here: its latency says nothing about the device, so none is reported",
        fix="Measure on the device: copy the bundle there and run `python run.py bench`, or use --device.",
    )


def misplaced(placement: Placement, expected: Mapping[str, int]) -> PlacementError | None:
    """The error for nodes on another device than any that is expected, with the engine's own reason; None: all well."""
    strays = [node for node in placement.nodes if node.device not in expected]
    if not expected or not strays:
        return None
    return PlacementError(
        f"{len(strays)} of {len(placement.nodes)} nodes run on the {_devices(strays)} here; "
        f"the bundle was exported with all of them on the {' and '.join(expected)}",
        details=stray_lines(strays),
        fix="What would be measured is not what was exported. Is the driver of the device installed?",
    )


def stray_lines(strays: Iterable[NodePlacement]) -> list[str]:
    """``Erf  (encoder.layers.0.mlp.act)   QNN: operators of type `Erf` are not supported``, a line a node."""
    return [f"{node.op_type}  ({node.name})  {node.reason or node.device}" for node in strays]


def pinned(
    open_worker: OpenWorker, cores: Sequence[int] | None, nice: int | None, applied: list[Applied]
) -> OpenWorker:
    """``open_worker``, which now keeps each worker on ``cores``, at priority ``nice``, and notes what was allowed.

    A priority that the system does not allow is only noted. Other cores than those asked for would be another
    measurement: the worker raises UsageError.
    """
    if cores is None and nice is None:
        return open_worker

    def opened(artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds] = ()) -> Worker:
        worker = open_worker(artifact, runtime, options, feeds)
        in_force = worker.pin(cores, nice)
        if cores is not None and in_force.cores is not None and set(in_force.cores) != set(cores):
            worker.close()
            usable = ", ".join(map(str, in_force.cores))
            raise UsageError(f"a process cannot be kept on cores {', '.join(map(str, cores))} there, only on {usable}")
        applied.append(in_force)
        return worker

    return opened


def _devices(strays: Sequence[NodePlacement]) -> str:
    return " and ".join(dict.fromkeys(node.device for node in strays))

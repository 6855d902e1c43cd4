"""This machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .. import plugins
from ..contracts import Artifact, Feeds
from ..measure import machine
from ..measure.client import Worker

__all__ = ["LocalDevice", "Worker"]

# -P: a file in the user's folder named like a standard module (random.py) must not end up in the worker.
_COMMAND = (sys.executable, "-P", "-m", "edgekit.measure.worker")


class LocalDevice:
    """This machine, with the engines of this Python environment."""

    url = "local"

    def describe(self) -> dict[str, Any]:
        """See `measure.machine.describe`."""
        return machine.describe()

    def open(self, artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds] = ()) -> Worker:
        """Start a worker here. See `devices.Device.open`.

        Raises:
            UsageError: there is no runtime of that name.
            EngineError: the engine is missing, refuses the model, or crashed.
        """
        adapter = plugins.load("runtimes", runtime)
        return Worker(_COMMAND, artifact, f"{adapter.__module__}:{adapter.__qualname__}", options, feeds)

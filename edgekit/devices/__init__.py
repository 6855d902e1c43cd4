"""Where a bundle is run and measured: this machine now; over ssh and adb in a later version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..contracts import Artifact, Feeds
from ..errors import EngineError, UsageError
from ..measure.client import Worker


class Device(Protocol):
    """A place with engines."""

    url: str  # as the user names it: "local", "ssh://pi@10.0.0.7"

    def describe(self) -> dict[str, Any]:
        """The device as plain JSON values (`measure.machine.describe`); what cannot be read is None."""
        ...

    def open(self, artifact: Artifact, runtime: str, options: Any, feeds: Sequence[Feeds] = ()) -> Worker:
        """A fresh process there with ``artifact`` open in ``runtime``.

        Args:
            artifact: what to open.
            runtime: a runtime's plug-in name.
            options: session options, a table or the runtime's ``Options``.
            feeds: the inputs to measure with, in rotation; without any the worker can only ``run``.

        Raises:
            EngineError: the device is unreachable, the engine is missing there or refuses the model, or it crashed.
        """
        ...


def device_for(url: str) -> Device:
    """The device that ``--device URL`` names.

    Raises:
        EngineError: a kind of device that this version cannot reach.
        UsageError: not a device's address.
    """
    if url == "local":
        from .local import LocalDevice

        return LocalDevice()
    scheme = url.partition("://")[0]
    if scheme in ("ssh", "adb") and "://" in url:
        raise EngineError(
            f"device '{url}': {scheme} devices are not in this version",
            fix="Copy the bundle there and run: python run.py bench",
        )
    raise UsageError(f"'{url}' is not a device", fix="Allowed: local, ssh://[user@]host[:port], adb://serial.")

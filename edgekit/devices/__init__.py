"""Where a bundle is run and measured: this machine, a browser of it, or another machine over ssh or adb."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from ..contracts import Artifact, Feeds, Progress
from ..measure.client import Worker
from ..measure.telling import Listener

if TYPE_CHECKING:
    from ..bundle import Bundle
    from .remote import RemoteDevice


class Device(AbstractContextManager["Device"], Protocol):
    """A place with engines. A context manager: leaving it ends the connection and tidies up over there."""

    url: str  # as the user names it: "local", "ssh://pi@10.0.0.7"

    def describe(self) -> dict[str, Any]:
        """The device as plain JSON values (`measure.here.describe`); what cannot be read is None."""
        ...

    def push(self, bundle: Bundle, progress: Progress) -> None:
        """Bring a bundle there, once, before any worker is opened on its artifact; nothing to do on this machine.

        Raises:
            EngineError: the device is unreachable, the connection is lost, or it has no room.
        """
        ...

    def open(
        self,
        artifact: Artifact,
        runtime: str,
        options: Any,
        feeds: Sequence[Feeds] = (),
        told: Listener | None = None,
    ) -> Worker:
        """A fresh process there with ``artifact`` open in ``runtime``.

        Args:
            artifact: what to open.
            runtime: a runtime's plug-in name.
            options: session options, a table or the runtime's ``Options``.
            feeds: the inputs to measure with, in rotation; without any the worker can only ``run``.
            told: called when the engine says how far it is with opening the model.

        Raises:
            EngineError: the device is unreachable, the engine is missing there or refuses the model, or it crashed.
        """
        ...


def device_for(url: str) -> Device:
    """The device that ``--device URL`` names: ``local``, ``browser[:PATH]``, ``ssh://[user@]host[:port]``, ``adb://serial``.

    The last two take ``?python=PATH``, the interpreter on the device. Nothing is connected before the first use.

    Raises:
        UsageError: not a device's address.
    """
    if url == "local":
        from .local import LocalDevice

        return LocalDevice()
    if url.partition(":")[0] == "browser":
        from .browser import BrowserDevice

        return BrowserDevice(url)
    return remote_device(url)


def remote_device(url: str) -> RemoteDevice:
    """Like `device_for`, for what only a remote device can do.

    Raises:
        UsageError: not a remote device's address.
    """
    from ._address import parse
    from .adb import AdbTransport
    from .remote import RemoteDevice
    from .ssh import SshTransport

    address = parse(url)
    return RemoteDevice(SshTransport(address) if address.scheme == "ssh" else AdbTransport(address))

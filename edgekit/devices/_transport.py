"""What ssh and adb have in common, as far as the rest of edgekit cares: a way to run a shell line over there."""

from __future__ import annotations

from typing import Protocol

from ..errors import EngineError


class Transport(Protocol):
    """A way to a device."""

    url: str
    python: str | None  # the interpreter that the user named
    unverified: str | None  # None: tested on a real connection; else what was not

    def argv(self, script: str) -> list[str]:
        """The host's command that runs the shell text ``script`` there, with its standard streams passed through."""
        ...

    def failure(self, code: int, stderr: str) -> EngineError | None:
        """What the transport itself says went wrong, or None where it was the remote command that ended so."""
        ...

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        ...

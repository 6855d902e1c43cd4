"""An Android device over adb. Tested with a stand-in for ``adb``, not on a phone: `AdbTransport.unverified` says so."""

from __future__ import annotations

from ..errors import EngineError
from ._address import Address

# What adb says → what to tell. The first that matches counts.
_FAILURES = (
    ("unauthorized", "it has not authorized this computer", "Unlock it and accept the question about USB debugging."),
    ("not found", "adb knows no device of that serial", "See: adb devices"),
    ("offline", "it is offline", "Plug it in again, or: adb reconnect"),
    ("no devices", "no device is attached", "See: adb devices"),
    ("closed", "the connection was lost", "Did it reboot? Try again when it is back."),
    ("cannot connect to daemon", "adb's server does not start", "Try: adb start-server"),
)


class AdbTransport:
    """adb to one device.

    Android brings no Python: install one that adb's shell can run, and name it with ``?python=PATH``. Termux's own
    files are closed to adb's shell; its sshd is the easier way there (``adb forward tcp:8022 tcp:8022``, then
    ``ssh://127.0.0.1:8022``).
    """

    unverified: str | None = "adb devices were tested with a stand-in for adb only, not on a phone"

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self.python = address.python
        self._serial = address.host

    def argv(self, script: str) -> list[str]:
        """See `_transport.Transport.argv`. Without -T a terminal would change the bytes on their way (Android 7+)."""
        return ["adb", "-s", self._serial, "shell", "-T", script]

    def failure(self, code: int, stderr: str) -> EngineError | None:
        """Sort what adb itself said; it marks its own lines with ``adb:`` or ``error:``."""
        said = [line.strip() for line in stderr.splitlines() if line.startswith(("adb:", "error:", "* "))]
        if not said:
            return None
        for word, what, fix in _FAILURES:
            if any(word in line for line in said):
                return EngineError(f"device '{self.url}': {what}", details=said[-3:], fix=fix)
        return EngineError(
            f"device '{self.url}': adb failed", details=said[-3:], fix=f"Try: adb -s {self._serial} shell"
        )

    def close(self) -> None:
        """Nothing to end: adb's server is not ours."""

"""What ``--device URL`` may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ..errors import UsageError

_ALLOWED = "Allowed: local, browser[:PATH], ssh://[user@]host[:port], adb://serial; the last two take ?python=PATH."
# No part may begin with a dash: ssh and adb would take it for an option.
_SSH = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._\\-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])"
    r"(?::(?P<port>\d{1,5}))?/?"
)
_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")
_PATH = re.compile(r"[A-Za-z0-9_~/.][A-Za-z0-9_/.+ -]*")


@dataclass(frozen=True, slots=True)
class Address:
    """A remote device's URL, taken apart."""

    url: str
    scheme: str  # "ssh" or "adb"
    host: str  # or the serial
    user: str | None = None
    port: int | None = None
    python: str | None = None  # the interpreter there; None: looked for


def parse(url: str) -> Address:
    """Take ``ssh://[user@]host[:port]`` or ``adb://serial`` apart; ``?python=PATH`` names the interpreter there.

    Raises:
        UsageError: not a device's address.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("ssh", "adb"):
        raise UsageError(f"'{url}' is not a device", fix=_ALLOWED)
    place, _, query = rest.partition("?")
    python = _python(url, query)
    if scheme == "adb":
        if not _SERIAL.fullmatch(place):
            raise UsageError(f"'{url}' is not a device: '{place}' is not a serial", fix="See: adb devices")
        return Address(url, scheme, place, python=python)
    if ":" in place.rpartition("@")[0]:
        raise UsageError(
            "an ssh:// address must not hold a password: every user of this machine could read it in the process list",
            fix="Use a key: ssh-copy-id USER@HOST",
        )
    match = _SSH.fullmatch(place)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise UsageError(f"'{url}' is not a device: '{place}' is not [user@]host[:port]", fix=_ALLOWED)
    return Address(url, scheme, match["host"].strip("[]"), match["user"], port, python)


def _python(url: str, query: str) -> str | None:
    if not query:
        return None
    values = dict(parse_qsl(query, keep_blank_values=True))
    if set(values) != {"python"}:
        raise UsageError(f"'{url}' is not a device: '?{query}' is not known", fix=_ALLOWED)
    if not _PATH.fullmatch(values["python"]):
        raise UsageError(
            f"'{url}': python='{values['python']}' is not a path", fix="Name the interpreter on the device."
        )
    return values["python"]

from __future__ import annotations

import pytest

from edgekit.devices._address import Address, parse
from edgekit.errors import UsageError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://pi", Address("ssh://pi", "ssh", "pi")),
        ("ssh://Pi@10.0.0.7:2222", Address("ssh://Pi@10.0.0.7:2222", "ssh", "10.0.0.7", "Pi", 2222)),
        ("ssh://MyAlias/", Address("ssh://MyAlias/", "ssh", "MyAlias")),
        ("ssh://me@[fe80::1%eth0]:22", Address("ssh://me@[fe80::1%eth0]:22", "ssh", "fe80::1%eth0", "me", 22)),
        ("adb://emulator-5554", Address("adb://emulator-5554", "adb", "emulator-5554")),
        ("adb://192.168.1.5:5555", Address("adb://192.168.1.5:5555", "adb", "192.168.1.5:5555")),
        (
            "ssh://a?python=~/v/bin/python",
            Address("ssh://a?python=~/v/bin/python", "ssh", "a", python="~/v/bin/python"),
        ),
    ],
)
def test_addresses(url: str, expected: Address) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "'' is not a device. Allowed: local, browser[:PATH], ssh://"),
        ("ssh:/pi", "'ssh:/pi' is not a device"),
        ("ssh://", "'' is not [user@]host[:port]"),
        ("ssh://-oProxyCommand=x", "'-oProxyCommand=x' is not [user@]host[:port]"),
        ("ssh://-l@host", "is not [user@]host[:port]"),
        ("ssh://host;reboot", "is not [user@]host[:port]"),
        ("ssh://host:0", "is not [user@]host[:port]"),
        ("ssh://host:70000", "is not [user@]host[:port]"),
        ("ssh://host/home", "is not [user@]host[:port]"),
        ("ssh://me:secret@host", "must not hold a password"),
        ("ssh://host?pyhton=x", "'?pyhton=x' is not known"),
        ("ssh://host?python=a;b", "python='a;b' is not a path"),
        ("adb://", "'' is not a serial. See: adb devices"),
        ("adb://-s", "'-s' is not a serial"),
    ],
)
def test_what_is_no_address(url: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)

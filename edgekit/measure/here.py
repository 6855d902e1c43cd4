"""This machine and what a container leaves of it, in one table."""

from __future__ import annotations

from typing import Any

from . import machine, quota


def describe() -> dict[str, Any]:
    """`machine.describe`, and ``cpu_quota``: seconds of CPU time a second where a container limits that, else None."""
    return {**machine.describe(), "cpu_quota": quota.cpus()}

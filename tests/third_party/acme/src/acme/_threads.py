"""A helper beside the adapter, which goes into the bundle with it."""

from __future__ import annotations

from edgekit import contracts


def checked(threads: int) -> int:
    """The Acme engine has one thread, and says so.

    Raises:
        ValueError: more were asked for.
    """
    assert contracts.Artifact  # where edgekit is not installed, the bundle's own
    if threads not in (0, 1):
        raise ValueError(f"threads must be 0 or 1, got {threads}")
    return 1

"""Cleans up after a process that was killed. A script of its own, started by `tempdir`; standard library only.

Its standard input is a pipe from that process, which ends when the process does, however it dies. Commands, one JSON
array a line: ``["watch", folder]``, ``["forget", folder]``, ``["moved", backup, place]``, ``["kept", backup]``.
At the end a backup whose place is still empty goes back there, then every folder still watched is deleted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

_PATIENCE_S = 5.0  # children of the dead process may still be writing


def main() -> None:
    """Listen until the end, then clean up."""
    folders: set[str] = set()
    backups: dict[str, str] = {}
    for line in sys.stdin.buffer:
        command, *paths = json.loads(line)
        if command == "watch":
            folders.add(paths[0])
        elif command == "forget":
            folders.discard(paths[0])
        elif command == "moved":
            backups[paths[0]] = paths[1]
        elif command == "kept":
            backups.pop(paths[0], None)
    for backup, place in backups.items():
        if os.path.lexists(backup) and not os.path.lexists(place):
            Path(backup).rename(place)
    for folder in folders:
        _delete(folder)


def _delete(folder: str) -> None:
    import shutil

    end = time.monotonic() + _PATIENCE_S
    while os.path.lexists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main()

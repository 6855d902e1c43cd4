"""A file's path in the form that engines written in C++ take."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import EngineError


def engine_path(path: Path) -> str:
    """``path`` as text of UTF-8, whatever the locale says of names (an ASCII one makes half characters of them).

    Raises:
        EngineError: its bytes are not UTF-8: bindings made with pybind11 cannot hand it on.
    """
    name = os.fsencode(path)
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EngineError(
            f"the path '{name.decode('utf-8', 'backslashreplace')}' is not UTF-8, and this engine opens no other",
            fix="Rename the folder, or copy the bundle to another.",
        ) from error

"""The folder or zip that an app embeds: written all or nothing, checked whole when it is read.

What reads a bundle ships inside it (`manifest`, `read`). What writes and packs one (`write`, `archive`, and `run`,
which becomes its ``run.py``) stays on the host, imported when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .manifest import EngineUse, FileRecord, Manifest, Substitute
from .open import open_bundle
from .read import Bundle, Model, SelfTest

if TYPE_CHECKING:
    from .archive import pack as pack
    from .archive import unpack as unpack
    from .write import write_bundle as write_bundle

__all__ = [
    "Bundle",
    "EngineUse",
    "FileRecord",
    "Manifest",
    "Model",
    "SelfTest",
    "Substitute",
    "open_bundle",
    "pack",
    "unpack",
    "write_bundle",
]

_HOST = {"pack": ".archive", "unpack": ".archive", "write_bundle": ".write"}


def __getattr__(name: str) -> object:
    """Import what only the host has (PEP 562)."""
    if name not in _HOST:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOST[name], __name__), name)

"""The folder or zip that an app embeds: written all or nothing, checked whole when it is read."""

from .archive import pack, unpack
from .manifest import EngineUse, FileRecord, Manifest
from .read import Bundle, Model, SelfTest, open_bundle
from .write import write_bundle

__all__ = [
    "Bundle",
    "EngineUse",
    "FileRecord",
    "Manifest",
    "Model",
    "SelfTest",
    "open_bundle",
    "pack",
    "unpack",
    "write_bundle",
]

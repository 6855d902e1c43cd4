"""A folder or a packed bundle, opened alike."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .read import Bundle, open_folder


def open_bundle(path: str | Path, *, verify: bool = True) -> Bundle:
    """Open a bundle's folder or its packed ``.edgekit.zip``.

    Args:
        path: the folder or the zip file. A zip is unpacked into a temporary folder until `Bundle.close`.
        verify: check the size and hash of every file, and that there is no other one. Without it only the manifest is
            read, which is instant for a large model.

    Raises:
        BundleError: not a bundle, or damaged, or unsafe; names the file.
    """
    named = Path(path)
    if not named.is_file():
        return open_folder(named, verify=verify)
    from .archive import unpacked

    with contextlib.ExitStack() as unless_opened:
        cleanup = unless_opened.enter_context(contextlib.ExitStack())
        folder = cleanup.enter_context(unpacked(named))
        bundle = open_folder(folder, verify=verify, path=named, cleanup=cleanup)
        unless_opened.pop_all()  # what is unpacked lives as long as the bundle is open
        return bundle

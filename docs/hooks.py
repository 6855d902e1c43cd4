"""MkDocs hook: the pages that are written from the code while the site is built, so that none of them can be old."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

DOCS = Path(__file__).resolve().parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(DOCS))
    try:
        import from_code
    finally:
        sys.path.remove(str(DOCS))
    for name, render in from_code.PAGES.items():
        files.append(File.generated(config, name, content=render()))
    return files

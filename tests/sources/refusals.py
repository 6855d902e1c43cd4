"""What is said of a source that cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import EdgekitError, SourceError
from edgekit.sources.load import load_source


def refusal(spec: object, kind: type[EdgekitError] = SourceError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        load_source(spec, **options)  # type: ignore[arg-type]
    return str(caught.value)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)

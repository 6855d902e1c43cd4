"""Why torch could not export a model, in one message that a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError

if TYPE_CHECKING:
    import torch

    from edgekit.source import Source


def explain(
    source: Source, program: torch.export.ExportedProgram | None, error: Exception, report: Path
) -> SourceError:
    """The error to raise for torch's ``error``; the full report goes to ``report``."""
    return SourceError(f"{source.spec} cannot be exported: {error}")

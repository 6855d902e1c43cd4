"""Where a candidate goes wrong: the first layer that diverges, in words."""

from __future__ import annotations

from .assess import Assessed
from .candidates import Job
from .divergence import diverging_layer
from .errors import EdgekitError

SAMPLES = 8
"""Samples to look for one that misses: not every sample need overflow."""


def divergence_lines(assessed: Assessed, job: Job) -> list[str]:
    """Lines that name the first diverging layer of a candidate that missed its parity, with its PyTorch module.

    Where the walk itself is impossible (an engine refuses the graph with its layers exposed), the line says that.
    """
    built, candidate = assessed.built, assessed.candidate
    assert built is not None
    samples = job.expected.first(SAMPLES)
    try:
        for sample in samples:
            found = diverging_layer(built, job, sample.feeds)
            if found is not None:
                return [f"{candidate.name}, {found}"]
    except EdgekitError as error:
        return [f"{candidate.name}: the first layer to diverge cannot be found: {error.what}"]
    return [f"{candidate.name}: no layer diverges on the first {len(samples)} samples"]

"""Where a candidate goes wrong: the first layer that diverges, in words."""

from __future__ import annotations

from . import plugins
from .assess import Assessed
from .candidates import Job
from .contracts import options_from
from .errors import EdgekitError
from .tuning import choices
from .verify import first_divergence

SAMPLES = 8
"""Samples to look for one that misses: not every sample need overflow."""


def divergence_lines(assessed: Assessed, job: Job) -> list[str]:
    """Lines that name the first diverging layer of a candidate that missed its parity, with its PyTorch module.

    Where the walk itself is impossible (an engine refuses the graph with its layers exposed), the line says that.
    """
    built, candidate = assessed.built, assessed.candidate
    assert built is not None
    runtime = plugins.load("runtimes", candidate.runtime)()
    table = choices(candidate, None, (1,), allow_fallback=job.allow_fallback).first
    options = options_from(runtime.Options, table, f"session options of candidate '{candidate.name}'")
    artifact = built.plain or built.artifact  # one that was compiled ahead of time shows no layers
    tolerance = job.accuracy.tolerance(candidate.precision)
    samples = job.expected.first(SAMPLES)
    try:
        for sample in samples:
            found = first_divergence(job.source, job.graph, artifact, runtime, options, sample.feeds, tolerance)
            if found is not None:
                return [f"{candidate.name}, {found}"]
    except EdgekitError as error:
        return [f"{candidate.name}: the first layer to diverge cannot be found: {error.what}"]
    return [f"{candidate.name}: no layer diverges on the first {len(samples)} samples"]

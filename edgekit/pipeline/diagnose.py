"""Where a candidate that was built here goes wrong: the first layer that diverges, in the engine that checked it."""

from __future__ import annotations

from dataclasses import replace

from .. import plugins
from ..accuracy.divergence import first_divergence
from ..accuracy.walk import Divergence
from ..contracts import Feeds, Outputs, options_from
from ..errors import EdgekitError
from .check import checked_form
from .job import Built
from .tuning import choices

SAMPLES = 8
"""Samples to look for one that misses: not every sample need overflow."""


def diverging_layer(built: Built, feeds: Feeds, expected: Outputs) -> Divergence | None:
    """The first layer of a candidate that is farther from PyTorch than its precision allows, on one sample; or None.

    Raises:
        EngineError: the engine is not on this machine, or refuses the graph with its layers exposed.
    """
    candidate, variant, job = built.candidate, built.variant, built.variant.job
    # One that was compiled ahead of time shows no layers.
    shown = replace(built, artifact=built.plain or built.artifact)
    table = choices(built.toolchain, None, (1,), allow_fallback=job.allow_fallback).first
    artifact, name, table_there = checked_form(shown, table)
    runtime = plugins.load("runtimes", name)()
    options = options_from(runtime.Options, table_there, f"session options of candidate '{candidate.name}'")
    return first_divergence(
        variant.source, variant.graph, artifact, runtime, options, feeds, built.tolerance, expected, job.ignore
    )


def divergence_lines(built: Built) -> list[str]:
    """Lines that name the first diverging layer of a candidate that missed its parity, with its PyTorch module.

    Where the walk itself is impossible (an engine refuses the graph with its layers exposed), the line says that.
    """
    candidate = built.candidate
    samples = built.variant.job.expected.first(SAMPLES)
    try:
        for sample in samples:
            found = diverging_layer(built, sample.feeds, sample.expected)
            if found is not None:
                return [f"{candidate.name}, {found}"]
    except EdgekitError as error:
        return [f"{candidate.name}: the first layer to diverge cannot be found: {error.what}"]
    return [f"{candidate.name}: no layer diverges on the first {len(samples)} samples"]

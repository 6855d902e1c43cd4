"""Where a candidate that was built here goes wrong: the first layer that diverges, in the engine that checked it."""

from __future__ import annotations

from dataclasses import replace

from . import plugins
from .candidates import Built, Job, checker
from .contracts import Feeds, options_from
from .tuning import choices
from .verify import Divergence, first_divergence


def diverging_layer(built: Built, job: Job, feeds: Feeds) -> Divergence | None:
    """The first layer of a candidate that is farther from PyTorch than its precision allows, on one sample; or None.

    Raises:
        EngineError: the engine is not on this machine, or refuses the graph with its layers exposed.
    """
    candidate = built.candidate
    shown = replace(
        built, artifact=built.plain or built.artifact
    )  # one that was compiled ahead of time shows no layers
    table = choices(candidate, None, (1,), allow_fallback=job.allow_fallback).first
    artifact, name, table_there = checker(shown, table)
    runtime = plugins.load("runtimes", name)()
    options = options_from(runtime.Options, table_there, f"session options of candidate '{candidate.name}'")
    tolerance = job.accuracy.tolerance(candidate.precision)
    return first_divergence(job.source, job.graph, artifact, runtime, options, feeds, tolerance)

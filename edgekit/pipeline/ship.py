"""The pick as a bundle that passed its self-test: one that fails it is out, and the next best takes its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ..errors import EdgekitError, OutputError, TakenError
from .assess import Assessed
from .failure import is_everybodys, not_shipped
from .job import Job
from .pick import Decision, Wish, decide
from .race import Contender
from .stages import REPORTS

Packed: TypeAlias = tuple[Path, str, TakenError | None]
"""What `pack.pack_bundle` returns."""


def ship(
    assessed: Sequence[Assessed],
    job: Job,
    wish: Wish,
    max_time_s: float,
    pack: Callable[[Assessed, list[Contender]], Packed],
) -> tuple[Decision, Packed]:
    """Measure, pick and pack, down to the last candidate that may be picked.

    Args:
        assessed: all candidates; at least one may be picked.
        job: the export.
        wish: what the user wants.
        max_time_s: seconds for measuring, for each pick anew.
        pack: (pick, finalists) → writes the pick's bundle and runs its self-test.

    Returns:
        The decision for what was packed, in which those that could not be are rows with their failures; and what
        ``pack`` returned.

    Raises:
        EdgekitError: no candidate is left: the failure of the first pick, with a line for each of the others.
        OutputError: the bundle cannot be written, whatever is in it.
    """
    standing, failed, names = list(assessed), list[EdgekitError](), list[str]()
    while True:
        with job.progress.stage("measure"):
            decision = decide(standing, job, wish, max_time_s)
        picked = decision.picked
        try:
            with job.progress.stage("bundle and self-test"):
                packed = pack(picked, decision.finalists)
            aside = [f"{', '.join(names)} failed the self-test of its bundle"] if names else []
            return replace(decision, reason="; ".join([decision.reason, *aside])), packed
        except OutputError:  # the disk's, and so every candidate's
            raise
        except Exception as error:
            if is_everybodys(error):
                raise
            told = not_shipped(error, f"{_name(picked)}-{picked.candidate.name}", REPORTS)
            failed.append(error if isinstance(error, EdgekitError) else told)
            names.append(picked.candidate.name)
        standing = [
            replace(item, error=told, note=None) if item.candidate is picked.candidate else item
            for item in decision.standing
        ]
        for item in standing:
            for contender in item.contenders:
                contender.reset()
        if not any(item.free for item in standing):
            raise _none_left(failed[0], standing) from failed[0]


def _name(item: Assessed) -> str:
    assert item.built is not None, "what was picked was built"
    return item.built.variant.source.name


def _none_left(first: EdgekitError, standing: Sequence[Assessed]) -> EdgekitError:
    """``first``, which the user would have seen alone, with what became of the others."""
    if len(standing) == 1:
        return first
    lines = [f"{item.candidate.name}: {item.withheld or item.why_not}" for item in standing]
    return type(first)(first.what, details=[*first.details, *lines], fix=first.fix)

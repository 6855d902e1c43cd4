"""What a person reads of a model's memory: its pairs, and how its stream kept beside the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import units
from ..results import RolloutReport

_SHOWN = 3


def state_line(source: Mapping[str, Any]) -> str:
    """``stateN → state (found by its name; not so: --state none), h, c (buffers of the model)``; "": no memory."""
    pairs: Sequence[Mapping[str, Any]] = source.get("state") or ()
    found = set(source.get("state_found") or ())
    groups = {
        "stated": [item for item in pairs if not item["buffer"] and item["input"] not in found],
        "found by name, shape and order; not so: --state none": [item for item in pairs if item["input"] in found],
        "buffers that forward overwrites": [item for item in pairs if item["buffer"]],
    }
    told = []
    for why, items in groups.items():
        if items:
            names = [item["input"] if item["buffer"] else f"{item['output']} → {item['input']}" for item in items]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            told.append(f"{', '.join(names[:_SHOWN])}{more} ({why})")
    return ", ".join(told)


def rollout_line(rollout: RolloutReport) -> str:
    """``64 steps, …: 41 dB … in the first step, 38 dB in the last, 33 dB in the worst (step 17); frames: …``."""
    first, last, worst = (units.decibels(value) for value in (rollout.first_db, rollout.last_db, rollout.worst_db))
    kept = {True: "kept in the engine's memory", False: "fed by the caller", None: "of its own"}[rollout.state_bound]
    return (
        f"{rollout.steps} steps, state {kept}: {first} to the reference's own stream in the first step, {last} in the "
        f"last, {worst} in the worst (step {rollout.worst_step}); frames: {rollout.frames}"
    )

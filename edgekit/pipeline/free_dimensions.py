"""Each free dimension at a second size, in the candidate's own engine: a pass or an exporter may have frozen it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..accuracy.resize import other_sizes, resized
from ..contracts import Feeds, Outputs
from ..errors import EdgekitError, EngineError, ParityError
from ..measure.ignore import IgnoreWhere, blank
from ..measure.parity import ParityMeter

if TYPE_CHECKING:
    from ..accuracy.reference import Reference
    from ..measure.client import Worker
    from ..sources.source import Source

LIMIT = 0.03
"""Largest rel_l2 of a floating-point form that is not another answer altogether."""
COARSE_LIMIT = 0.3
"""The same of all others. A frozen dimension shows as a refusal, as another shape, or as other numbers; the sample is
made of another one by repeating its values, and no integer form was calibrated on the like of it."""
NOTHING = 1e-6
"""A difference of so little is none, see `accuracy.agreement.NOTHING`."""


@dataclass(frozen=True, slots=True)
class Resized:
    """A sample at another size of one free dimension, with the reference's answer."""

    dim: str
    size: int  # as in the samples
    other: int
    feeds: Feeds
    expected: Outputs


def at_second_sizes(
    source: Source, reference: Reference, feeds: Feeds, ranges: Mapping[str, tuple[int, int, int]]
) -> tuple[Resized, ...]:
    """For each free dimension ``feeds`` at another size that the reference answers; none where it answers at no other.

    Args:
        source: names the free dimensions.
        reference: answers.
        feeds: a whole sample.
        ranges: free dimension → smallest, usual, largest size, of those that engines plan for.
    """
    found = []
    sizes = {
        dim: size
        for spec in source.inputs
        for dim, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    for dim, size in sizes.items():
        low, _, high = ranges.get(dim, (1, 0, 2**31))
        for other in other_sizes(size):
            if not low <= other <= high or other == size:
                continue
            at = resized(feeds, source.inputs, {dim: other})
            try:
                answer = reference.run(at)
            except EdgekitError:
                continue
            if _comparable(answer):
                found.append(Resized(dim, size, other, at, answer))
                break
    return tuple(found)


def _comparable(outputs: Outputs) -> bool:
    arrays = [value for value in outputs.values() if isinstance(value, np.ndarray)]
    return all(array.size and (array.dtype.kind != "f" or bool(np.isfinite(array).all())) for array in arrays)


def refuse_frozen(worker: Worker, samples: Sequence[Resized], precision: str, ignore: Sequence[IgnoreWhere]) -> None:
    """Run each in the open engine.

    Raises:
        ParityError: a dimension works at one size alone; names it.
    """
    limit = LIMIT if precision in ("fp32", "fp16", "bf16") else COARSE_LIMIT
    for item in samples:
        try:
            got = blank(ignore, item.feeds, worker.run(item.feeds))
        except EngineError as error:
            raise _frozen(item, error.what) from error
        meter = ParityMeter()
        meter.add(item.expected, got)
        parity = meter.result()
        missed = [
            row.failure or f"rel_l2 {row.rel_l2:.3g} (output '{row.name}')"
            for row in parity.outputs.values()
            if row.failure or not (row.rel_l2 <= limit or row.max_abs <= NOTHING)
        ]
        if missed:
            raise _frozen(item, missed[0])


def _frozen(item: Resized, why: str) -> ParityError:
    return ParityError(
        f"the free dimension '{item.dim}' is right at {item.size} and wrong at {item.other}: {why}",
        fix="A pass or an exporter froze it. Fix it with --input, or leave this candidate out.",
    )

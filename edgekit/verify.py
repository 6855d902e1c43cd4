"""Parity with the reference: the outputs in the target's own engine, then layer by layer to the first that diverges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .contracts import Feeds, Outputs, Session, Tolerance
from .measure.parity import Parity, ParityMeter


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an engine computes what the reference computes."""

    passed: bool
    parity: Parity
    misses: tuple[str, ...]  # why not, one line each: "sqnr_db 12.3 < 20 (output 'logits')"


def verify(session: Session, reference_outputs: Iterable[tuple[Feeds, Outputs]], tolerance: Tolerance) -> Verdict:
    """Run every sample in the engine and compare with the reference; a pass needs at least one sample.

    Raises:
        EngineError: the engine refuses or fails on a sample.
    """
    meter = ParityMeter()
    for feeds, expected in reference_outputs:
        meter.add(expected, session.run(feeds))
    parity = meter.result()
    misses = tuple(parity.misses(tolerance))
    return Verdict(not misses, parity, misses)

"""Which candidates may be picked at all: nothing that loses accuracy goes out without evidence.

Two rules, each with the reason that the user reads:

- An integer form is *withheld* where nobody gave real data: what it loses depends on them, and example inputs show
  nothing of it. It is built, timed and listed all the same, so that the user sees what data would bring; where it takes
  fixed ranges, these come from the example inputs. A 16-bit float is withheld where even on those it is further from
  the reference than `FLOAT_DB`.
- A coarser form of a graph is *rejected* where float32 of the same graph missed in the same engine. Its looser bound
  would only hide what is wrong there: with the reference, the export or the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import units
from ..accuracy.fault import fault_of
from ..analysis.observed import FEW_SAMPLES
from ..errors import AccuracyError, ParityError
from ..results import ParityReport
from ..target.fineness import is_full, needs_evidence

if TYPE_CHECKING:
    from .assess import Assessed

FLOAT_DB = 40.0
"""What a 16-bit float must reach in its worst part without real data. One rounding to bfloat16 makes an error of at
most 2⁻⁹ of each value: 20·log10(2⁹·√3) = 59 dB. 40 dB leaves room for those of a hundred layers in a row."""
UNCHECKED = "not checked on real data: --data"
"""The words of the row and, where it ships all the same, of the manifest."""


def worst_db(parity: ParityReport) -> float:
    """The signal-to-noise ratio in dB of what is furthest from the reference: the worst part, or a whole output."""
    return min(parity.part_db, parity.sqnr_db)


def withhold(assessed: Sequence[Assessed], *, real: bool, unverified: bool) -> list[Assessed]:
    """The candidates, with the reason (``withheld``) on each that must not be picked for want of evidence.

    Where the user ships them all the same the reason stands as ``unverified``: it goes into the bundle.

    Args:
        assessed: all candidates.
        real: whether the samples that they were checked on are real data, which a user gave.
        unverified: the user ships them all the same.
    """
    if real:
        return list(assessed)
    wanting = [(item, _wanting(item) if item.passed else None) for item in assessed]
    return [replace(item, unverified=why) if unverified else replace(item, withheld=why) for item, why in wanting]


def _wanting(item: Assessed) -> str | None:
    precision = item.candidate.precision
    if needs_evidence(precision):
        return f"ranges of {_example(item)} alone, {UNCHECKED}" if item.toolchain.needs_calibration else UNCHECKED
    if is_full(precision) or item.check is None or worst_db(item.check.parity) >= FLOAT_DB:
        return None
    reached = units.decibels(worst_db(item.check.parity))
    return f"{reached} on inputs that are no data, and without data {FLOAT_DB:g} dB are needed: --data"


def _example(item: Assessed) -> str:
    assert item.built is not None, "what passed was built"
    return units.example_input(item.built.variant.source.made_up)


def thin_evidence(picked: Assessed) -> list[str]:
    """A line where an integer form was checked on too few samples to say much, or on no data; else nothing."""
    if picked.unverified:
        return [f"{picked.candidate.name} ships unverified: {picked.unverified}"]
    samples = picked.check.parity.samples if picked.check is not None else 0
    if not needs_evidence(picked.candidate.precision) or samples >= FEW_SAMPLES:
        return []
    return [f"{picked.candidate.name} was checked on {samples} sample{'s' if samples != 1 else ''} only: thin evidence"]


def refuse_unevidenced(assessed: Sequence[Assessed]) -> None:
    """Stop where everything that passed is withheld.

    Raises:
        AccuracyError: names each candidate with its reason, and what would let it ship.
    """
    left = [item for item in assessed if item.passed]
    if not left or any(item.withheld is None for item in left):
        return
    raise AccuracyError(
        "nothing can be shipped without real data",
        details=[f"{item.candidate.name}: {item.withheld or item.why_not}" for item in assessed],
        fix="Give samples with --data, or ship it unchecked all the same: --unverified",
    )


def reject_beside_wrong_fp32(assessed: Sequence[Assessed]) -> list[Assessed]:
    """The candidates; out are coarser forms in an engine in which every float32 form of the graph missed its accuracy.

    Where an engine has no float32 candidate, or that was not checked, nothing is known and nothing is said.
    """
    found, known = [], dict[str, str]()
    for item in assessed:
        plain = [other for other in assessed if _is_same_engine(other, item) and is_full(other.candidate.precision)]
        wrong = [other for other in plain if other.check is not None and not other.check.parity.passed]
        if item.passed and wrong and len(wrong) == len(plain) and not is_full(item.candidate.precision):
            why = f"{wrong[0].candidate.name}, the same graph in the same engine, missed: {_fault(wrong[0], known)}"
            item = replace(item, error=ParityError(why))
        found.append(item)
    return found


def _fault(wrong: Assessed, known: dict[str, str]) -> str:
    """What is at fault; ``known``: float32 candidate → what was found."""
    assert wrong.built is not None, "what was checked was built"
    if wrong.candidate.name not in known:
        variant = wrong.built.variant
        from_onnx, job = variant.source.kind == "onnx", variant.job
        known[wrong.candidate.name] = fault_of(variant.graph, job.expected, from_onnx, job.workdir)
    return known[wrong.candidate.name]


def _is_same_engine(one: Assessed, other: Assessed) -> bool:
    mine, theirs = one.candidate, other.candidate
    return (mine.runtime, mine.device, one.toolchain.takes_program) == (
        theirs.runtime,
        theirs.device,
        other.toolchain.takes_program,
    )

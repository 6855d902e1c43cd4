"""What to do where no candidate is accurate enough: computed from the bound that the closest one missed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..results import ParityReport
from ..target.fineness import is_full, needs_evidence

if TYPE_CHECKING:
    from ..analysis.observed import Observed
    from .assess import Assessed

FAULT_DB = 20.0
"""A float32 form that is further from the reference than this computes something else: rounding does not go so far."""


def advice(closest: Assessed, observed: Observed | None) -> str:
    """What lets the candidate that came closest pass; more than one way where there is more."""
    assert closest.check is not None, "it was checked"
    parity, metric, precision = closest.check.parity, closest.check.metric, closest.candidate.precision
    ways = _better_data(observed) if needs_evidence(precision) else []
    if parity.passed and metric is not None:
        ways.append(f"Allow the drop of '{closest.candidate.name}': --max-drop {_up(metric.drop)}")
        return _either(ways)
    if is_full(precision) and parity.sqnr_db < FAULT_DB:
        ways.append("This is more than rounding: mend what is named first, for a loosened bound would hide it")
        return _either(ways)
    loosened = _loosened(parity)
    if loosened is None:
        ways.append("No bound excuses this: mend what is named first")
    else:
        ways.append(f"Accept what '{closest.candidate.name}' reaches: --tolerance {precision}.{loosened}")
    return _either(ways)


def _better_data(observed: Observed | None) -> list[str]:
    if observed is None:
        return []
    if observed.outliers and observed.source is not None:
        return [f"Mend or leave out sample {observed.source.sample} of the calibration data"]
    if observed.warnings:
        return [f"Give more or other calibration data ({observed.warnings[0]})"]
    return []


def _loosened(parity: ParityReport) -> str | None:
    """``sqnr_db=17``: the first bound that was missed, as far as what was reached; None: no number was missed."""
    bound = parity.tolerance
    if bound.sqnr_db is not None and parity.sqnr_db < bound.sqnr_db:
        return f"sqnr_db={math.floor(parity.sqnr_db)}" if parity.sqnr_db >= 1 else None
    if bound.part_db is not None and parity.part_db < bound.part_db:
        return f"part_db={math.floor(parity.part_db)}" if parity.part_db >= 1 else None
    if bound.rel_l2 is not None and parity.rel_l2 > bound.rel_l2:
        return f"rel_l2={_up(parity.rel_l2)}" if math.isfinite(parity.rel_l2) else None
    if bound.max_abs is not None and parity.max_abs > bound.max_abs:
        return f"max_abs={_up(parity.max_abs)}" if math.isfinite(parity.max_abs) else None
    return None


def _up(value: float) -> str:
    """Two digits, rounded away from zero, so that the value itself passes."""
    if value <= 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.2g}"


def _either(ways: list[str]) -> str:
    return ". Or: ".join(ways)

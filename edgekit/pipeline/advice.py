"""What to do where no candidate is accurate enough: computed from the bounds that the closest one missed."""

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


def advice(closest: Assessed, observed: Observed | None, real: bool = True) -> str:
    """What lets the candidate that came closest pass; more than one way where there is more.

    Args:
        closest: the candidate; was checked.
        observed: what the float graph made of the calibration data; None: not known.
        real: whether somebody gave data.
    """
    assert closest.check is not None, "it was checked"
    parity, metric, precision = closest.check.parity, closest.check.metric, closest.candidate.precision
    ways = _better_data(observed, real) if needs_evidence(precision) else []
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
        bounds = " ".join(f"--tolerance {precision}.{bound}" for bound in loosened)
        ways.append(f"Accept what '{closest.candidate.name}' reaches: {bounds}")
    return _either(ways)


def _better_data(observed: Observed | None, real: bool) -> list[str]:
    if not real:
        return ["Give samples with --data, to calibrate and to check on"]
    if observed is None:
        return []
    if observed.outliers and observed.source is not None:
        return [f"Mend or leave out sample {observed.source.sample} of the calibration data"]
    if observed.warnings:
        return [f"Give more or other calibration data ({observed.warnings[0]})"]
    return []


def _loosened(parity: ParityReport) -> list[str] | None:
    """``sqnr_db=17`` for each bound that was missed, as far as what was reached; None: one that no number excuses."""
    bound, found = parity.tolerance, list[str]()
    for name, reached in (("sqnr_db", parity.sqnr_db), ("part_db", parity.part_db)):
        least = getattr(bound, name)
        if least is not None and reached < least:
            if reached < 1:  # no signal is left there
                return None
            found.append(f"{name}={math.floor(reached)}")
    for name, reached in (("rel_l2", parity.rel_l2), ("max_abs", parity.max_abs)):
        most = getattr(bound, name)
        if most is not None and reached > most:
            if not math.isfinite(reached):
                return None
            found.append(f"{name}={_up(reached)}")
    return found or None


def _up(value: float) -> str:
    """Two digits, rounded away from zero, so that the value itself passes."""
    if value <= 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.2g}"


def _either(ways: list[str]) -> str:
    return ". Or: ".join(ways)

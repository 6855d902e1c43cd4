"""The calibration data of an export: looked at before anything is built of them, and named where they are to blame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..analysis.observed import FEW_SAMPLES, Observed, observe
from ..errors import DataError, EngineError, ParityError

if TYPE_CHECKING:
    from ..target.toolchain import Toolchain
    from .assess import Assessed
    from .job import Variant

RUINOUS = 127.0
"""max ÷ p99.9 at which 8 bits leave one step of the range for 99.9 % of the values: no accuracy outlives that."""


def look_at_calibration(variant: Variant, offered: Iterable[Toolchain]) -> Observed | None:
    """What the float graph makes of the calibration data.

    None: nothing is calibrated, nobody gave data, or it does not run here.
    """
    data = variant.job.calibration
    if data is None or not variant.job.real or not any(toolchain.needs_calibration for toolchain in offered):
        return None
    try:
        return observe(variant.graph, data.feeds(), data.indices, variant.job.workdir)
    except EngineError:  # whoever needs the ranges will say so
        return None


def blame_calibration(
    assessed: Sequence[Assessed], observed: Observed | None, stand_in: str | None = None
) -> list[Assessed]:
    """The candidates; of those that calibration built and that missed, the reason names what in the data caused it.

    Args:
        assessed: all candidates.
        observed: what the float graph made of the data; None: not known.
        stand_in: what was calibrated on where nobody gave data; None: data.
    """
    return [_blamed(item, observed, stand_in) for item in assessed]


def _blamed(item: Assessed, observed: Observed | None, stand_in: str | None) -> Assessed:
    error = item.error
    if error is None or not item.toolchain.needs_calibration:
        return item
    if observed is not None and isinstance(error, DataError) and observed.not_finite is not None:
        bad = observed.not_finite
        what = f"calibration sample {bad.not_finite[0]} makes '{bad.tensor}' infinite or not a number"
        return replace(item, error=DataError(what, fix=error.fix))
    cause = f"its ranges are of {stand_in} alone: --data" if stand_in else None
    if observed is not None:
        cause = _cause(observed)
    if cause is None or item.check is None or item.check.miss is None or not isinstance(error, ParityError):
        return item
    return replace(item, error=ParityError(f"{error.what}; {cause}", details=error.details, fix=error.fix))


def _cause(observed: Observed) -> str | None:
    source = observed.source
    if source is not None and source.outlier >= RUINOUS:
        return f"an outlier in the calibration data takes the range: {source}"
    if observed.constant_inputs:
        only = observed.constant_inputs[0]
        return f"the calibration data say nothing: input '{only.tensor}' is {only.low:g} in every sample"
    if observed.samples < FEW_SAMPLES:
        return f"calibrated on {observed.samples} sample{'s' if observed.samples != 1 else ''} only"
    return None

"""What to do about a miss: from the bound that was missed, and from the calibration data."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.analysis.observed import Observed, TensorRange
from edgekit.contracts import Tolerance
from edgekit.errors import DataError, ParityError
from edgekit.pipeline.advice import advice
from edgekit.pipeline.assess import Assessed
from edgekit.pipeline.calibration_notes import blame_calibration
from edgekit.pipeline.job import Check
from edgekit.results import MetricReport, ParityReport

PLAIN = TensorRange("x", "", -1.0, 1.0, 0, 0.9, 1.0, 0.0)
WILD = TensorRange("x", "stem", -1.0, 1e6, 3, 0.9, 1.0, 0.0)
GOOD = Observed(64, (PLAIN,), frozenset({"x"}))
BAD = Observed(64, (WILD,), frozenset({"x"}))


def missed(precision: str, tolerance: Tolerance, calibrated: bool = True, **parity: float) -> Assessed:
    report = ParityReport(False, **{"max_abs": 0.5, "rel_l2": 0.1, "sqnr_db": 17.3, **parity}, samples=1,
                          tolerance=tolerance, reference="PyTorch", misses=("bound",))  # fmt: skip
    candidate = SimpleNamespace(name="it", precision=precision)
    toolchain: Any = SimpleNamespace(candidate=candidate, needs_calibration=calibrated)
    check = Check(report, None, 0.0)
    return Assessed(toolchain, SimpleNamespace(candidate=candidate), check, error=ParityError("parity: bound"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (missed("int8", Tolerance(sqnr_db=20.0)), "Accept what 'it' reaches: --tolerance int8.sqnr_db=17"),
        (
            missed("int8", Tolerance(sqnr_db=15.0, part_db=8.0), part_db=4.6),
            "Accept what 'it' reaches: --tolerance int8.part_db=4",
        ),
        (
            missed("int8", Tolerance(sqnr_db=20.0, part_db=8.0), part_db=4.6),
            "Accept what 'it' reaches: --tolerance int8.sqnr_db=17 --tolerance int8.part_db=4",
        ),
        (
            missed("int8", Tolerance(sqnr_db=20.0, part_db=8.0), part_db=-18.8),
            "No bound excuses this: mend what is named first",
        ),
        (missed("int8", Tolerance(sqnr_db=20.0), sqnr_db=-3.0), "No bound excuses this: mend what is named first"),
        (
            missed("fp32", Tolerance(rel_l2=1e-3), rel_l2=0.0123, sqnr_db=38.2),
            "Accept what 'it' reaches: --tolerance fp32.rel_l2=0.013",
        ),
        (
            missed("fp32", Tolerance(rel_l2=1e-3), rel_l2=0.9, sqnr_db=0.9),
            "This is more than rounding: mend what is named first, for a loosened bound would hide it",
        ),
        (
            missed("bf16", Tolerance(max_abs=0.1), max_abs=0.123),
            "Accept what 'it' reaches: --tolerance bf16.max_abs=0.13",
        ),
        (missed("fp16", Tolerance(sqnr_db=20.0), sqnr_db=-np.inf), "No bound excuses this: mend what is named first"),
    ],
)  # fmt: skip
def test_the_bound_that_was_missed_is_the_one_to_loosen(item: Assessed, text: str) -> None:
    assert advice(item, GOOD) == text


def test_a_metric_that_drops_too_far() -> None:
    item = missed("int8", Tolerance())
    assert item.check is not None
    parity = replace(item.check.parity, passed=True)
    metric = MetricReport("top1", 0.9, 0.8766, 0.0234, 0.01, 100)
    item = replace(item, check=Check(parity, metric, 0.0))
    assert advice(item, GOOD) == "Allow the drop of 'it': --max-drop 0.024"


def test_data_are_mended_before_a_bound_is_loosened() -> None:
    found = advice(missed("int8", Tolerance(sqnr_db=20.0)), BAD)
    assert found.startswith("Mend or leave out sample 3 of the calibration data. Or: Accept what 'it' reaches")
    assert "calibration" not in advice(missed("bf16", Tolerance(sqnr_db=20.0)), BAD)
    few = replace(GOOD, samples=2)
    assert advice(missed("int8", Tolerance(sqnr_db=20.0)), few).startswith(
        "Give more or other calibration data (thin evidence: 33 % of further samples lie beyond the range of 2). Or: "
    )


def test_a_rejection_names_what_in_the_data_caused_it() -> None:
    int8, plain = missed("int8", Tolerance()), missed("fp32", Tolerance(), calibrated=False)
    assert blame_calibration([int8, plain], GOOD) == blame_calibration([int8, plain], None) == [int8, plain]
    blamed, other = blame_calibration([int8, plain], BAD)
    assert other is plain
    assert blamed.why_not == (
        "parity: bound; an outlier in the calibration data takes the range: "
        "'x' (stem) reaches 1e+06 in sample 3, 99.9 % of its values 0.9"
    )
    zero = Observed(64, (replace(PLAIN, low=0.0, high=0.0),), frozenset({"x"}))
    assert "the calibration data say nothing: input 'x' is 0 in every sample" in str(
        blame_calibration([int8], zero)[0].error
    )
    assert str(blame_calibration([int8], replace(GOOD, samples=1))[0].error).endswith("calibrated on 1 sample only")


def test_a_sample_that_makes_infinities_is_named() -> None:
    item = replace(
        missed("int8", Tolerance()), check=None, error=DataError("an activation is infinite", fix="Check it.")
    )
    observed = replace(GOOD, tensors=(replace(PLAIN, not_finite=(7, 9)),))
    found = blame_calibration([item], observed)[0].error
    assert str(found) == "calibration sample 7 makes 'x' infinite or not a number. Check it."

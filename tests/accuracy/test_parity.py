from __future__ import annotations

import numpy as np
import pytest

from edgekit.accuracy.parity import ParityCheck
from edgekit.contracts import Tolerance


def test_nothing_compared_is_not_a_pass() -> None:
    report = ParityCheck(Tolerance(rel_l2=1e-3), "PyTorch").report()
    assert not report.passed
    assert report.misses == ("no samples were compared",)


def test_the_worst_output_counts_over_all_samples() -> None:
    check = ParityCheck(Tolerance(rel_l2=0.1), "PyTorch 2.13.0 fp32")
    for error in (0.0, 0.3):
        good, bad = np.ones(4, np.float32), np.full(4, 2.0, np.float32)
        check.add({"good": good, "bad": bad}, {"good": good, "bad": bad + np.float32(error)})
    report = check.report()
    assert (report.passed, report.samples, report.reference) == (False, 2, "PyTorch 2.13.0 fp32")
    assert report.outputs["good"]["rel_l2"] == 0.0
    assert report.outputs["bad"]["rel_l2"] == pytest.approx(0.15 / 2**0.5, rel=1e-5)
    assert len(report.misses) == 1 and "'bad'" in report.misses[0]

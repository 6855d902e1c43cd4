"""Is an engine's answer near enough to the reference's? The check that `export` runs on every candidate."""

from __future__ import annotations

from ..contracts import Outputs, Tolerance
from ..measure.parity import OutputParity, ParityMeter
from ..results import ParityReport


class ParityCheck:
    """Compares outputs with the reference's, sample by sample; memory does not grow with their number.

    Args:
        tolerance: the bounds that must hold.
        reference: who made the outputs to compare with: "PyTorch 2.13.0 fp32".
    """

    def __init__(self, tolerance: Tolerance, reference: str) -> None:
        self._tolerance, self._reference = tolerance, reference
        self._meter = ParityMeter(tolerance.rtol or 0.0)

    def add(self, expected: Outputs, got: Outputs) -> None:
        """One sample: the reference's outputs and the engine's."""
        self._meter.add(expected, got)

    def report(self) -> ParityReport:
        """Over all samples so far."""
        parity = self._meter.result()
        misses = tuple(parity.misses(self._tolerance))
        return ParityReport(
            passed=not misses,
            max_abs=parity.max_abs,
            rel_l2=parity.rel_l2,
            sqnr_db=parity.sqnr_db,
            samples=parity.samples,
            tolerance=self._tolerance,
            reference=self._reference,
            misses=misses,
            outputs={name: _row(item) for name, item in parity.outputs.items()},
            part_db=parity.part_db,
            worst=parity.worst.told() if parity.worst else "",
            differ=max((item.differ for item in parity.outputs.values() if item.differ is not None), default=None),
        )


def _row(item: OutputParity) -> dict[str, float | str | None]:
    return {
        "max_abs": item.max_abs,
        "rel_l2": item.rel_l2,
        "sqnr_db": item.sqnr_db,
        "part": item.part.index if item.part else None,
        "part_db": item.part.sqnr_db if item.part else None,
        "differ": item.differ,
    }

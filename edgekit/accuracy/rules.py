"""What "accurate enough" means for one export: the metric with its largest drop, and the parity tolerances."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..contracts import Tolerance
from ..errors import UsageError, suggestion
from ..target.profile import Target

DEFAULT_MAX_DROP = 0.01
"""Largest loss of a metric where none is stated: MLPerf Inference's "99 % of the reference"."""

_BOUNDS = tuple(field.name for field in dataclasses.fields(Tolerance))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The rules a candidate must hold."""

    metric: str | None
    max_drop: float | None
    tolerances: Mapping[str, Tolerance]  # precision → bounds

    def tolerance(self, precision: str) -> Tolerance:
        """The bounds for a precision.

        Raises:
            UsageError: the target states none.
        """
        if precision not in self.tolerances:
            raise UsageError(
                f"the target states no tolerance for precision '{precision}'",
                fix=f"Add a table [tolerance.{precision}] to its profile.",
            )
        return self.tolerances[precision]


def accuracy_rules(
    target: Target, metric: str | None, max_drop: float | None, loosened: Sequence[str], has_labels: bool
) -> Accuracy:
    """Put together the target's tolerances, the user's metric and what the user loosened by name.

    Args:
        target: states the tolerances, one set for runs with a metric and one without.
        metric: judges the accuracy, or None.
        max_drop: largest loss of the metric, in the metric's unit; None: `DEFAULT_MAX_DROP`.
        loosened: ``BOUND=VALUE`` for every precision that states this bound, ``PRECISION.BOUND=VALUE`` for one.
        has_labels: whether the data carry labels.

    Raises:
        UsageError: labels without a metric, a drop without a metric, or a malformed tolerance.
    """
    if has_labels and metric is None:
        raise UsageError(
            "the data have labels but no metric is stated",
            fix="Leave them out with --ignore-labels, or state what must hold: --metric top1 --max-drop 0.01",
        )
    if max_drop is not None and metric is None:
        raise UsageError("--max-drop needs a metric", fix="Add a metric, for example: --metric top1")
    if max_drop is not None and max_drop < 0:
        raise UsageError(f"--max-drop must be 0 or more, got {max_drop}")
    stated = dict(target.tolerance_with_metric if metric else target.tolerance)
    for text in loosened:
        _loosen(stated, text)
    return Accuracy(metric, (DEFAULT_MAX_DROP if max_drop is None else max_drop) if metric else None, stated)


def _loosen(stated: dict[str, Tolerance], text: str) -> None:
    key, _, number = text.partition("=")
    precision, _, bound = key.rpartition(".")
    if bound not in _BOUNDS:
        raise UsageError(f"--tolerance '{text}': '{bound}' is not a bound", fix=suggestion(bound, _BOUNDS))
    if precision and precision not in stated:
        raise UsageError(f"--tolerance '{text}': no precision '{precision}'", fix=suggestion(precision, stated))
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"--tolerance '{text}': '{number}' is not a number", fix="Write sqnr_db=15.") from None
    for name, tolerance in list(stated.items()):
        if name == precision or (not precision and getattr(tolerance, bound) is not None):
            stated[name] = dataclasses.replace(tolerance, **{bound: value})

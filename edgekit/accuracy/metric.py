"""The metric that ``--metric`` names: one of ours, or a function of the user's."""

from __future__ import annotations

from typing import Any

from ..contracts import Outputs
from ..errors import DataError, EdgekitError, UsageError
from ..measure.metrics import Mean, Metric, named_metric


def make_metric(spec: str) -> Metric:
    """The metric that ``--metric`` names: ``top1``, ``top1:logits``, or ``file.py:function``.

    A function takes the outputs (name → array) and the label of one sample and returns a number; the mean over the
    samples is the metric. Higher is better, unless the function has an attribute ``higher_is_better = False``.

    Raises:
        UsageError: no metric of that name, or no such function.
    """
    from ..data.factory import is_factory
    from ..measure.metrics import METRICS

    if spec.partition(":")[0] in METRICS or not is_factory(spec):
        return named_metric(spec)
    from .. import user_code

    try:
        function, _ = user_code.find(spec, "a function of (outputs, label)")
    except EdgekitError as error:
        raise UsageError(f"metric {error.what}", details=error.details, fix=error.fix) from error

    def call(outputs: Outputs, label: Any) -> float:
        try:
            result: float = function(outputs, label)
        except Exception as error:
            raise DataError(
                f"metric {spec} {user_code.raised(error)}", details=user_code.lines(error.__traceback__)
            ) from error
        return result

    return Mean(call, spec, higher_is_better=bool(getattr(function, "higher_is_better", True)))

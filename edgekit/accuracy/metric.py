"""The metric that ``--metric`` names: one of ours, or a function of the user's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from ..contracts import Outputs
from ..errors import DataError, EdgekitError, UsageError, suggestion
from ..measure.metrics import Agreement, Cosine, Mean, Metric, Sqnr, Top1, Top5
from .metrics.average_precision import MeanAveragePrecision
from .metrics.classification import F1, Auc
from .metrics.detection import DetectionsKept
from .metrics.options import Options, split
from .metrics.recognition import WordErrorRate
from .metrics.regression import R2, MeanAbsoluteError, MeanSquaredError
from .metrics.segmentation import MeanIoU


def _plain(kind: Callable[[str], Metric]) -> Callable[[str, Options], Metric]:
    """One that has no options."""
    return lambda output, options: kind(output)


METRICS: dict[str, Callable[[str, Options], Metric]] = {
    **{
        kind.name: _plain(kind)
        for kind in (Top1, Top5, Auc, MeanSquaredError, MeanAbsoluteError, R2, Cosine, Sqnr, Agreement)
    },
    **{kind.name: kind for kind in (F1, MeanIoU, DetectionsKept, MeanAveragePrecision, WordErrorRate)},
}


def make_metric(spec: str) -> Metric:
    """The metric that ``--metric`` names: ``top1``, ``top1:logits``, ``f1,threshold=0.5``, or ``file.py:function``.

    A function takes the outputs (name → array) and the label of one sample and returns a number; the mean over the
    samples is the metric. Higher is better, unless the function has an attribute ``higher_is_better = False``.

    Raises:
        UsageError: no metric of that name, no such option, or no such function.
    """
    from ..data.factory import is_factory

    if re.split("[:,]", spec, maxsplit=1)[0] in METRICS or not is_factory(spec):
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


def named_metric(spec: str) -> Metric:
    """The built-in metric ``NAME[:OUTPUT][,KEY=VALUE…]``.

    Raises:
        UsageError: there is none of that name (with the nearest), or it has no such option.
    """
    name, output, texts = split(spec)
    if name not in METRICS:
        raise UsageError(
            f"metric '{spec}' is not known", fix=f"{suggestion(name, METRICS)} Or name your own: file.py:function"
        )
    options = Options(spec, texts)
    metric = METRICS[name](output, options)
    options.done()
    return metric


def refuse_labels(metric: Metric, spec: str, has_labels: bool, data: str) -> None:
    """Refuse a metric without the labels that it needs, and labels that it would leave unused.

    Args:
        metric: what ``spec`` makes.
        spec: what the user wrote.
        has_labels: whether the data have labels.
        data: where they come from, for the message.

    Raises:
        UsageError: it needs what is not there, or does not use what is.
    """
    if metric.needs_labels and not has_labels:
        raise UsageError(
            f"metric '{spec}' needs labels, and {data} has none",
            fix="Add an array 'labels', or use a metric against the model itself: agreement, cosine, mse.",
        )
    if has_labels and not metric.uses_labels:
        raise UsageError(
            f"metric '{spec}' does not use labels, and {data} has them",
            fix="Use a metric on labels (top1, f1, mse, …), or compare with the model itself: --ignore-labels",
        )


def refuse_undefined(metric: Metric, spec: str, who: str) -> None:
    """Refuse a value that is not a number, or infinite where that does not mean that all is equal.

    Args:
        metric: with all samples added.
        spec: what the user wrote.
        who: whose outputs it looked at, for the message: "the engine".

    Raises:
        DataError: the value says nothing.
    """
    value = metric.value()
    if not math.isfinite(value) and value != metric.of_reference:
        raise DataError(
            f"metric '{spec}' of {who} is {value:g} over {metric.samples} samples, which says nothing",
            fix="Give data for which it is defined (outputs that are not all zero), or use another metric: mse.",
        )

"""Accuracy of a bundle through its own engine, and the metrics by the names users give."""

from __future__ import annotations

from .measure.metrics import Metric, named_metric


def make_metric(spec: str) -> Metric:
    """The metric that ``--metric`` names: ``top1``, ``top1:logits``, or ``file.py:function``."""
    return named_metric(spec)

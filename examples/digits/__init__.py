"""A small residual CNN trained on scikit-learn's digits: the model of `edgekit demo`."""

from __future__ import annotations

from edgekit.examples.digits.demo import BUNDLE, COMMAND, run_demo

__all__ = ["BUNDLE", "COMMAND", "run_demo"]

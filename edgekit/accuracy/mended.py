"""Operators that `onnx.reference` computes wrongly without a word, as the ONNX specification has them."""

from __future__ import annotations

from typing import Any

from onnx.reference.ops import op_batch_normalization

from ..contracts import Array
from .recurrent import GRU, LSTM, RNN


class BatchNormalization(op_batch_normalization.BatchNormalization_14):
    """Versions 7 and 9 with one output are in test mode; the evaluator mixes the batch's own mean into the stored one.

    y = scale · (x − mean) / √(var + epsilon) + bias, with the stored mean and var.
    """

    op_domain = ""

    def _run(  # type: ignore[override]  # the evaluator passes every attribute by its name
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any
    ) -> tuple[Array, ...]:
        training = attributes.get("training_mode") or len(self.onnx_node.output) > 1
        if training:
            raise NotImplementedError("BatchNormalization in training mode")
        compute = op_batch_normalization._batchnorm_test_mode
        found: Array = compute(x, scale, bias, mean, var, epsilon=attributes["epsilon"])
        return (found,)


MENDED = (LSTM, GRU, RNN, BatchNormalization)
"""What `onnx.reference.ReferenceEvaluator` takes as its ``new_ops``."""

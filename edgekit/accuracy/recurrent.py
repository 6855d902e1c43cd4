"""LSTM, GRU and RNN for `onnx.reference`, which ignores some of their inputs and attributes without a word.

``sequence_lens`` [B]: item b has only so many steps. Its outputs beyond them are 0, its last state is that of its own
last step, and the reverse direction begins at that step (the ONNX operators' specification, and ONNX Runtime's
kernels). So each item is run alone, cut to its length. Attributes that the evaluator ignores are refused: an evaluator
that cannot run a file has no say in what the file computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.ops import op_gru, op_lstm, op_rnn

from ..contracts import Array

_SEQUENCE_LENS, _FIRST_STATE = 4, 5  # places among the inputs
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


class _Recurrent:
    """What the three have in common; stands before the evaluator's own class among the bases."""

    op_domain = ""
    states = 1  # inputs from `_FIRST_STATE` on that hold one state an item, and outputs behind Y

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array, ...]:
        _refuse(type(self).__name__, attributes)
        given = list(inputs)
        lengths = given[_SEQUENCE_LENS] if len(given) > _SEQUENCE_LENS else None
        if lengths is None:
            return self._whole(given, attributes)
        given[_SEQUENCE_LENS] = None
        batch_first = bool(attributes.get("layout") or 0)
        x = np.swapaxes(given[0], 0, 1) if batch_first else given[0]  # [T, B, I]
        found = [self._item(given, attributes, x, item, int(length)) for item, length in enumerate(lengths)]
        # Y [T, D, B, H] and states [D, B, H]; batch first: [B, T, D, H] and [B, D, H].
        axes = (0, 0, 0) if batch_first else (2, 1, 1)
        return tuple(np.concatenate(parts, axis) for parts, axis in zip(zip(*found, strict=True), axes, strict=False))

    def _item(
        self, given: list[Any], attributes: dict[str, Any], x: Array, item: int, length: int
    ) -> tuple[Array, ...]:
        """One item of the batch, cut to its length; Y is filled up with zeros."""
        batch_first = bool(attributes.get("layout") or 0)
        mine = list(given)
        steps = x[: max(length, 1), item : item + 1]
        mine[0] = np.swapaxes(steps, 0, 1) if batch_first else steps
        for place in range(_FIRST_STATE, min(_FIRST_STATE + self.states, len(mine))):
            if mine[place] is not None:
                mine[place] = np.take(mine[place], [item], axis=0 if batch_first else 1)
        y, *last = self._whole(mine, attributes)
        time = 1 if batch_first else 0
        full = np.zeros((*y.shape[:time], x.shape[0], *y.shape[time + 1 :]), y.dtype)
        if length:
            full[(slice(None),) * time + (slice(0, length),)] = y
        else:
            last = [np.zeros_like(state) for state in last]
        return (full, *last)

    def _whole(self, given: list[Any], attributes: dict[str, Any]) -> tuple[Array, ...]:
        found: tuple[Array, ...] = super()._run(*given, **attributes)  # type: ignore[misc]  # the evaluator's
        return found


def _refuse(operator: str, attributes: dict[str, Any]) -> None:
    usual = _USUAL.get(operator)
    activations = tuple(attributes.get("activations") or ())
    if usual and any(name != usual[place % len(usual)] for place, name in enumerate(activations)):
        raise NotImplementedError(f"{operator} with the activations {', '.join(activations)}")
    for name in ("clip", "input_forget"):
        if attributes.get(name):
            raise NotImplementedError(f"{operator} with '{name}'")


class LSTM(_Recurrent, op_lstm.LSTM):
    """With ``sequence_lens``."""

    states = 2


class GRU(_Recurrent, op_gru.GRU):
    """With ``sequence_lens``."""


class RNN(_Recurrent, op_rnn.RNN_14):
    """With ``sequence_lens``."""

"""How much of a number a precision keeps: the one order of precisions, from fine to coarse.

Two facts decide. A *float* of 16 bits or more has a step relative to each value, whatever the data: its error is known
before any data are seen. An *integer* of 8 bits or fewer has one step for a whole tensor, channel or block: what it
loses depends on the data. So integers (and floats of 8 bits or fewer, which need scales too) are coarser than any float
of 16 bits, and need evidence that floats do not.

Within each the narrower of weights and activations decides, after it the wider: what the wider one keeps, the narrower
has lost already. Ranges taken from each run (dynamic) fit the data at hand, so they are finer than fixed ones.

    fp32 > tf32 > fp16 = bf16 > int8 weights > w8a16 > int8-dynamic > int8 > int4 weights > w4a16

float16 and bfloat16 count as equal: the one has the longer significand, the other the wider range, and which of the two
a model needs is what measuring its accuracy tells.
"""

from __future__ import annotations

import re

_FLOATS = {"fp64": 64, "float64": 64, "fp32": 32, "float32": 32, "tf32": 19, "fp16": 16, "float16": 16, "bf16": 16}
"""Bits of a number: of TF32 those that are read of it."""
_MIXED = re.compile(r"w(\d+)a(\d+)")
_INTEGER = re.compile(r"u?int(\d+)")
_FULL = 32
_UNKNOWN = 0  # a name that says nothing: the coarsest


def coarseness(precision: str) -> tuple[int, int, int, int]:
    """A sort key: the smaller, the finer; equal for precisions that keep as much.

    Args:
        precision: a candidate's: ``fp32``, ``bf16``, ``w8a16`` (weights of 8 bits, activations of 16), ``int8``,
            ``int8-dynamic``, ``int8-weights``, ``int4`` (weights of 4 bits; no engine computes in fewer than 8). One of
            another name is the coarsest.
    """
    if precision in _FLOATS:
        return 0, -_FLOATS[precision], -_FLOATS[precision], 0
    mixed, integer = _MIXED.match(precision), _INTEGER.match(precision)
    if mixed:
        weights, activations = int(mixed[1]), int(mixed[2])
    elif integer:
        weights = int(integer[1])
        activations = _FULL if weights < 8 or "weight" in precision else weights
    else:
        weights = activations = _UNKNOWN
    return 1, -min(weights, activations), -max(weights, activations), 0 if "dynamic" in precision else 1


def is_full(precision: str) -> bool:
    """Whether it is float32 or finer: nothing of the source is rounded away."""
    return coarseness(precision) <= coarseness("fp32")


def needs_evidence(precision: str) -> bool:
    """Whether what it loses depends on the data, so that nothing can be said of it without real ones."""
    return coarseness(precision)[0] > 0

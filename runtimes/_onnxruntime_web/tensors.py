"""Tensors from the page: a line of JSON with what they are, then their bytes. (To the page they go as ``.npz``.)"""

from __future__ import annotations

import json
from math import prod
from typing import Any

import numpy as np

from ...contracts import Array, Outputs

SUPPORTED = frozenset(
    ["float32", "float16", "float64", "bool", "string"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""What JavaScript has arrays for."""


def read_outputs(data: bytes) -> Outputs:
    """The outputs that ``measure.mjs`` sent: ``[{"name", "type", "dims", "bytes" | "strings"}]``, then the bytes.

    The arrays are fresh and writeable.
    """
    line, _, rest = data.partition(b"\n")
    outputs: dict[str, Array] = {}
    offset = 0
    for item in json.loads(line):
        shape = tuple(item["dims"])
        if item["type"] == "string":
            outputs[item["name"]] = np.array(item["strings"], dtype=object).reshape(shape)
            continue
        outputs[item["name"]] = _array(item, rest, offset, shape)
        offset += item["bytes"]
    return outputs


def _array(item: dict[str, Any], data: bytes, offset: int, shape: tuple[int, ...]) -> Array:
    flat = np.frombuffer(data, np.dtype(item["type"]), count=prod(shape), offset=offset)
    return flat.reshape(shape).copy()

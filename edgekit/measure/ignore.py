"""What nobody reads of the outputs: where a mask among the inputs says "padding".

An output [B, L, …] whose first dimensions are the mask's [B, L] is 0, on both sides of a comparison, wherever the mask
holds the value: those elements add nothing to an error, and nothing to the signal it is compared with.

Device floor: the standard library and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..contracts import Feeds, Outputs


@dataclass(frozen=True, slots=True)
class IgnoreWhere:
    """One mask, and the outputs that it is for."""

    input: str
    value: float
    outputs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As in a bundle's manifest."""
        return {**asdict(self), "outputs": list(self.outputs)}


def blank(rules: Sequence[IgnoreWhere], feeds: Feeds, outputs: Outputs) -> Outputs:
    """``outputs`` with 0 wherever nobody reads them; without rules the same object. Outputs of other shapes stay."""
    found = outputs
    for rule in rules:
        unread = np.asarray(feeds[rule.input]) == rule.value
        for name in rule.outputs:
            array = found.get(name)
            if not isinstance(array, np.ndarray) or array.shape[: unread.ndim] != unread.shape or not unread.any():
                continue
            array = array.copy()
            array[unread] = 0
            found = {**found, name: array}
    return found

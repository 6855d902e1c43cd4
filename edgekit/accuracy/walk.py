"""A graph's values with how far each is from the reference: the first that diverges, and the layer to blame for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ..graph import module_path
from ..measure.parity import OutputParity

GROWTH = 2.0
"""A layer is to blame where it at least doubles the error of its inputs."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first layer that computes something else than the reference."""

    module: str  # PyTorch module path; "" for the model's own forward, or where the graph does not tell
    node: str
    op_type: str
    tensor: str  # the value that was compared
    rel_l2: float  # ∞ where one side is not finite, or of another shape
    inputs_rel_l2: float  # the largest error among what the layer reads
    limit: float  # what the tolerance allows as rel_l2
    reference: str  # what computed the expected value
    note: str = ""

    @property
    def sqnr_db(self) -> float:
        """rel_l2 as a signal-to-noise ratio."""
        return -20.0 * math.log10(self.rel_l2) if self.rel_l2 > 0 else math.inf

    def __str__(self) -> str:
        where = self.module or "the model's own forward"
        text = (
            f"first to diverge: {where} ({self.op_type} '{self.node or self.tensor}'): rel_l2 {self.rel_l2:.3g}"
            f" ({self.sqnr_db:.1f} dB) against {self.reference}, its inputs {self.inputs_rel_l2:.3g}"
        )
        return f"{text}; {self.note}" if self.note else text


@dataclass(frozen=True, slots=True)
class Walk:
    """The float graph with what is needed to tell which of its values diverges first."""

    graph: ir.Graph
    reference: str
    limit: float
    missed: tuple[str, ...]  # names of outputs

    def first(self, errors: Mapping[str, float]) -> Divergence | None:
        """See `first_divergence`. ``errors``: value name → rel_l2, for the values that both sides have."""
        diverging = self._diverging(errors)
        crossing = next((value for value in self._values() if value.name in diverging), None)
        if crossing is None:
            return None
        inherited = self._inherited(crossing, errors)
        error = errors[crossing.name or ""]
        if error >= GROWTH * inherited:
            return self._at(crossing, error, inherited)
        steps = [
            (errors[value.name or ""] - self._inherited(value, errors), value)
            for value in [*self._ancestors(crossing), crossing]
            if value.name in errors
        ]
        _, worst = max(steps, key=lambda item: item[0])
        note = f"the error grows gradually, over the limit at '{crossing.name}'; this layer adds the most"
        return self._at(worst, errors[worst.name or ""], self._inherited(worst, errors), note)

    def at_output(self, missed: Mapping[str, OutputParity], note: str) -> Divergence:
        """The output that misses, where no layer could be told."""
        name = max(missed, key=lambda item: missed[item].rel_l2)
        output = next((value for value in self.graph.outputs if value.name == name), None)
        node = output.producer() if output is not None else None
        return Divergence(
            module_path(node) if node else "",
            (node.name or "") if node else "",
            node.op_type if node else "output",
            name,
            missed[name].rel_l2,
            0.0,
            self.limit,
            self.reference,
            note,
        )

    def _at(self, value: ir.Value, error: float, inherited: float, note: str = "") -> Divergence:
        node = value.producer()
        assert node is not None  # errors are of nodes' outputs
        name = value.name or ""
        return Divergence(
            module_path(node), node.name or "", node.op_type, name, error, inherited, self.limit, self.reference, note
        )

    def _values(self) -> Iterator[ir.Value]:
        for node in self.graph:
            yield from node.outputs

    def _diverging(self, errors: Mapping[str, float]) -> set[str]:
        """Names of the values over the limit from which an unbroken chain of such values leads to a missed output."""
        found: set[str] = set()
        seen: set[ir.Value] = set()
        todo = [value for value in self.graph.outputs if value.name in self.missed]
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            name = value.name or ""
            if name in errors:
                if errors[name] <= self.limit:
                    continue
                found.add(name)
            todo.extend(_reads(value))
        return found

    def _inherited(self, value: ir.Value, errors: Mapping[str, float]) -> float:
        """The largest error among the nearest known values that ``value`` comes from; 0 for the model's inputs."""
        largest = 0.0
        seen: set[ir.Value] = set()
        todo = _reads(value)
        while todo:
            item = todo.pop()
            if item in seen:
                continue
            seen.add(item)
            if item.name in errors:
                largest = max(largest, errors[item.name or ""])
            else:
                todo.extend(_reads(item))
        return largest

    def _ancestors(self, value: ir.Value) -> list[ir.Value]:
        seen: dict[ir.Value, None] = {}
        todo = _reads(value)
        while todo:
            item = todo.pop()
            if item not in seen:
                seen[item] = None
                todo.extend(_reads(item))
        return list(seen)


def _reads(value: ir.Value) -> list[ir.Value]:
    """What the node behind a value reads; nothing for inputs and initializers."""
    node = value.producer()
    return [item for item in node.inputs if item is not None] if node is not None else []

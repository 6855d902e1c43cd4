"""A session of ONNX Runtime on Qualcomm's HTP: where its nodes run, and why the HTP refused the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..contracts import NodePlacement, Placement
from ..errors import PlacementError
from ._ort import OrtSession

DEVICE = "HTP"


class HtpSession(OrtSession):
    """An `OrtSession` that knows what it was opened for.

    Args:
        opened: the session.
        settings: what was asked of the HTP, as `in_force` tells it.
        reasons: node → why the HTP refused it.
    """

    concurrent = False  # nobody has verified it of QNN

    def __init__(self, opened: OrtSession, settings: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
        super().__init__(opened._ort, opened._native, opened._create_profiled)
        self._settings = dict(settings)
        self._reasons = reasons

    def placement(self) -> Placement:
        """Node by node, each that the HTP refused with its reason, if it was asked for."""
        found = super().placement()
        nodes = (replace(node, reason=self._reason(node)) if node.device != DEVICE else node for node in found.nodes)
        return replace(found, nodes=tuple(nodes))

    def in_force(self) -> dict[str, Any]:
        """What ONNX Runtime reports, and what the HTP was asked for; it reports nothing itself."""
        return {**super().in_force(), **self._settings}

    def metadata(self) -> Mapping[str, str]:
        """The model file's own metadata."""
        told: dict[str, str] = self.native().get_modelmeta().custom_metadata_map
        return told

    def _reason(self, node: NodePlacement) -> str | None:
        return self._reasons.get(node.name)


def reasons(log: str) -> dict[str, str]:
    """Node name → why it was refused, in the provider's words, from its log at severity 0.

    It validates an operator together with the QuantizeLinear and DequantizeLinear around it, and lists them all.
    """
    found: dict[str, str] = {}
    for block in _BLOCK.finditer(log):
        for name in _NODE.findall(block["nodes"]):
            found.setdefault(name, _shorten(block["reason"]))
    return found


_BLOCK = re.compile(
    r"Validation FAILED for \d+ nodes in [^\n]*\n(?P<nodes>(?:\tOperator type: [^\n]*\n)+)\tREASON : (?P<reason>[^\n]*)"
)
_NODE = re.compile(r"Node name: (.*?) Node index: \d+")


def _shorten(reason: str) -> str:
    """``Operators of type `Erf` are not supported by QNN EP.Erf node `n1` will …`` → its first sentence."""
    first = re.split(r"\.(?=[A-Z]|\s|$)", reason.strip(), maxsplit=1)[0].removesuffix(" by QNN EP")
    return f"QNN: {first[:1].lower()}{first[1:]}" if first[1:2].islower() else f"QNN: {first}"


def refused(placement: Placement, allowed: tuple[str, ...]) -> PlacementError | None:
    """The error for nodes that the HTP does not take and that may not run elsewhere, or None."""
    strays = placement.elsewhere((DEVICE,), allowed)
    if not strays:
        return None
    return PlacementError(
        f"{len(strays)} of {len(placement.nodes)} nodes would not run on the {DEVICE}",
        details=[f"{node.op_type}  ({node.name})  {node.reason or node.device}" for node in strays],
        fix=f"Change the model, or name them in the session option 'fallback': "
        f"{', '.join(dict.fromkeys(node.op_type for node in strays))}",
    )

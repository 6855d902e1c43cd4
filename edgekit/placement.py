"""Where nodes may run: the error for those that would run elsewhere, named as the user knows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .contracts import NodePlacement, Placement
from .errors import PlacementError


def refusal(
    placement: Placement,
    *,
    devices: Collection[str],
    target: str,
    allowed: Collection[str] = (),
    modules: Mapping[str, str] | None = None,
    advice: Mapping[str, str] | None = None,
) -> PlacementError | None:
    """The error for nodes that run elsewhere than the target allows, or None.

    Args:
        placement: of an open session.
        devices: where nodes may run; empty: anywhere.
        target: its name.
        allowed: operators that the user allows elsewhere.
        modules: node's name → its PyTorch module.
        advice: operator → what usually helps: "Use GELU's tanh form".
    """
    strays = placement.elsewhere(devices, allowed) if devices else ()
    if not strays:
        return None
    where = " and ".join(dict.fromkeys(node.device for node in strays))
    names = list(dict.fromkeys(node.op_type for node in strays))
    hints = list(dict.fromkeys((advice or {}).get(name, "") for name in names))
    hint = "; ".join(item for item in hints if item) or "Change the model"
    return PlacementError(
        f"{len(strays)} of {len(placement.nodes)} nodes would run on the {where}, "
        f"which target '{target}' does not allow",
        details=_lines(strays, modules or {}),
        fix=f"{hint}, or allow it: {' '.join(f'--allow-fallback {name}' for name in names)}",
    )


def _lines(strays: Iterable[NodePlacement], modules: Mapping[str, str]) -> list[str]:
    """``Erf  (encoder.layers.0.mlp.act)  QNN: …``, a line a node; a reason is not repeated in the next line."""
    lines, said = [], ""
    for node in strays:
        reason = node.reason or node.device
        lines.append(f"{node.op_type}  ({modules.get(node.name) or node.name})  {'same' if reason == said else reason}")
        said = reason
    return lines

"""What `inspect` found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import units
from .bundle import manifest_text
from .layout import Ink, labelled, table, wrap
from .text import source_line

if TYPE_CHECKING:  # these need the export packages, which a board that inspects a bundle need not have
    from ..analysis.cost import Analysis
    from ..analysis.engine_support import Acceptance, RefusedOperator
    from ..api.inspect import Inspection

_MODULES_SHOWN = 4
_COSTLIEST = 5


def inspection_text(found: Inspection, colour: bool, width: int) -> str:
    """Source, sizes, operators, the costliest nodes; then what each engine of the target says."""
    ink = Ink(colour)
    if found.manifest is not None:
        return manifest_text(str(found.source["spec"]), found.manifest, colour, width)
    lines = labelled("source", source_line(found.source), ink, width)
    if found.analysis is not None:
        lines += _costs(found.analysis, ink, width)
    for item in found.engines:
        lines += _engine(item, ink, width)
    return "\n".join(lines)


def _costs(cost: Analysis, ink: Ink, width: int) -> list[str]:
    weights = f"{units.count(cost.parameters)}, {units.size(cost.parameter_bytes)}"
    lines = labelled("parameters", weights, ink, width)
    given = ", ".join(f"{name} = {size}" for name, size in cost.dims.items())
    lines += labelled("MACs", units.count(cost.macs) + (f" (with {given})" if given else ""), ink, width)
    if cost.activation_peak_bytes is not None:
        at = f" at {cost.activation_peak_at}" if cost.activation_peak_at else ""
        lines += labelled("activations", f"{units.size(cost.activation_peak_bytes)} peak{at}", ink, width)
    operators = "  ".join(f"{name} {count}" for name, count in cost.operators.items())
    lines += labelled(f"{cost.nodes} nodes", operators, ink, width)
    costliest = sorted(cost.costs, key=lambda item: -item.macs)[:_COSTLIEST]
    if costliest and cost.macs:
        rows = [[item.module or item.name, item.op_type, units.percent(item.macs / cost.macs)] for item in costliest]
        head, *rest = table(rows, "<<>")
        lines += [ink.label(f"{'costliest':<12}") + head, *(" " * 12 + line for line in rest)]
    for reason in cost.unknown:
        lines += labelled("not known", reason, ink, width)
    return lines


def _engine(item: Acceptance, ink: Ink, width: int) -> list[str]:
    name = f"{item.runtime} {item.version}" if item.version else item.runtime
    if item.takes:
        return labelled("takes it", f"{name}: {item.reason}" if item.reason else name, ink, width)
    lines = labelled("refuses it" if item.asked else "not asked", f"{name}: {item.reason}", ink, width)
    for refusal in item.refusals:
        lines += _refusal(refusal, ink, width)
    lines += [f"    {stray}" for stray in item.elsewhere]
    if item.version and not item.refusals and not item.elsewhere:
        lines += ["    No operator alone is the cause: it takes each of them by itself."]
    return lines


def _refusal(item: RefusedOperator, ink: Ink, width: int) -> list[str]:
    modules = ", ".join(item.modules[:_MODULES_SHOWN])
    more = len(item.modules) - _MODULES_SHOWN
    where = f"  ({modules}{f' and {more} more' if more > 0 else ''})" if modules else ""
    times = f" x{item.count}" if item.count > 1 else ""
    head = f"{ink.bad((item.op_type or 'graph') + times)}{where}"
    return [
        f"    {head}",
        *(f"        {line}" for part in (item.signature, item.words) if part for line in wrap(part, width - 8)),
    ]

"""float16 as the device computes it: what does not fit its range is found in float32, before any engine answers.

An engine on this machine may hold float16 numbers in float32 registers and answer rightly where the device's own
float16 arithmetic is infinite. So the range of each tensor of the float32 graph, over the samples, decides. In a graph
that a pass converts, the nodes around what does not fit stay in float32 from the start. A device that computes a
float32 graph in float16 as a whole leaves nothing to keep: such a candidate is out, with the tensor and its range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.overflow import SMALLEST, Overflow, find_overflows
from ..errors import EngineError, ParityError
from ..graph import module_path
from ..target.toolchain import Toolchain
from .repair import Proposal

if TYPE_CHECKING:
    from .job import Variant


def is_converted(toolchain: Toolchain) -> bool:
    """Whether a pass converts the graph to float16, so that nodes can be kept."""
    return any(spec.name == "convert_float16" for spec in toolchain.candidate.passes)


def beyond_range(toolchain: Toolchain, variant: Variant) -> Proposal | ParityError | None:
    """What must stay in float32 for its range, or why this cannot be; None: all fits, or it is no float16 candidate."""
    converted = is_converted(toolchain)
    if not converted and toolchain.candidate.precision not in ("fp16", "float16"):
        return None
    found = _beyond(variant)
    too_large = [item for item in found if item.largest > SMALLEST]
    if not converted:  # small numbers may not matter: that its answers tell
        return ParityError(str(max(too_large, key=_largest))) if too_large else None
    if not found:
        return None
    modules = {node.name: module_path(node) for node in variant.graph.graph}
    names = dict.fromkeys(name for item in found for name in item.nodes)
    worst = max(too_large, key=_largest) if too_large else min(found, key=_largest)
    shown = dict.fromkeys(item.module for item in found if item.module) or dict.fromkeys(
        modules.get(name) or name for name in names
    )
    total = sum(1 for node in variant.graph.graph if node.op_type != "Constant")
    return Proposal(frozenset(names), tuple(shown), total, "float32", str(worst))


def _largest(item: Overflow) -> float:
    return item.largest


def _beyond(variant: Variant) -> list[Overflow]:
    """Found once a variant: candidates share its graph and the samples."""
    if "float16" not in variant.beyond:
        job = variant.job
        try:
            samples = (sample.feeds for sample in job.expected)
            variant.beyond["float16"] = find_overflows(variant.graph, samples, job.workdir, smallest=SMALLEST)
        except EngineError:  # the float graph does not run in ONNX Runtime: its ranges are not known
            variant.beyond["float16"] = []
    return variant.beyond["float16"]

"""ONNX graph → what a device builds a TensorRT plan from: ``model.onnx`` with ``recipe.json`` beside it.

No plan is made here: a plan is tied to the GPU, the driver and the TensorRT version it was built with, so the device
builds its own when the bundle is first opened (`runtimes.tensorrt`). Precision is the graph's own: explicit
QuantizeLinear and DequantizeLinear for int8, float16 tensors for fp16. TensorRT 11 has no other way (weak typing went).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, TensorSpec
from ..errors import EngineError
from ..runtimes._tensorrt_recipe import RECIPE, Recipe, ShapeRange, numbers
from . import Finding, _tensorrt_parser
from .onnx import FileLayout, OnnxFile

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..context import PassContext

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a target profile may state about the build; see `Recipe`."""

    workspace_bytes: int = 0  # 0: TensorRT's choice
    optimization_level: int = 3
    tf32: bool = False
    timing_cache: bool = True
    dla_core: int | None = None
    gpu_fallback: bool = False
    tensorrt_min: str = "10.3"
    tensorrt_below: str = "12"

    def __post_init__(self) -> None:
        if self.workspace_bytes < 0:
            raise ValueError(f"'workspace_bytes' must be 0 or more, got {self.workspace_bytes}")
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"'optimization_level' must lie in 0..5, got {self.optimization_level}")
        if self.dla_core is not None and self.dla_core < 0:
            raise ValueError(f"'dla_core' must be 0 or more, got {self.dla_core}")
        if self.gpu_fallback and self.dla_core is None:
            raise ValueError("'gpu_fallback' is for a 'dla_core'; none is stated")


class TensorRtPlan:
    """Writes ``model.onnx`` and ``recipe.json``, after TensorRT's rules found nothing against the graph."""

    name = "tensorrt_plan"
    format = "tensorrt"
    Options = PlanOptions

    def check(self, model: ir.Model, precision: str, options: PlanOptions, context: PassContext) -> Sequence[Finding]:
        """What TensorRT would refuse of a graph. See `exporters.Checks`."""
        from ..graph import specs
        from ._tensorrt_rules import Plan, check

        inputs, _ = specs(model)
        oldest = numbers(options.tensorrt_min)
        plan = Plan(
            oldest=(oldest[0], oldest[1] if len(oldest) > 1 else 0),
            profiles=shape_ranges(inputs, context.dimensions),
            precision=precision,
            dla=options.dla_core is not None,
            gpu_fallback=options.gpu_fallback,
        )
        return check(model, plan)

    def write(
        self, model: ir.Model, directory: Path, precision: str, options: PlanOptions, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """See `exporters.ArtifactExporter.write`.

        Raises:
            EngineError: TensorRT would refuse the graph; names each node with its module, the reason, what to do.
        """
        from ._tensorrt_rules import left_to_gpu

        found = self.check(model, precision, options, context)
        if found:
            raise refusal(found, options)
        artifact, info = OnnxFile().write(model, directory, precision, FileLayout(), context)
        recipe = Recipe(
            precision=precision,
            profiles=shape_ranges(artifact.inputs, context.dimensions),
            workspace_bytes=options.workspace_bytes,
            optimization_level=options.optimization_level,
            tf32=options.tf32,
            timing_cache=options.timing_cache,
            dla_core=options.dla_core,
            gpu_fallback=options.gpu_fallback,
            tensorrt_min=options.tensorrt_min,
            tensorrt_below=options.tensorrt_below,
        )
        (directory / RECIPE).write_bytes(recipe.dumps())
        answer = _tensorrt_parser.ask(artifact.path)
        if answer is not None and answer.refusals:
            raise EngineError(
                f"{answer.parser} refuses the graph, and so would TensorRT, whose parser it shares",
                details=answer.refusals[:_SHOWN],
                fix="Change the model, or use another target.",
            )
        done = {
            **info,
            "on_gpu": left_to_gpu(model) if options.dla_core is not None else None,
            "recipe": json.loads(recipe.dumps()),
            "parsed_by": None if answer is None else answer.parser,
            "plan": "not built here: the device builds it when it first opens the bundle",
        }
        return Artifact(artifact.path, self.format, precision, artifact.inputs, artifact.outputs), done


def shape_ranges(inputs: Sequence[TensorSpec], dimensions: Mapping[str, tuple[int, int, int]]) -> dict[str, ShapeRange]:
    """The shapes to plan for, of each input with free dimensions whose ranges are all stated.

    Args:
        inputs: the model's.
        dimensions: free dimension → smallest, usual, largest size.
    """
    found = {}
    for spec in inputs:
        free = [dim for dim in spec.shape if isinstance(dim, str)]
        if free and all(dim in dimensions for dim in free):
            sizes = [dimensions[dim] if isinstance(dim, str) else (dim, dim, dim) for dim in spec.shape]
            low, usual, high = zip(*sizes, strict=True)
            found[spec.name] = ShapeRange(low, usual, high)
    return found


def refusal(found: Sequence[Finding], options: PlanOptions) -> EngineError:
    """The error that tells what was found, equal findings of several nodes on one line."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for item in found:
        grouped.setdefault((item.op_type, item.reason, item.fix), []).append(item)
    lines = []
    for (op_type, reason, fix), items in list(grouped.items())[:_SHOWN]:
        where = ", ".join(dict.fromkeys(item.module or item.node for item in items[:3]))
        more = f" and {len(items) - 3} more" if len(items) > 3 else ""
        head = f"{op_type}  ({where}{more})" if op_type else f"{where}{more}"
        lines.append(f"{head}  {reason}. {fix}")
    first = next(iter(grouped))
    places = {(item.op_type, item.node) for item in found}
    head = f"{first[0]}: {first[1]}" if first[0] else f"{found[0].node}: {first[1]}"
    more = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return EngineError(f"TensorRT {options.tensorrt_min} or later would refuse it ({head}{more})", details=lines)


PLUGIN = TensorRtPlan

"""Static int8: weights and activations as integers, with ranges from calibration, as QuantizeLinear/DequantizeLinear.

The engine fuses ``DequantizeLinear → Conv → QuantizeLinear`` into one integer kernel, so what is quantized is planned
for the engine (`_plan`): what has no integer kernel, or gains nothing by it, stays in float.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..context import PassContext
from ..errors import UsageError
from ..quantization.apart import joined_inputs, leave_joined
from ..quantization.calibration import calibrate
from ..quantization.plan import DEFAULT_OP_TYPES, Plan, make_plan, name_nodes
from ..quantization.plan_whole import drop_wide, make_whole_plan
from ..quantization.qdq import Scheme, insert
from ..quantization.ranges import METHODS
from . import Change, GraphPass


@dataclass(frozen=True, slots=True)
class Options:
    """What a target profile may state."""

    activations: str = "uint8"  # on x86 signed ones are slow in ONNX Runtime; on ARM64 "int8" is the fast one
    weights: str = "int8"
    per_channel: bool = True
    symmetric: bool = False  # activations; an asymmetric range also does the work of a Relu
    reduce_range: bool = False  # 7-bit weights, for x86 CPUs without VNNI
    bias: str = "int32"  # "float" for engines that cannot dequantize one (TensorRT)
    method: str = "percentile"  # what measures best over the example models: benchmarks/calibration_methods.py
    percentile: float = 99.999  # for method "percentile": how much of a tensor's values is kept at each end
    op_types: tuple[str, ...] = DEFAULT_OP_TYPES
    whole_graph: bool = False  # every operator, for an engine that computes in integers from end to end (`_plan_whole`)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"'method' must be one of {', '.join(METHODS)}, got '{self.method}'")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"50 < 'percentile' <= 100 must hold, got {self.percentile}")
        unknown = [item for item in self.op_types if item not in DEFAULT_OP_TYPES]
        if unknown:
            raise ValueError(f"'op_types' may hold {', '.join(DEFAULT_OP_TYPES)}; got '{unknown[0]}'")
        self.scheme()

    @property
    def levels(self) -> int:
        """How many an activation's integers have."""
        return 65536 if "16" in self.activations else 256

    def scheme(self) -> Scheme:
        """The integers' dtypes."""
        return Scheme(self.activations, self.weights, self.per_channel, self.symmetric, self.reduce_range, self.bias)


class QuantizeStatic(GraphPass):
    """Quantize what gains by it; say what was left in float and why."""

    name = "quantize_static"
    Options = Options
    needs_calibration = True

    def rewrite(self, model: ir.Model) -> tuple[ir.Model, Change]:
        """Plan, calibrate, insert.

        Raises:
            UsageError: no calibration data.
        """
        options: Options = self.options
        if self.context.calibration is None:
            raise UsageError("quantize_static needs calibration data", fix="Pass samples with --data.")
        if any(node.op_type == "QuantizeLinear" for node in model.graph):
            return model, Change(False, "the graph is quantized already")
        named = name_nodes(model)
        plan = static_plan(model, options, self.context)
        if not plan.nodes:
            for node in named:
                node.name = None
            return model, Change(False, plan.describe() or "the graph has no Conv, Gemm or MatMul to quantize")
        scheme = options.scheme()
        ranges = calibrate(
            model,
            [*plan.activations(), *joined_inputs(plan)],
            options.method,  # type: ignore[arg-type]  # checked above
            self.context,
            percentile=options.percentile,
            infinite=options.whole_graph,  # what reaches ±∞ is left in float
        )
        ranges |= plan.prescribed()
        if options.whole_graph:
            drop_wide(plan, ranges)
        leave_joined(plan, ranges, options.levels)
        insert(model, plan, ranges, scheme)
        RemoveUnusedNodesPass()(model)  # float weights that nothing reads any more
        return model, Change(True, plan.describe())


def static_plan(model: ir.Model, options: Options, context: PassContext) -> Plan:
    """The plan that the pass follows for the engine that will load the result."""
    if options.whole_graph:
        return make_whole_plan(model, context.keep_float, levels=options.levels, absorb=not options.symmetric)
    return make_plan(
        model,
        options.op_types,
        context.keep_float,
        absorb=not options.symmetric,
        fold_add=context.runtime == "onnxruntime",
    )


PLUGIN = QuantizeStatic

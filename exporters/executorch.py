"""PyTorch program → ExecuTorch's ``model.pte``, lowered to XNNPACK, optionally quantized on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact
from ..errors import EngineError, UsageError

if TYPE_CHECKING:
    import torch

    from ..context import PassContext
    from ..sources.source import Source

FILE = "model.pte"
NODES_FILE = "nodes.json"
"""What runs where is settled at lowering, and ExecuTorch's runtime does not tell it: the list lies beside it."""


@dataclass(frozen=True, slots=True)
class PteOptions:
    """What a target profile may state.

    Args:
        quantize: None, or "pt2e": int8 by torchao's PT2E and XNNPACK's quantizer, symmetric, weights per channel.
        dynamic: with ``quantize``: ranges of activations are taken at run time, and only Linear layers take part.
    """

    quantize: str | None = None
    dynamic: bool = False

    def __post_init__(self) -> None:
        if self.quantize not in (None, "pt2e"):
            raise ValueError(f"'quantize' must be 'pt2e', got '{self.quantize}'")
        if self.dynamic and not self.quantize:
            raise ValueError("'dynamic' needs 'quantize'")


class ExecuTorchPte:
    """Writes ``model.pte`` and ``nodes.json``. What XNNPACK does not take runs by ExecuTorch's portable kernels."""

    name = "executorch"
    format = "executorch-pte"
    packages = ("executorch",)
    Options = PteOptions

    @staticmethod
    def needs_calibration(options: PteOptions) -> bool:
        """Dynamic int8 needs no samples."""
        return options.quantize is not None and not options.dynamic

    def write_program(
        self, source: Source, directory: Path, precision: str, options: PteOptions, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """See `edgekit.exporters.ProgramExporter`.

        Raises:
            EngineError: executorch is missing, or refuses the program; with its own words.
            UsageError: static quantization without calibration data.
        """
        from ..quiet import TORCH, quiet

        assert source.program is not None
        with quiet(*TORCH):
            try:
                from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
                from executorch.exir import to_edge_transform_and_lower
            except ImportError as error:
                raise EngineError(
                    f"executorch is not installed or cannot be loaded: {error}",
                    fix="Install it: pip install executorch",
                ) from error
            program = _quantized(source, options, context) if options.quantize else source.program
            try:
                edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
                lowered = edge.to_executorch()
            # Its passes raise whatever they meet; all of it is about this program.
            except Exception as error:
                raise EngineError(f"ExecuTorch cannot lower {source.spec}: {_first_line(error)}") from error
        nodes = _nodes(lowered.exported_program())
        path = directory / FILE
        path.write_bytes(lowered.buffer)
        (directory / NODES_FILE).write_text(json.dumps(nodes, indent=1), encoding="utf-8")
        portable = sorted({node["op_type"] for node in nodes if node["kernel"] == "portable"})
        info = {"options": asdict(options), "not_in_xnnpack": portable}
        return Artifact(path, self.format, precision, source.inputs, source.outputs), info


def _quantized(source: Source, options: PteOptions, context: PassContext) -> torch.export.ExportedProgram:
    """The program with int8 QDQ pairs where XNNPACK computes in int8.

    Source: docs.pytorch.org/executorch, "XNNPACK quantization", and torchao's PT2E flow: prepare, calibrate, convert.
    """
    import numpy as np
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    assert source.program is not None
    if not options.dynamic and (context.calibration is None or not context.calibration_samples):
        raise UsageError("int8 through PT2E needs calibration data", fix="Pass samples with --data.")
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=options.dynamic)
    # A dense copy: numpy's `image[None]` has a stride of 0, which ExecuTorch refuses.
    example = tuple(torch.from_numpy(np.array(source.example[spec.name], order="C")) for spec in source.inputs)
    try:
        prepared = prepare_pt2e(source.program.module(), XNNPACKQuantizer().set_global(config))
        with torch.no_grad():
            for index, feeds in enumerate(context.calibration() if context.calibration and not options.dynamic else ()):
                prepared(*(torch.from_numpy(feeds[spec.name]) for spec in source.inputs))
                context.progress.step(index + 1, context.calibration_samples, "executorch: calibration")
            if options.dynamic:
                prepared(*example)
        return torch.export.export(convert_pt2e(prepared), example, strict=False)
    except (EngineError, UsageError):
        raise
    # torchao's passes raise whatever they meet; all of it is about this program.
    except Exception as error:
        raise EngineError(f"PT2E cannot quantize {source.spec}: {_first_line(error)}") from error


def _nodes(program: torch.export.ExportedProgram) -> list[dict[str, str]]:
    """The operators in the order they run: those of each XNNPACK partition, and the portable ones between."""
    nodes = []
    modules = dict(program.graph_module.named_children())
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if "executorch_call_delegate" in str(node.target):
            inside = modules[str(node.args[0].target)].original_module.graph.nodes
            nodes += [_told(item, "XNNPACK") for item in inside if item.op == "call_function"]
        elif str(node.target).startswith("aten"):
            nodes.append(_told(node, "portable"))
    return [node for node in nodes if node["op_type"] != "getitem"]


def _told(node: torch.fx.Node, kernel: str) -> dict[str, str]:
    found = re.search(r"\w+\.(\w+)", str(node.target))  # "aten.convolution.default", in several wrappings
    return {"name": node.name, "op_type": found[1] if found else node.name, "kernel": kernel}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


PLUGIN = ExecuTorchPte

"""Graph → context binary: compiled for one Snapdragon ahead of time, so that a phone loads it instead of compiling.

``model.onnx`` is a few nodes that stand for the compiled parts, ``model_qnn.bin`` is what the HTP runs. Qualcomm's
libraries compile it on x86 and are needed again on the device; their licence lets nobody ship them apart from an app,
so none of them goes along.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Placement
from ..errors import EngineError, PlacementError, UsageError
from ..placement import refusal
from ..runtimes.onnxruntime_qnn import ANY, SOC_KEY, OnnxRuntimeQnn, soc_name
from .onnx import FILE, OnnxFile

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..context import PassContext

_UNCOMPILED = "Failed to finalize QNN graph"


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How it is compiled.

    Args:
        soc_model: QNN's number of the SoC; a context binary is for one.
        finalization: 0 to 3: how long the compiler may look for a faster graph.
    """

    soc_model: int = 0
    finalization: int = 3

    def __post_init__(self) -> None:
        if self.soc_model < 0:
            raise ValueError(f"'soc_model' must be >= 0, got {self.soc_model}")
        if not 0 <= self.finalization <= 3:
            raise ValueError(f"'finalization' must be 0 to 3, got {self.finalization}")


class QnnContext:
    """Compiles in a process of its own: the libraries keep the first SoC that a process names."""

    name = "qnn_context"
    format = "qnn-context"
    Options = ContextOptions

    def write(
        self, model: ir.Model, directory: Path, precision: str, options: ContextOptions, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """See `exporters.ArtifactExporter.write`.

        Raises:
            UsageError: no SoC is stated.
            PlacementError: the HTP refuses operators; names them, their PyTorch modules and its reasons.
            EngineError: onnxruntime-qnn is missing, or cannot compile the graph.
        """
        if not options.soc_model:
            raise UsageError(
                "a context binary is compiled for one SoC: state its 'soc_model'", fix="For the 8 Elite it is 69."
            )
        with tempfile.TemporaryDirectory(prefix="edgekit-", dir=context.workdir, ignore_cleanup_errors=True) as folder:
            plain, _ = OnnxFile().write(model, Path(folder), precision, OnnxFile.Options(), context)
            placement, version = _compile(model, plain, directory / FILE, options, context)
        sdk = _mark(directory / FILE, options.soc_model)
        info = {
            "soc_model": options.soc_model,
            "soc": soc_name(options.soc_model),
            "onnxruntime_qnn": version,
            "qnn_sdk": sdk,
            "placement": placement.counts(),
        }
        return Artifact(directory / FILE, self.format, precision, plain.inputs, plain.outputs), info


def _compile(
    model: ir.Model, plain: Artifact, destination: Path, options: ContextOptions, context: PassContext
) -> tuple[Placement, str]:
    """Compile in a fresh process; where each node went, and the engine's version."""
    from ..devices.local import LocalDevice
    from ..graph import module_path

    asked = {
        "soc_model": options.soc_model,
        "finalization": options.finalization,
        "fallback": sorted(context.allow_fallback) or ([] if context.device else [ANY]),
    }
    device = LocalDevice()
    try:
        with device.open(plain, OnnxRuntimeQnn.name, {**asked, "context_file": str(destination)}) as worker:
            return worker.info.placement, worker.info.version
    except PlacementError as error:
        with device.open(plain, OnnxRuntimeQnn.name, {**asked, "fallback": [ANY]}) as worker:
            explained = refusal(
                worker.info.placement,
                devices=(context.device,) if context.device else (),
                target=context.target,
                allowed=context.allow_fallback,
                modules={node.name or "": module_path(node) for node in model.graph},
                advice=OnnxRuntimeQnn.advice,
            )
        raise explained or error from error
    except EngineError as error:
        if _UNCOMPILED not in error.what:
            raise
        with tempfile.TemporaryDirectory(prefix="edgekit-", dir=context.workdir, ignore_cleanup_errors=True) as folder:
            raise _uncompiled(model, Path(folder), asked, context) or error from error


def _uncompiled(model: ir.Model, folder: Path, asked: Mapping[str, Any], context: PassContext) -> EngineError | None:
    """The error that names the operators which pass the engine's validation and which its compiler cannot do.

    The compiler itself names none, so each distinct operator is compiled alone, with the quantizers around it.
    """
    from ..devices.local import LocalDevice
    from ..graph import module_path
    from ._units import units

    lines: list[str] = []
    found: list[str] = []
    everything = list(units(model))
    for index, (nodes, alone) in enumerate(everything):
        context.progress.step(index, len(everything), f"the HTP's compiler: {nodes[0].op_type}")
        place = folder / str(index)
        place.mkdir()
        plain, _ = OnnxFile().write(alone, place, "int8", OnnxFile.Options(), context)
        try:
            LocalDevice().open(plain, OnnxRuntimeQnn.name, {**asked, "fallback": [ANY]}).close()
        except EngineError as error:
            found.append(nodes[0].op_type)
            lines += [f"{node.op_type}  ({module_path(node) or node.name})  {_words(error)}" for node in nodes]
    if not found:
        return None
    hints = [OnnxRuntimeQnn.advice[name] for name in dict.fromkeys(found) if name in OnnxRuntimeQnn.advice]
    return EngineError(
        f"the HTP's compiler cannot do {len(lines)} operator{'s' if len(lines) > 1 else ''} in this precision",
        details=lines,
        fix=f"{'; '.join(hints) or 'Rewrite it with other operators'}, or choose another precision with --candidate.",
    )


def _words(error: EngineError) -> str:
    """QNN's own name of the error."""
    return f"QNN: {error.what.rsplit('Error: ', 1)[-1]}"


def _mark(path: Path, soc_model: int) -> str:
    """Write into the file which SoC it is for; returns the release of QNN that made it."""
    import onnx

    if not path.is_file():
        raise EngineError("onnxruntime-qnn compiled nothing: no node of the graph is for the HTP")
    wrapper = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(wrapper, {SOC_KEY: str(soc_model)})
    onnx.save(wrapper, path)
    told = (item.s.decode() for node in wrapper.graph.node for item in node.attribute if item.name == "ep_sdk_version")
    return next(told, "")


PLUGIN = QnnContext

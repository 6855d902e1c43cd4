"""ONNX graph → OpenVINO IR (``.xml`` and ``.bin``), optionally quantized by NNCF on the way."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact, Feeds
from ..errors import EngineError, UsageError
from ..quiet import quiet
from ..runtimes._values import unconverted

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..context import PassContext


@dataclass(frozen=True, slots=True)
class IrOptions:
    """What a target profile may state. Everything but ``quantize`` tunes NNCF."""

    quantize: str | None = None  # None, or "nncf": post-training int8
    preset: str = "auto"  # "performance" (symmetric), "mixed" (asymmetric activations); auto: mixed for transformers
    model_type: str = "auto"  # "transformer", "any"; auto: transformer where the graph has attention
    smooth_quant: float | None = None  # SmoothQuant's alpha for MatMul, 0 to 1; negative: off; None: NNCF's choice
    fast_bias_correction: bool = True  # False: slower, sometimes better

    def __post_init__(self) -> None:
        for field, allowed in (
            ("quantize", (None, "nncf")),
            ("preset", ("auto", "performance", "mixed")),
            ("model_type", ("auto", "transformer", "any")),
        ):
            if getattr(self, field) not in allowed:
                names = ", ".join(f"'{item}'" for item in allowed if item)
                raise ValueError(f"'{field}' must be one of {names}, got '{getattr(self, field)}'")
        if self.smooth_quant is not None and self.smooth_quant > 1:
            raise ValueError(f"'smooth_quant' must be at most 1, got {self.smooth_quant}")


class OpenVinoIr:
    """Writes ``model.xml`` and ``model.bin``. Weights keep the dtype they have in the graph."""

    name = "openvino_ir"
    format = "openvino-ir"
    Options = IrOptions

    def write(
        self, model: ir.Model, directory: Path, precision: str, options: IrOptions, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """See `exporters.ArtifactExporter.write`.

        Raises:
            EngineError: openvino or nncf is missing, or one of them refuses the graph; with its own words.
            UsageError: quantization without calibration data.
        """
        from ..graph import specs

        ov = _import("openvino")
        inputs, outputs = specs(model)
        done: dict[str, Any] = {"options": asdict(options)}
        path = directory / "model.xml"
        with _converted(ov, model, context.workdir) as converted:
            if options.quantize:
                converted, details = _quantize(converted, model, options, context)
                done |= details
            _restore_names(converted, [spec.name for spec in inputs], [spec.name for spec in outputs])
            try:
                ov.save_model(converted, path, compress_to_fp16=False)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO cannot write its IR: {_last_line(error)}") from error
        return Artifact(path, self.format, precision, inputs, outputs), done


@contextlib.contextmanager
def _converted(ov: ModuleType, model: ir.Model, workdir: Path | None) -> Iterator[Any]:
    """The graph as an ``openvino.Model``. It reads its weights from a file that lives as long as the with."""
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(prefix="edgekit-", dir=workdir, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")  # inside the file they would be limited to 2 GB
        try:
            converted = ov.Core().read_model(path)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot convert the graph: {unconverted(error) or _last_line(error)}"
            ) from error
        yield converted


class _Samples:
    """The calibration samples as NNCF wants them: an iterable of known length that can be walked more than once."""

    def __init__(self, context: PassContext) -> None:
        self.context = context

    def __len__(self) -> int:
        return self.context.calibration_samples

    def __iter__(self) -> Iterator[Feeds]:
        assert self.context.calibration is not None
        for index, feeds in enumerate(self.context.calibration()):
            yield dict(feeds)
            self.context.progress.step(index + 1, len(self), "nncf: calibration")


def _quantize(converted: Any, model: ir.Model, options: IrOptions, context: PassContext) -> tuple[Any, dict[str, Any]]:
    if context.calibration is None or not context.calibration_samples:
        raise UsageError("int8 through NNCF needs calibration data", fix="Pass samples with --data.")
    transformer = options.model_type == "transformer" or (options.model_type == "auto" and has_attention(model))
    ignored = ignored_operations(converted, model, context.keep_float)
    with quiet("nncf", environment={"NNCF_CI": "1"}) as words:  # no telemetry, no progress bars
        nncf = _import("nncf")
        advanced = nncf.AdvancedQuantizationParameters()
        if options.smooth_quant is not None:
            advanced.smooth_quant_alphas.matmul = options.smooth_quant
        preset = {
            "auto": None,
            "performance": nncf.QuantizationPreset.PERFORMANCE,
            "mixed": nncf.QuantizationPreset.MIXED,
        }[options.preset]
        try:
            quantized = nncf.quantize(
                converted,
                nncf.Dataset(_Samples(context)),
                preset=preset,
                subset_size=context.calibration_samples,
                fast_bias_correction=options.fast_bias_correction,
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
                advanced_parameters=advanced,
            )
        # NNCF fails with whatever its internals raise (AttributeError on a full T5): all of it is its own words.
        except Exception as error:
            raise EngineError(
                f"NNCF cannot quantize this model: {type(error).__name__}: {_last_line(error)}",
                details=words.getvalue().strip().splitlines()[-3:],
                fix="Use pass quantize_static on the ONNX graph instead, or another precision.",
            ) from error
    count = sum(op.get_type_name() == "FakeQuantize" for op in quantized.get_ops())
    return quantized, {
        "quantizer": f"nncf {nncf.__version__}",
        "model_type": "transformer" if transformer else "any",
        "fake_quantize": count,
        "kept_float": sorted(context.keep_float),
    }


def has_attention(model: ir.Model) -> bool:
    """Whether the graph holds attention: an Attention node, or a Softmax beside a product of two computed matrices."""
    import onnx_ir as ir

    types = {node.op_type for node in model.graph}
    if types & {"Attention", "MultiHeadAttention", "GroupQueryAttention"}:
        return True
    return "Softmax" in types and any(
        node.op_type in ("MatMul", "FusedMatMul")
        and all(value is not None and ir.convenience.get_const_tensor(value) is None for value in node.inputs)
        for node in model.graph
    )


def ignored_operations(converted: Any, model: ir.Model, keep_float: frozenset[str]) -> list[str]:
    """OpenVINO's names of the operations that the ONNX nodes ``keep_float`` became.

    One node may have become several (Conv with bias: Convolution and Add). They lie between the tensors that the node
    reads and the ones it computes, and OpenVINO keeps the tensors' names.
    """
    by_tensor = {name: output for op in converted.get_ops() for output in op.outputs() for name in output.get_names()}
    found: set[str] = set()
    for node in model.graph:
        if node.name not in keep_float:
            continue
        border = {value.name for value in node.inputs if value is not None}
        pending = [by_tensor[value.name].get_node() for value in node.outputs if value.name in by_tensor]
        while pending:
            op = pending.pop()
            name = op.get_friendly_name()
            if name in found or op.get_type_name() in ("Parameter", "Constant"):
                continue
            found.add(name)
            pending += [
                value.get_source_output().get_node()
                for value in op.inputs()
                if not border & value.get_source_output().get_names()
            ]
    return sorted(found)


def _restore_names(converted: Any, inputs: list[str], outputs: list[str]) -> None:
    """Make sure that every input and output goes by the graph's name, in the graph's order."""
    for kind, ports, names in (("inputs", converted.inputs, inputs), ("outputs", converted.outputs, outputs)):
        if len(ports) != len(names):
            raise EngineError(f"OpenVINO's model has {len(ports)} {kind}, the graph {len(names)} ({', '.join(names)})")
        for port, name in zip(ports, names, strict=True):
            if name not in port.get_names():
                port.get_tensor().add_names({name})


def _import(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise EngineError(
            f"{name} is not installed or cannot be loaded: {error}", fix=f"Install it: pip install {name}"
        ) from error


def _last_line(error: Exception) -> str:
    """The line of an engine's message that says what is wrong: its last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


PLUGIN = OpenVinoIr

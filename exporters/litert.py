"""PyTorch program → LiteRT's ``model.tflite``, optionally quantized on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Artifact
from ..errors import EngineError, UsageError
from ..quiet import TORCH, quiet

if TYPE_CHECKING:
    from ..context import PassContext
    from ..sources.source import Source

FILE = "model.tflite"
_SIGNATURE = "serving_default"
_INSTALL = "pip install litert-torch"
_QUIETING = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # keep its C++ logs off the terminal


@dataclass(frozen=True, slots=True)
class TfliteOptions:
    """What a target profile may state.

    Args:
        quantize: None, or by ai-edge-quantizer: "static" (int8 weights and activations, by calibration), "dynamic"
            (int8 weights, ranges of activations at run time).
    """

    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.quantize not in (None, "static", "dynamic"):
            raise ValueError(f"'quantize' must be 'static' or 'dynamic', got '{self.quantize}'")


class LiteRtTflite:
    """Writes ``model.tflite``. Integers of 64 bits stay as they are; the converter would make 32 of them by default."""

    name = "litert"
    format = "tflite"
    packages = ("litert-torch",)
    Options = TfliteOptions

    @staticmethod
    def needs_calibration(options: TfliteOptions) -> bool:
        """Dynamic int8 needs no samples."""
        return options.quantize == "static"

    def write_program(
        self, source: Source, directory: Path, precision: str, options: TfliteOptions, context: PassContext
    ) -> tuple[Artifact, Mapping[str, Any]]:
        """See `edgekit.exporters.ProgramExporter`.

        Raises:
            EngineError: litert-torch is missing, or refuses the program; with its own words.
            UsageError: static quantization without calibration data.
        """
        import torch

        assert source.program is not None
        path = directory / FILE
        example = tuple(torch.from_numpy(source.example[spec.name]) for spec in source.inputs)
        with quiet(*TORCH, environment=_QUIETING):
            try:
                import litert_torch
            except ImportError as error:
                raise EngineError(
                    f"litert-torch is not installed or cannot be loaded: {error}", fix=_INSTALL
                ) from error
            try:
                litert_torch.convert(source.program.module(), example, enable_x64=True).export(str(path))
            # Its passes raise whatever they meet; all of it is about this program.
            except Exception as error:
                raise EngineError(f"LiteRT cannot convert {source.spec}: {_first_line(error)}") from error
            if options.quantize:
                _quantize(path, source, options, context)
        return Artifact(path, self.format, precision, source.inputs, source.outputs), {"options": asdict(options)}


def _quantize(path: Path, source: Source, options: TfliteOptions, context: PassContext) -> None:
    """Replace the file by its int8 form; inputs and outputs stay in floating point."""
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    static = options.quantize == "static"
    if static and (context.calibration is None or not context.calibration_samples):
        raise UsageError("int8 through ai-edge-quantizer needs calibration data", fix="Pass samples with --data.")
    rules = recipe.static_wi8_ai8() if static else recipe.dynamic_wi8_afp32()
    try:
        work = quantizer.Quantizer(str(path), rules)
        if static:  # its recipe would make the model's own inputs and outputs int8 too
            for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                work.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
        ranges = None
        if static:
            # Not `work.calibrate`: its moving average (0.95 of the old range each time) hardly leaves the first one's.
            rules_in_force = recipe_manager.RecipeManager()
            rules_in_force.load_quantization_recipe(work.get_quantization_recipe())
            meter = calibrator.Calibrator(str(path), qsv_update_func=qsv_utils.min_max_update)
            meter.calibrate({_SIGNATURE: _Samples(source, context)}, rules_in_force)
            ranges = meter.get_model_qsvs()
        quantized = work.quantize(ranges).quantized_model
    # It raises whatever it meets; all of it is about this model.
    except Exception as error:
        raise EngineError(f"ai-edge-quantizer cannot quantize {source.spec}: {_first_line(error)}") from error
    if quantized is None:
        raise EngineError(f"ai-edge-quantizer returned no model for {source.spec}")
    path.write_bytes(bytes(quantized))


class _Samples:
    """The calibration samples as ai-edge-quantizer wants them: by the names in the file, as often as it asks."""

    def __init__(self, source: Source, context: PassContext) -> None:
        self._source, self._context = source, context

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self._context.calibration is not None
        names = [spec.name for spec in self._source.inputs]
        for index, feeds in enumerate(self._context.calibration()):
            yield {f"args_{place}": feeds[name] for place, name in enumerate(names)}
            self._context.progress.step(index + 1, self._context.calibration_samples, "litert: calibration")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


PLUGIN = LiteRtTflite

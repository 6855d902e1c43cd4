"""Does the worst part of an output tell what is right from what is damaged?

    python benchmarks/parts.py [MODEL…]

Each model is built and damaged in many ways, in ONNX Runtime and OpenVINO. A judge that knows nothing of decibels
tells how much of what a user reads is still there: 0.95 and more is right, less than 0.8 damaged, between them
nothing is claimed. The table shows what the whole output's ratio and that of its worst part say; below it, for
bounds of either, how many of the right are refused (false alarms) and how many of the damaged pass (misses).
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _parts_models
import numpy as np
import onnx_ir as ir
import torch
from _parts_models import Answers, Array, Subject
from onnxscript import version_converter

from edgekit.context import PassContext
from edgekit.measure.parity import ParityMeter
from edgekit.passes.convert_float16 import ConvertFloat16
from edgekit.passes.quantize_static import Options, QuantizeStatic

RIGHT, DAMAGED = 0.95, 0.8


def graph_of(subject: Subject, samples: list[dict[str, Array]], folder: Path) -> Path:
    found = subject.load()
    path = folder / "model.onnx"
    if isinstance(found, Path):
        model = ir.load(found)
        if model.opset_imports[""] < 13:  # the first with scales per channel
            version_converter.convert_version(model, 20, fallback=True)  # in place
        ir.save(model, path)
        return path
    example = tuple(torch.from_numpy(np.array(item)) for item in samples[0].values())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(found.eval(), example, dynamo=True, opset_version=20, input_names=list(samples[0]))
        program.save(path)
    return path


def with_onnxruntime(path: Path, samples: list[dict[str, Array]], optimize: bool = True) -> Answers:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(None, item) for item in samples]


def with_openvino(path: Path, samples: list[dict[str, Array]], precision: str) -> Answers:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return [[np.array(value) for value in compiled(item).values()] for item in samples]


def by_pass(path: Path, samples: list[dict[str, Array]], folder: Path, kind: type[Any], options: Any) -> Path:
    context = PassContext(calibration=lambda: iter(samples), calibration_samples=len(samples), workdir=folder)
    model = kind(options, context)(ir.load(path))
    model = model.model if hasattr(model, "model") else model[0] if isinstance(model, tuple) else model
    out = folder / f"{kind.name}-{abs(hash(str(options)))}.onnx"
    ir.save(model, out)
    return out


def by_onnxruntime(path: Path, samples: list[dict[str, Array]], folder: Path, **options: Any) -> Path:
    """Its own quantizer, as its documentation shows."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    out = folder / f"ort-{abs(hash(str(options)))}.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(str(path), str(out), Reader(), quant_format=QuantFormat.QDQ, **options)
    return out


def poisoned(samples: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """One sample is a hundred times too large."""
    first = {k: v * 100 if v.dtype.kind == "f" else v for k, v in samples[0].items()}
    return [first, *samples[1:]]


def one_scale(want: Answers) -> Answers:
    """Each output rounded to 8 bits over its whole range, as one scale for all of it does."""
    outs = list(zip(*want, strict=True))
    steps = [max((max(v.max() for v in out) - min(v.min() for v in out)) / 255, 1e-30) for out in outs]
    return [
        [np.round(v / step).astype(v.dtype) * v.dtype.type(step) for v, step in zip(item, steps, strict=True)]
        for item in want
    ]


def without_signal(want: Answers, axis: int, index: slice, output: int = 0) -> Answers:
    """Part of an output is its own mean everywhere."""
    changed = []
    place = (slice(None),) * axis + (index,)
    mean = np.mean([item[output][place].mean() for item in want])
    for item in want:
        copy = [np.array(v) for v in item]
        copy[output][place] = mean
        changed.append(copy)
    return changed


def candidates(
    subject: Subject, path: Path, samples: list[dict[str, Array]], want: Answers, folder: Path
) -> Iterator[tuple[str, Callable[[], Answers]]]:
    """Name → how it is made."""
    ort = with_onnxruntime
    yield "ort fp32", lambda: ort(path, samples)
    yield "ov fp32", lambda: with_openvino(path, samples, "f32")
    yield "ov bf16", lambda: with_openvino(path, samples, "bf16")
    yield "fp16", lambda: ort(by_pass(path, samples, folder, ConvertFloat16, ConvertFloat16.Options()), samples)
    for name, options in {
        "int8": Options(),
        "int8 per tensor": Options(per_channel=False),
        "int8 whole": Options(whole_graph=True),
        "w8a16 whole": Options(whole_graph=True, activations="uint16"),
        "w4a16 whole": Options(whole_graph=True, activations="uint16", weights="int4"),
    }.items():
        yield name, lambda o=options: ort(by_pass(path, samples, folder, QuantizeStatic, o), samples)
    yield (
        "int8 poisoned",
        lambda: ort(by_pass(path, poisoned(samples), folder, QuantizeStatic, Options(method="minmax")), samples),
    )
    yield "ort int8", lambda: ort(by_onnxruntime(path, samples, folder, per_channel=True), samples)
    yield "one scale", lambda: one_scale(want)
    shape = want[0][0].shape
    if len(shape) > 1:
        yield (
            "last column gone",
            lambda: without_signal(want, len(shape) - 1 if len(shape) == 2 else 1, slice(-1, None)),
        )


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_grad_enabled(False)
    rows = []
    print(f"{'model':20} {'candidate':18} {'judge':>6}  {'whole':>7} {'part':>7}  part")
    for subject in _parts_models.subjects():
        if sys.argv[1:] and not any(word in subject.name for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as name:
            folder, samples = Path(name), subject.samples()
            try:
                path = graph_of(subject, samples, folder)
                want = with_onnxruntime(path, samples, optimize=False)
            except (FileNotFoundError, ModuleNotFoundError) as error:
                print(f"{subject.name:20} left out ({error}): pip install --no-deps {subject.package}")
                continue
            for candidate, make in candidates(subject, path, samples, want, folder):
                try:
                    with contextlib.redirect_stderr(io.StringIO()):
                        got = make()
                except Exception as error:  # noqa: BLE001 (an engine that refuses a model is a row)
                    print(f"{subject.name:20} {candidate:18} {type(error).__name__}: {str(error).splitlines()[0][:90]}")
                    continue
                meter = ParityMeter()
                for w, g in zip(want, got, strict=True):
                    meter.add(
                        {str(i): v for i, v in enumerate(w)}, {str(i): v.astype(w[i].dtype) for i, v in enumerate(g)}
                    )
                parity = meter.result()
                worst = parity.worst
                judged = subject.judge(want, got)
                if candidate.endswith("gone") and judged >= DAMAGED:
                    continue  # the judge does not read that column
                mark = "right" if judged >= RIGHT else "DAMAGED" if judged < DAMAGED else ""
                place = f"{worst.name}{worst.part.index}" if worst is not None and worst.part else ""
                rows.append((subject.name, candidate, judged, parity.sqnr_db, parity.part_db))
                found = f"{parity.sqnr_db:7.1f} {parity.part_db:7.1f}"
                print(
                    f"{subject.name:20} {candidate:18} {judged:6.3f}  {found}  {place:22} {mark}",
                    flush=True,
                )
    summary(rows)


Row = tuple[str, str, float, float, float]
"""Model, candidate, what the judge says, dB of the whole and of the worst part."""
BOUNDS = ((20, None), (20, 0), (20, 3), (20, 6), (20, 8), (20, 10), (8, None), (8, 3), (8, 6), (8, 8), (15, 6))


def summary(rows: list[Row]) -> None:
    right, damaged = [r for r in rows if r[2] >= RIGHT], [r for r in rows if r[2] < DAMAGED]
    print(f"\n{len(right)} right, {len(damaged)} damaged, {len(rows) - len(right) - len(damaged)} between")
    print(f"{'bounds':34} {'right refused':>20} {'damaged passed':>15}")
    for whole, part in BOUNDS:
        least = -np.inf if part is None else part
        alarms = [r for r in right if r[3] < whole or r[4] < least]
        by_parts = [r for r in alarms if r[3] >= whole]
        missed = [f"{r[0]}/{r[1]}" for r in damaged if r[3] >= whole and r[4] >= least]
        text = f"whole {whole} dB" + ("" if part is None else f", worst part {part} dB")
        counts = f"{len(alarms):4} ({len(by_parts):2} by the parts) {len(missed):15}"
        print(f"{text:34} {counts}   {'; '.join(missed[:6])}")


if __name__ == "__main__":
    main()

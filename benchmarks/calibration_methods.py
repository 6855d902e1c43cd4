"""Which calibration method measures best: what `quantize_static` does to the trained models with each.

    python benchmarks/calibration_methods.py [MODEL…]

Every model is calibrated on its calibration samples and judged on others, in ONNX Runtime. Trained weights and real
data only (digits, MiniLM) count for the default; models with random weights can be named too.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import _models
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgekit.context import PassContext
from edgekit.passes.quantize_static import Options, QuantizeStatic

CASES = (
    ("minmax", Options(method="minmax")),
    ("percentile 99.9", Options(method="percentile", percentile=99.9)),
    ("percentile 99.99", Options(method="percentile", percentile=99.99)),
    ("percentile 99.999", Options(method="percentile", percentile=99.999)),
    ("mse", Options(method="mse")),
    ("entropy", Options(method="entropy")),
)


def export(subject: _models.Subject) -> ir.Model:
    import torch

    feeds = subject.evaluation[0]
    free = {}
    if subject.name == "minilm":
        length = {1: torch.export.Dim("length", min=2, max=512)}
        free = {"dynamic_shapes": tuple(length for _ in feeds)}
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            subject.module, subject.example, dynamo=True, opset_version=20, input_names=list(feeds), **free
        )
    return program.model


def compute(model: ir.Model, feeds: list[_models.Feeds]) -> list[NDArray[np.float32]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(None, item)[0] for item in feeds]


def sqnr_db(want: list[NDArray[np.float32]], got: list[NDArray[np.float32]]) -> float:
    noise = sum(float(np.sum((a - b) ** 2)) for a, b in zip(want, got, strict=True))
    return float(10 * np.log10(sum(float(np.sum(a**2)) for a in want) / noise))


def accuracy(subject: _models.Subject, want: list[NDArray[np.float32]], got: list[NDArray[np.float32]]) -> str:
    """Top-1 where there are labels, else the mean cosine of each sample's output to the float one."""
    if subject.labels is not None:
        return f"top1 {np.mean([y.argmax() for y in got] == subject.labels[: len(got)]) * 100:.2f} %"
    cosines = [float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in zip(want, got, strict=True)]
    return f"cosine {np.mean(cosines):.4f}"


def compare(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subject = _models.load(name, Path(folder))
        model = export(subject)
    want = compute(model, subject.evaluation)
    context = PassContext(calibration=lambda: iter(subject.calibration), calibration_samples=len(subject.calibration))
    print(f"{name}: float {accuracy(subject, want, want)}")
    for label, options in CASES:
        quantized = QuantizeStatic(options, context)(model.clone()).model
        got = compute(quantized, subject.evaluation)
        print(f"  {label:<20}{sqnr_db(want, got):>7.2f} dB   {accuracy(subject, want, got)}", flush=True)


def main() -> int:
    names = sys.argv[1:] or ["digits", "minilm"]
    if len(names) == 1:
        compare(names[0])
        return 0
    # A process each: the examples' modules have the same names.
    return max(subprocess.run([sys.executable, __file__, name], check=False).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())

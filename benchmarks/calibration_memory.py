"""Peak memory of calibration: the same for 16 samples as for 512, within 5 %.

    python benchmarks/calibration_memory.py

MobileNetV2 (transformers, from its config), each row in a process of its own that only calibrates; the samples are made
as they are asked for. ONNX Runtime's own percentile calibrator is given 16 for comparison: it keeps every activation of
every sample, so it cannot be given 512. The exit code is 1 when ours grows by more than 5 %.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 1.05
METHODS = ("minmax", "percentile", "mse", "entropy")


def samples(count: int) -> Iterator[dict[str, NDArray[Any]]]:
    for seed in range(count):
        yield {"image": np.random.default_rng(seed).standard_normal((1, 3, 224, 224), dtype=np.float32)}


def ours(model: Path, method: str, count: int) -> None:
    import onnx_ir as ir

    from edgekit.context import PassContext
    from edgekit.passes.quantize_static import Options, QuantizeStatic

    context = PassContext(calibration=lambda: samples(count), calibration_samples=count)
    QuantizeStatic(Options(method=method), context)(ir.load(model))


def onnxruntimes(model: Path, method: str, count: int) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = samples(count)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            model,
            ["Conv", "Add", "Gemm"],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=getattr(CalibrationMethod, method.capitalize()),
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def child(who: str, model: str, method: str, count: str) -> None:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        (ours if who == "edgekit" else onnxruntimes)(Path(model), method, int(count))
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"peak_bytes": peak, "seconds": time.perf_counter() - start}))


def measure(*arguments: str) -> tuple[float, float]:
    """Peak in MB and seconds, of a fresh process."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["peak_bytes"] / 1e6, found["seconds"]


def export(path: Path) -> None:
    """In a process of its own too: a child counts what its parent held when it was started as its own peak."""
    import torch
    from _models import IMAGE_MODELS

    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            IMAGE_MODELS["mobilenet_v2"]().eval(),
            (torch.zeros(1, 3, 224, 224),),
            dynamo=True,
            opset_version=20,
            input_names=["image"],
        )
    program.save(path)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mobilenet_v2.onnx"
        subprocess.run([sys.executable, __file__, "export", str(model)], check=True)
        print(f"{'calibrator':<28}{'16 samples':>16}{'512 samples':>18}{'ratio':>8}")
        grows = False
        for method in METHODS:
            few, few_s = measure("edgekit", str(model), method, "16")
            many, many_s = measure("edgekit", str(model), method, "512")
            grows |= many / few > LIMIT
            line = f"{few:>6.0f} MB {few_s:>4.0f} s{many:>9.0f} MB {many_s:>4.0f} s{many / few:>9.3f}"
            print(f"{'edgekit ' + method:<28}{line}", flush=True)
        peak, seconds = measure("onnxruntime", str(model), "percentile", "16")
        print(f"{'onnxruntime percentile':<28}{peak:>6.0f} MB {seconds:>4.0f} s")
    return int(grows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["export"]:
        export(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        child(*sys.argv[1:])
    else:
        sys.exit(main())

"""What an export costs beyond the library calls it stands for: `export` of ResNet-50 ÷ the same calls made bare.

    python benchmarks/overhead.py [--model resnet50] [--repeats 2] [--samples 32] [--quick] [--json FILE]

The bare program makes one call of each kind that a person would make by hand for the same result: torch.onnx.export,
PyTorch on every sample, ONNX Runtime's and NNCF's quantizers with their defaults, one session a candidate, as many
inferences as edgekit made to check and to measure, and the files. It makes them in one process; it has no passes, no
fresh processes for measuring, no checks, hashes or bundle: those are the overhead. Both sides run in fresh processes,
one after the other, imports included. At most 1.5 must come out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _models
import numpy as np

LIMIT = 1.5
THREADS = 2
SESSIONS = {
    "onnxruntime fp32": ("onnxruntime", "fp32.onnx", {}),
    "onnxruntime int8 static": ("onnxruntime", "int8.onnx", {}),
    "onnxruntime int8 dynamic": ("onnxruntime", "dynamic.onnx", {}),
    "openvino fp32": ("openvino", "ir.xml", {"INFERENCE_PRECISION_HINT": "f32"}),
    "openvino bf16": ("openvino", "ir.xml", {"INFERENCE_PRECISION_HINT": "bf16"}),
    "openvino int8": ("openvino", "nncf.xml", {"INFERENCE_PRECISION_HINT": "f32"}),
    "openvino int8 bf16": ("openvino", "nncf.xml", {"INFERENCE_PRECISION_HINT": "bf16"}),
    "openvino int8 qdq": ("openvino", "int8.onnx", {"INFERENCE_PRECISION_HINT": "f32"}),
}
"""Candidate of target `cpu` → the engine, the file and the settings that it comes to."""


class Stages:
    """Wall time by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_edgekit(name: str, folder: Path, samples: int) -> dict[str, Any]:
    stages = Stages()
    with stages.stage("imports and the model"):
        from edgekit.api.export import export

        subject = _models.load(name, folder)
    for part, feeds in (("calibration", subject.calibration), ("evaluation", subject.evaluation)):
        arrays = {key: np.concatenate([item[key] for item in feeds[:samples]]) for key in feeds[0]}
        np.savez(folder / f"{part}.npz", **arrays)
    result = export(
        (subject.module, subject.example),
        target="cpu",
        output=folder / "overhead.edgekit",
        data=str(folder / "evaluation.npz"),
        calibration_data=str(folder / "calibration.npz"),
        threads=THREADS,
        overwrite=True,
        **subject.accuracy,
    )
    made = [item for item in result.candidates if item.parity is not None]
    return {
        "stages": stages.seconds | dict(result.stages),
        "chosen": result.chosen,
        # What the bare program has to do as well: which candidates, and how often each ran to be measured.
        "runs": {item.name: item.latency.n if item.latency else 0 for item in made},
        "repaired": [item.name for item in made if item.kept_float],
    }


def run_bare(name: str, folder: Path, samples: int, runs: dict[str, int]) -> dict[str, Any]:
    stages = Stages()
    with stages.stage("imports and the model"):
        import nncf
        import onnxruntime
        import openvino
        import torch
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
        from peers_cpu import preprocess

        subject = _models.load(name, folder)
    calibration, evaluation = subject.calibration[:samples], subject.evaluation[:samples]
    out = folder / "bare"
    out.mkdir(exist_ok=True)

    with stages.stage("export to ONNX"):
        names = list(evaluation[0])
        program = torch.onnx.export(
            subject.module, subject.example, input_names=names, dynamo=True, opset_version=20, verbose=False
        )
        assert program is not None
        program.save(out / "fp32.onnx")
    with stages.stage("run the reference"), torch.inference_mode():
        for feeds in evaluation:
            subject.module(*(torch.from_numpy(array) for array in feeds.values()))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(calibration)

        def get_next(self) -> _models.Feeds | None:
            return next(self._feeds, None)

    needed = {SESSIONS[item][1] for item in runs if item in SESSIONS}
    with stages.stage("quantize with onnxruntime"):
        preprocess(out / "fp32.onnx", out / "pre.onnx")
        if "int8.onnx" in needed:
            quantize_static(
                str(out / "pre.onnx"),
                str(out / "int8.onnx"),
                Reader(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        if "dynamic.onnx" in needed:
            quantize_dynamic(str(out / "pre.onnx"), str(out / "dynamic.onnx"))
    with stages.stage("convert and quantize with openvino and nncf"):
        model = openvino.Core().read_model(out / "fp32.onnx")
        openvino.save_model(model, out / "ir.xml", compress_to_fp16=False)
        if "nncf.xml" in needed:
            kind = nncf.ModelType.TRANSFORMER if subject.is_transformer else None
            quantized = nncf.quantize(model, nncf.Dataset(calibration), model_type=kind, subset_size=samples)
            openvino.save_model(quantized, out / "nncf.xml", compress_to_fp16=False)

    left_out = []
    for candidate, count in runs.items():
        if candidate not in SESSIONS:
            left_out.append(candidate)
            continue
        engine, file, settings = SESSIONS[candidate]
        with stages.stage("open, check and measure"):
            if engine == "onnxruntime":
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = THREADS
                session = onnxruntime.InferenceSession(str(out / file), options, providers=["CPUExecutionProvider"])
                call = lambda feeds, session=session: session.run(None, feeds)  # noqa: E731
            else:
                values = {"INFERENCE_NUM_THREADS": THREADS, **settings}
                request = openvino.Core().compile_model(out / file, "CPU", values).create_infer_request()
                call = lambda feeds, request=request: request.infer(feeds)  # noqa: E731
            for feeds in evaluation:
                call(feeds)
            for index in range(count):
                call(evaluation[index % len(evaluation)])
    return {"stages": stages.seconds, "left_out": left_out}


def side(which: str, arguments: argparse.Namespace, folder: Path, runs: dict[str, int]) -> dict[str, Any]:
    """Run one side in a fresh process: what it reports, with the whole process's wall time."""
    answer = folder / f"{which}.json"
    command = [sys.executable, __file__, "--side", which, str(folder), str(answer), json.dumps(runs)]
    command += ["--model", arguments.model, "--samples", str(arguments.samples)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return {"total_s": seconds, **found}


def show(title: str, found: dict[str, Any]) -> str:
    lines = [f"{title}: {found['total_s']:.1f} s"]
    lines += [f"  {name:46} {seconds:7.1f} s" for name, seconds in found["stages"].items()]
    return "\n".join([*lines, f"  {'the rest':46} {found['total_s'] - sum(found['stages'].values()):7.1f} s"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", choices=_models.NAMES)
    parser.add_argument("--samples", type=int, default=32, help="samples to calibrate with, and as many to check on")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one repeat with 4 samples: checks the script alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        which, folder, answer, runs = arguments.side
        if which == "edgekit":
            found = run_edgekit(arguments.model, Path(folder), arguments.samples)
        else:
            found = run_bare(arguments.model, Path(folder), arguments.samples, json.loads(runs))
        Path(answer).write_text(json.dumps(found))
        return 0
    if arguments.quick:
        arguments.repeats, arguments.samples = 1, 4

    ratios, pairs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _models.load(arguments.model, folder)  # makes its weights: nobody's cost
        for repeat in range(arguments.repeats):
            ours = side("edgekit", arguments, folder, {})
            bare = side("bare", arguments, folder, ours["runs"])
            ratios.append(ours["total_s"] / bare["total_s"])
            pairs.append({"edgekit": ours, "bare": bare})
            print(f"repeat {repeat + 1} of {arguments.repeats}, {arguments.model}, picked {ours['chosen']}")
            print(show("edgekit export", ours))
            print(show("bare library calls", bare))
            notes = {"made by edgekit alone": bare["left_out"], "with nodes kept in float": ours["repaired"]}
            print("\n".join(f"  {what}: {', '.join(names)}" for what, names in notes.items() if names))
            print(f"edgekit ÷ bare: {ratios[-1]:.2f}", flush=True)
    median = float(np.median(ratios))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} repeats"
    print(
        f"edgekit ÷ bare: median {median:.2f} ({spread}), at most {LIMIT}: {'holds' if median <= LIMIT else 'MISSED'}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"median": median, "ratios": ratios, "repeats": pairs}, indent=2) + "\n")
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

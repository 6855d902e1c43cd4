"""edgekit's pick beside what a user would get from each engine alone, on this machine's CPU.

    python benchmarks/peers_cpu.py [--models resnet50,minilm] [--threads 1,2] [--quick] [--json FILE]

Peers: torch eager, torch.compile, ONNX Runtime as it comes, ONNX Runtime static int8 as its documentation shows,
OpenVINO as it comes (bf16 on CPUs that have it), NNCF int8 on OpenVINO. All are timed in fresh processes in
interleaved blocks (_turns.py), each through its own API's fastest plain call with inputs prepared beforehand. The error
is the relative L2 distance of all outputs from torch eager's in fp32.

Where ExecuTorch or LiteRT is installed, a row each shows what edgekit picks on it (targets cpu-executorch, cpu-litert):
beside the others, not a peer of target `cpu`, which does not use these engines.

What must hold: pick ÷ the fastest peer that is no more accurate than the pick <= 1.03, on every row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _models
import numpy as np
from _turns import Peer, ratio, serve, take_turns

from edgekit.errors import EdgekitError

LIMIT = 1.03
PEERS = {
    "torch eager": "torch",
    "torch.compile": "torch",
    "onnxruntime": "onnxruntime",
    "onnxruntime int8": "onnxruntime",
    "openvino": "openvino",
    "nncf int8": "openvino",
}
PICK = "edgekit"
OTHERS = {"executorch": "cpu-executorch", "litert": "cpu-litert"}
"""Engine → the target of ours that uses it alone; a row where it is installed."""

_OPEN_FOR_LIFE = ExitStack()
Call = Callable[[], object]
Run = Callable[[_models.Feeds], Any]


# ── The engines: each opener returns (run for the error, hot call for the clock) ─────────────────────────────────────


def open_torch(model: str, folder: str, threads: int, compiled: bool) -> tuple[Run, Callable[[_models.Feeds], Call]]:
    import torch

    torch.set_num_threads(threads)
    _OPEN_FOR_LIFE.enter_context(torch.inference_mode())
    module = _models.load(model, Path(folder)).module
    callee = torch.compile(module) if compiled else module

    def bind(feeds: _models.Feeds) -> Call:
        tensors = tuple(torch.from_numpy(array) for array in feeds.values())
        return lambda: callee(*tensors)

    return lambda feeds: bind(feeds)().numpy(), bind


def open_onnxruntime(path: str, threads: int) -> tuple[Run, Callable[[_models.Feeds], Call]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)[0], lambda feeds: lambda: session.run(None, feeds)


def open_openvino(path: str, threads: int) -> tuple[Run, Callable[[_models.Feeds], Call]]:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()

    def bind(feeds: _models.Feeds) -> Call:
        for name, array in feeds.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return lambda: request.infer(share_outputs=True)

    return lambda feeds: next(iter(request.infer(feeds).values())), bind


def open_edgekit(path: str) -> tuple[Run, Callable[[_models.Feeds], Call]]:
    from edgekit import open_bundle

    session = open_bundle(path).session()
    return lambda feeds: next(iter(session.run(feeds).values())), session.bind


OPEN = {"torch": open_torch, "onnxruntime": open_onnxruntime, "openvino": open_openvino, "edgekit": open_edgekit}


def opener(kind: str) -> Callable[..., Call]:
    """For the worker: write the outputs of every evaluation sample, once, and return the hot call on the first."""

    def open_(evaluation: str, outputs: str, **arguments: Any) -> Call:
        samples = list(_read(Path(evaluation)))
        _OPEN_FOR_LIFE.callback(samples.clear)  # engines hold their inputs by address
        run, bind = OPEN[kind](**arguments)
        if not Path(outputs).exists():
            np.save(outputs, np.concatenate([np.asarray(run(feeds), np.float64).ravel() for feeds in samples]))
        return bind(samples[0])

    return open_


# ── What each peer's own documentation says to do ────────────────────────────────────────────────────────────────────


def prepare(subject: _models.Subject, folder: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Write every peer's file; peer → why it could not be made, for those that could not."""
    import torch

    plain, failed = folder / "fp32.onnx", {}
    if not plain.exists():
        say("writing the ONNX file")
        names = list(subject.evaluation[0])
        program = torch.onnx.export(subject.module, subject.example, input_names=names, dynamo=True, verbose=False)
        assert program is not None
        program.save(plain)
    steps = {"onnxruntime int8": quantize_with_onnxruntime, "nncf int8": quantize_with_nncf}
    for name, step in steps.items():
        say(f"quantizing: {name}")
        try:
            step(subject, plain, folder)
        except Exception as error:  # noqa: BLE001  (a peer that fails is a row of the table)
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return failed


def preprocess(plain: Path, to: Path) -> None:
    """What comes before ONNX Runtime's quantizers; without its symbolic shapes where these fail, as its help says."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(str(plain), str(to))
    except Exception:  # noqa: BLE001  (a TypeError on MiniLM)
        quant_pre_process(str(plain), str(to), skip_symbolic_shape=True)


def quantize_with_onnxruntime(subject: _models.Subject, plain: Path, folder: Path) -> None:
    """onnxruntime.ai/docs/performance/model-optimizations/quantization.html: preprocess, then quantize_static."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[_models.Feeds] = iter(subject.calibration)

        def get_next(self) -> _models.Feeds | None:
            return next(self._feeds, None)

    if (folder / "ort-int8.onnx").exists():
        return
    preprocess(plain, folder / "ort-pre.onnx")
    quantize_static(str(folder / "ort-pre.onnx"), str(folder / "ort-int8.onnx"), Reader())


def quantize_with_nncf(subject: _models.Subject, plain: Path, folder: Path) -> None:
    """https://docs.openvino.ai: Basic Quantization Flow, and the model type that it asks for with transformers."""
    import nncf
    import openvino

    if (folder / "nncf-int8.xml").exists():
        return
    model = openvino.Core().read_model(plain)
    kind = nncf.ModelType.TRANSFORMER if subject.is_transformer else None
    data = nncf.Dataset(subject.calibration)
    quantized = nncf.quantize(model, data, model_type=kind, subset_size=len(subject.calibration))
    openvino.save_model(quantized, folder / "nncf-int8.xml")


def pick(subject: _models.Subject, folder: Path, threads: int, target: str = "cpu") -> tuple[Path, str, float]:
    """What edgekit picks: the bundle, the candidate's name, and how long the export took."""
    from edgekit import export

    bundle = folder / f"pick-{target}-{threads}.edgekit"
    for name, samples in (("calibration", subject.calibration), ("evaluation", subject.evaluation)):
        _write(folder / f"{name}.npz", samples, subject.labels if name == "evaluation" else None)
    start = time.perf_counter()
    result = export(
        (subject.module, subject.example),
        target=target,
        output=bundle,
        data=str(folder / "evaluation.npz"),
        calibration_data=str(folder / "calibration.npz"),
        threads=threads,
        overwrite=True,
        **subject.accuracy,
    )
    return bundle, result.chosen, time.perf_counter() - start


def _write(path: Path, samples: list[_models.Feeds], labels: Any) -> None:
    arrays = {name: np.concatenate([feeds[name] for feeds in samples]) for name in samples[0]}
    np.savez(path, **arrays, **({} if labels is None else {"labels": labels}))


def _read(path: Path) -> Iterator[_models.Feeds]:
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files if name != "labels"}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index : index + 1] for name, array in arrays.items()}


# ── One row: a model at a number of threads ──────────────────────────────────────────────────────────────────────────


def row(
    name: str, threads: int, folder: Path, options: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    subject = _models.load(name, folder)
    failed, names = prepare(subject, folder, say), {}
    say("edgekit export")
    bundle, chosen, export_s = pick(subject, folder, threads)
    picks = {PICK: bundle}
    for engine, target in OTHERS.items():
        if _installed(engine):
            say(f"edgekit export --target {target}")
            try:
                picks[engine], named, _ = pick(subject, folder, threads, target)
            except EdgekitError as error:
                failed[engine] = str(error).splitlines()[0]
            else:
                names[engine] = named
    files = {
        "onnxruntime": folder / "fp32.onnx",
        "onnxruntime int8": folder / "ort-int8.onnx",
        "openvino": folder / "fp32.onnx",
        "nncf int8": folder / "nncf-int8.xml",
    }
    contenders = []
    others = [(engine, "edgekit") for engine in OTHERS if engine in picks or engine in failed]
    for peer, kind in [*PEERS.items(), (PICK, "edgekit"), *others]:
        arguments: dict[str, Any] = {
            "evaluation": str(folder / "evaluation.npz"),
            "outputs": str(folder / f"{peer} {threads}.npy"),
        }
        Path(arguments["outputs"]).unlink(missing_ok=True)
        if kind == "torch":
            compiled = peer == "torch.compile"
            arguments |= {"model": name, "folder": str(folder), "threads": threads, "compiled": compiled}
        elif kind == "edgekit":
            arguments |= {"path": str(picks.get(peer, ""))}
        else:
            arguments |= {"path": str(files[peer]), "threads": threads}
        contenders.append(Peer(peer, kind, arguments, failure=failed.get(peer)))
    take_turns(
        contenders,
        Path(__file__),
        rounds=options.rounds,
        blocks=options.blocks,
        block_s=options.block_s,
        say=say,
    )
    return summarize(name, threads, {PICK: chosen, **names}, export_s, contenders, subject)


def summarize(
    name: str,
    threads: int,
    chosen: dict[str, str],
    export_s: float,
    contenders: list[Peer],
    subject: _models.Subject,
) -> dict[str, Any]:
    by_name = {item.name: item for item in contenders}
    if by_name[PICK].failure or by_name["torch eager"].failure:
        raise SystemExit(f"{name}: {by_name[PICK].failure or by_name['torch eager'].failure}")
    outputs = {item.name: np.load(item.arguments["outputs"]) for item in contenders if not item.failure}
    expected = outputs["torch eager"]
    errors = {peer: float(np.linalg.norm(got - expected) / np.linalg.norm(expected)) for peer, got in outputs.items()}
    peers = [item for item in contenders if item.name in PEERS and not item.failure]
    result: dict[str, Any] = {
        "model": name,
        "threads": threads,
        "chosen": chosen[PICK],
        "picks": chosen,
        "export_s": export_s,
        "p50_ms": {item.name: item.p50_s * 1e3 for item in contenders if not item.failure},
        "rel_l2": errors,
        "failures": {item.name: item.failure for item in contenders if item.failure},
    }
    if subject.labels is not None:
        result["top1"] = {
            peer: float((got.reshape(len(subject.labels), -1).argmax(axis=1) == subject.labels).mean())
            for peer, got in outputs.items()
        }
    sides = {
        "no_more_accurate": [item for item in peers if errors[item.name] >= errors[PICK]],
        "no_less_accurate": [item for item in peers if errors[item.name] <= errors[PICK]],
    }
    for side, rivals in sides.items():
        if rivals:
            best = min(rivals, key=lambda item: item.p50_s)
            value, low, high = ratio(by_name[PICK], best)
            result[side] = {"peer": best.name, "ratio": value, "low": low, "high": high}
        else:
            result[side] = None
    return result


def show(result: dict[str, Any]) -> str:
    lines = [f"{result['model']}, {result['threads']} thread{'s' if result['threads'] > 1 else ''}"]
    for name, p50 in sorted(result["p50_ms"].items(), key=lambda item: item[1]):
        what = f"{name} ({result['picks'][name]})" if name == PICK else result["picks"].get(name, name)
        top1 = f"  top1 {result['top1'][name]:.2%}" if "top1" in result else ""
        lines.append(f"  {what:42} {p50:8.3f} ms   rel. L2 {result['rel_l2'][name]:8.1e}{top1}")
    lines += [f"  {name:42} failed: {why}" for name, why in result["failures"].items()]
    for side, text in (("no_more_accurate", "no more"), ("no_less_accurate", "no less")):
        found = result[side]
        head = f"  pick ÷ fastest peer {text} accurate"
        if found is None:
            lines.append(f"{head}: there is none")
            continue
        verdict = ""
        if side == "no_more_accurate":
            verdict = "   holds" if found["ratio"] <= LIMIT else f"   MISSES {LIMIT}"
        interval = f"{found['low']:.3f} to {found['high']:.3f}"
        lines.append(f"{head}: {found['ratio']:.3f} ({interval}, {found['peer']}){verdict}")
    return "\n".join(lines)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as the documentation's table, sorted by model and threads."""
    order = {name: index for index, name in enumerate(_models.NAMES)}
    columns = [*PEERS, PICK]
    lines = [
        f"| model | threads | {' | '.join(f'**{name}**' if name == PICK else name for name in columns)} "
        "| its pick | error | ÷ best peer | wanted |",
        f"|---|---|{'---|' * (len(columns) + 4)}",
    ]
    for item in sorted(rows, key=lambda item: (item["threads"], order[item["model"]])):
        p50 = [f"{item['p50_ms'][name]:.3f}" if name in item["p50_ms"] else "failed" for name in columns]
        p50[-1] = f"**{p50[-1]}**"
        found = item["no_more_accurate"]
        ratio, verdict = "no peer is less accurate", ""
        if found is not None:
            ratio = f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f}), {found['peer']}"
            verdict = "holds" if found["ratio"] <= LIMIT else "**misses**"
        error = f"{item['rel_l2'][PICK]:.1e}".replace("e-0", "e-")
        lines.append(
            f"| {item['model']} | {item['threads']} | {' | '.join(p50)} | {item['picks'][PICK]} | {error} | {ratio} "
            f"| {verdict} |"
        )
    return "\n".join(lines)


def _installed(engine: str) -> bool:
    from edgekit import plugins

    try:
        plugins.load("runtimes", engine)().version()
    except EdgekitError:
        return False
    return True


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    engines = ", ".join(f"{item} {version(item)}" for item in ("torch", "onnxruntime", "openvino", "nncf"))
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{model}, {os.cpu_count()} cores, {load}; {engines}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(_models.NAMES), help="of: %(default)s")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a contender")
    parser.add_argument("--blocks", type=int, default=8, help="blocks a process")
    parser.add_argument("--block-s", type=float, default=0.3)
    parser.add_argument("--quick", action="store_true", help="one round of three short blocks: checks the script alone")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--work", type=Path, help="keep models and files there; default: a temporary folder")
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="JSON", help="measure nothing: these files as Markdown"
    )
    options = parser.parse_args()
    if options.table:
        print(markdown([row for file in options.table for row in json.loads(file.read_text())["rows"]]))
        return 0
    if options.quick:
        options.rounds, options.blocks, options.block_s = 1, 3, 0.1
    models = options.models.split(",")
    unknown = set(models) - set(_models.NAMES)
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(_models.NAMES)}")

    print(machine(), flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in models:
            for threads in map(int, options.threads.split(",")):
                folder = (options.work or Path(temporary)) / name
                rows.append(row(name, threads, folder, options, _say))
                _say("")
                print(show(rows[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    missed = [item for item in rows if item["no_more_accurate"] and item["no_more_accurate"]["ratio"] > LIMIT]
    print(f"{len(rows) - len(missed)} of {len(rows)} rows hold pick ÷ peer <= {LIMIT}")
    return 1 if missed else 0


def _say(text: str) -> None:
    """Progress, on one line, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve({kind: opener(kind) for kind in OPEN})
    else:
        sys.exit(main())

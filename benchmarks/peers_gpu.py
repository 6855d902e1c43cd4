"""edgekit's pick beside PyTorch and plain ONNX Runtime on this machine's NVIDIA GPU.

    python benchmarks/peers_gpu.py [--models bert_base] [--batches 1,16] [--skip max-autotune] [--json F] [--markdown F]

Peers, all in float16: torch eager, torch.compile (reduce-overhead and max-autotune), ONNX Runtime with its default
session options. The pick: the fastest of target `desktop-gpu`'s 16-bit candidates within a relative error of 1e-2, with
the session options that edgekit's own search finds, through its passes and its adapter. All lie open in this one
process and take turns in short blocks; a run is timed from its call to the end of the GPU's work, tensors on the GPU
before and after. The error is the relative L2 distance from PyTorch in float32 on the GPU, without TF32, over four
different inputs.

What must hold: pick ÷ the fastest peer within that error, at most 0.9 at batch 1 and 1.0 at batch 16.

It can run in pieces: rows that --json already holds are kept. --provider cpu --tiny tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import _gpu_models
import numpy as np
import onnx_ir as ir
import torch
from _turns import Peer, ratio
from numpy.typing import NDArray

from edgekit import plugins
from edgekit.context import PassContext
from edgekit.errors import EdgekitError
from edgekit.graph import clone
from edgekit.pipeline.stages import run_passes, to_graph
from edgekit.pipeline.tuning import choices, explore
from edgekit.sources.load import load_source
from edgekit.target.load import load_target
from edgekit.target.profile import Candidate
from edgekit.target.toolchain import Toolchain, steps

MAX_ERROR = 1e-2
LIMITS = {1: 0.9, 16: 1.0}
PICK = "edgekit"
EAGER, REDUCE, AUTOTUNE, PLAIN = "torch eager", "reduce-overhead", "max-autotune", "onnxruntime defaults"
PEERS = (EAGER, REDUCE, AUTOTUNE, PLAIN)
SEARCH_S, WARM_RUNS, MIN_RUNS = 0.15, 10, 5

Call = Callable[[], object]


@dataclass
class Opened:
    """Somebody ready to take turns."""

    contender: Peer
    call: Call  # the hot call on the first input; returns when the GPU is done
    error: float
    detail: str = ""
    close: Callable[[], None] = lambda: None
    tried: list[str] = field(default_factory=list)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where the block takes longer; in the main thread, between Python's steps."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"not ready within {seconds} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def shared_graph(subject: _gpu_models.Subject, folder: Path) -> ir.Model:
    """The model after the target's shared passes, on which candidates are built. Kept in ``folder``."""
    path = folder / "graph.onnx"
    if not path.exists():
        target = load_target("desktop-gpu")
        exported = to_graph(load_source((subject.module, subject.inputs[0])), target.export.opset)
        graph, _ = run_passes(exported, steps(target.passes), PassContext(runtime="onnxruntime_cuda", workdir=folder))
        ir.save(graph, path, external_data="graph.onnx.data")
    return ir.load(path)


def plain_export(subject: _gpu_models.Subject, dtype: torch.dtype, folder: Path) -> Path:
    """PyTorch's own export of the module in ``dtype``. Kept in ``folder``."""
    path = folder / "plain.onnx"
    if not path.exists():
        module = copy.deepcopy(subject.module).to(dtype)
        program = torch.onnx.export(module, _halved(subject.inputs[0], dtype), dynamo=True, verbose=False)
        assert program is not None
        program.save(path, external_data=True)
    return path


def _halved(sample: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in sample)


class Bench:
    """One model at one batch."""

    def __init__(self, subject: _gpu_models.Subject, options: argparse.Namespace, folder: Path) -> None:
        self.subject, self.options, self.folder = subject, options, folder
        self.device = torch.device(options.provider)
        self.half = torch.float16 if options.provider == "cuda" else torch.float32
        self.inputs = [tuple(tensor.to(self.device) for tensor in sample) for sample in subject.inputs]
        module = subject.module.to(self.device)
        with torch.inference_mode():
            self.expected = [module(*sample).double().cpu().numpy() for sample in self.inputs]
        subject.module.to("cpu")

    def error(self, got: list[Any]) -> float:
        """‖y − y_ref‖₂ / ‖y_ref‖₂ over all inputs."""
        distance = sum(
            float(np.sum((np.asarray(y, np.float64) - want) ** 2)) for y, want in zip(got, self.expected, strict=True)
        )
        power = sum(float(np.sum(want**2)) for want in self.expected)
        return float(np.sqrt(distance / power))

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # ── The peers, each as its own documentation shows ───────────────────────────────────────────────────────────────

    def torch(self, name: str) -> Opened:
        module = copy.deepcopy(self.subject.module).to(self.device, self.half)
        callee = module if name == EAGER else torch.compile(module, mode=name)
        inputs = [_halved(sample, self.half) for sample in self.inputs]

        def call() -> None:
            with torch.inference_mode():
                callee(*inputs[0])
            self.synchronize()

        with torch.inference_mode():
            for _ in range(3):  # reduce-overhead records its graph at the second or third
                callee(*inputs[0])
            got = [callee(*sample).double().cpu().numpy() for sample in inputs]
        return Opened(Peer(name, "torch", {}), call, self.error(got), str(self.half).removeprefix("torch."))

    def onnxruntime(self) -> Opened:
        """The float16 module's export with default session options; tensors on the GPU, so no copies are timed."""
        import onnxruntime as ort

        if self.device.type == "cuda":
            ort.preload_dlls()
        path = plain_export(self.subject, self.half, self.folder)
        inputs = [_halved(sample, self.half) for sample in self.subject.inputs]
        provider = "CUDAExecutionProvider" if self.device.type == "cuda" else "CPUExecutionProvider"
        session = ort.InferenceSession(str(path), providers=[provider])
        if provider not in session.get_providers():
            raise RuntimeError("ONNX Runtime fell back to the CPU")
        names, output = [item.name for item in session.get_inputs()], session.get_outputs()[0].name
        got = [
            session.run(None, {name: tensor.numpy() for name, tensor in zip(names, sample, strict=True)})[0]
            for sample in inputs
        ]
        binding = session.io_binding()
        for name, tensor in zip(names, inputs[0], strict=True):
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(tensor.numpy(), self.device.type, 0))
        binding.bind_output(output, self.device.type)
        return Opened(Peer(PLAIN, "", {}), lambda: session.run_with_iobinding(binding), self.error(got))

    # ── edgekit: its passes, its adapter, its search over session options ────────────────────────────────────────────

    def edgekit(self, say: Callable[[str], None]) -> Opened:
        target = load_target("desktop-gpu")
        engine = "onnxruntime_cuda" if self.device.type == "cuda" else "onnxruntime"
        context = PassContext(runtime=engine, workdir=self.folder)
        graph = shared_graph(self.subject, self.folder)
        names = [value.name or "" for value in graph.graph.inputs]
        feeds = [
            {name: tensor.numpy() for name, tensor in zip(names, sample, strict=True)} for sample in self.subject.inputs
        ]
        best: tuple[float, Any, Candidate, dict[str, Any], float] | None = None
        tried: list[str] = []
        seen: set[bytes] = set()
        runtime = plugins.load("runtimes", engine)()
        for candidate in target.candidates:
            if candidate.precision not in ("fp16", "bf16") or candidate.name in self.options.leave_out:
                continue
            if engine == "onnxruntime":  # a stand-in, with the options that it knows
                candidate = replace(candidate, runtime=engine, options={}, tune={"threads": (0,)})
            model, _ = run_passes(clone(graph), steps(candidate.passes), context)
            operators = {node.op_type for node in model.graph}
            folder = self.folder / candidate.name.replace(" ", "-")
            folder.mkdir(exist_ok=True)
            exporter = plugins.load("exporters", candidate.format)()
            artifact, _ = exporter.write(model, folder, candidate.precision, exporter.Options(), context)
            content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
            if content in seen:
                tried.append(f"{candidate.name}: the same graph")
                continue
            seen.add(content)
            found: list[tuple[float, dict[str, Any], float]] = []

            def measure(
                options: dict[str, Any],
                artifact: Any = artifact,
                candidate: Candidate = candidate,
                found: list[tuple[float, dict[str, Any], float]] = found,
            ) -> float | None:
                say(f"edgekit: {candidate.name} {options}")
                try:
                    session = runtime.open(artifact, runtime.Options(**options))
                    strays = {node.device for node in session.placement().nodes} - {"CUDA"}
                    if self.device.type == "cuda" and strays:
                        raise EdgekitError(f"nodes on the {', '.join(strays)}")
                    error = self.error([next(iter(session.run(item).values())) for item in feeds])
                    taken_s = median_s(session.bind(feeds[0]), SEARCH_S)
                except EdgekitError as error_:
                    tried.append(f"{candidate.name} {options}: {error_.what}"[:300])
                    return None
                session.close()
                tried.append(f"{candidate.name} {options}: {taken_s * 1e3:.4f} ms, {error:.1e}")
                if not error <= MAX_ERROR:
                    return None
                found.append((taken_s, options, error))
                return taken_s

            explore(choices(Toolchain(candidate), None, (0,), operators), measure)
            for taken_s, options, error in found:
                if best is None or taken_s < best[0]:
                    best = (taken_s, artifact, candidate, options, error)
        if best is None:
            raise EdgekitError("no candidate holds the error", details=tried)
        _, artifact, candidate, options, error = best
        session = runtime.open(artifact, runtime.Options(**options))
        changed = [f"{key}={value}" for key, value in options.items() if value != candidate.tune.get(key, (value,))[0]]
        detail = " ".join([candidate.name, *changed])
        return Opened(Peer(PICK, "", {}), session.bind(feeds[0]), error, detail, session.close, tried)


def median_s(call: Call, seconds: float) -> float:
    for _ in range(WARM_RUNS):
        call()
    return float(np.median(block(call, seconds)))


def block(call: Call, seconds: float) -> NDArray[np.float64]:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - start) / 1e9)
    return np.array(samples)


def take_turns(opened: list[Opened], blocks: int, block_s: float) -> None:
    """Fill the contenders' blocks, in a random order in every turn."""
    order = random.Random(0)
    turn = list(opened)
    for _ in range(blocks):
        order.shuffle(turn)
        for item in turn:
            block(item.call, block_s / 4)
            item.contender.blocks.append(block(item.call, block_s))


def row(name: str, batch: int, options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    start = time.perf_counter()
    say(f"{name}, batch {batch}")
    opened: list[Opened] = []
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.work or Path(temporary)) / f"{name}-{batch}"
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(_gpu_models.load(name, batch, options.tiny), options, folder)
        openers: dict[str, Callable[[], Opened]] = {
            PICK: lambda: bench.edgekit(say),
            PLAIN: bench.onnxruntime,
            **{peer: (lambda peer=peer: bench.torch(peer)) for peer in (EAGER, REDUCE, AUTOTUNE)},  # type: ignore[misc]
        }
        seconds: dict[str, float] = {}
        for who in (PICK, *PEERS):
            if who in options.skip:
                failures[who] = "skipped"
                continue
            say(f"{name}, batch {batch}: {who}")
            before = time.perf_counter()
            try:
                with limited(options.limit_s):
                    opened.append(openers[who]())
            except Exception as error:  # noqa: BLE001  (whoever fails is a row of the table)
                failures[who] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
            seconds[who] = time.perf_counter() - before
        take_turns(opened, options.blocks, options.block_s)
        for item in opened:
            item.close()
    return {**summarize(name, batch, opened, failures), "ready_s": seconds, "took_s": time.perf_counter() - start}


def summarize(name: str, batch: int, opened: list[Opened], failures: dict[str, str]) -> dict[str, Any]:
    by_name = {item.contender.name: item for item in opened}
    pick = by_name.get(PICK)
    peers = [item for item in opened if item is not pick]
    rivals = [item for item in peers if item.error <= MAX_ERROR]
    result: dict[str, Any] = {
        "model": name,
        "batch": batch,
        "pick": pick.detail if pick else None,
        "p50_ms": {who: item.contender.p50_s * 1e3 for who, item in by_name.items()},
        "rel_l2": {who: item.error for who, item in by_name.items()},
        "failures": failures,
        "tried": pick.tried if pick else [],
        "limit": LIMITS.get(batch),
        "best_peer": None,
    }
    if pick and rivals:
        best = min(rivals, key=lambda item: item.contender.p50_s)
        value, low, high = ratio(pick.contender, best.contender)
        result["best_peer"] = {"peer": best.contender.name, "ratio": value, "low": low, "high": high}
    return result


def verdict(result: dict[str, Any]) -> str:
    best, limit = result["best_peer"], result["limit"]
    if best is None:
        return "not measured"
    if limit is None:
        return ""
    return "holds" if best["ratio"] <= limit else f"MISSES {limit}"


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Markdown: a row a model and batch; ms p50, and the error where it is over the limit."""
    lines = [
        f"p50 in ms; {facts['gpu']}, {facts['versions']}, {facts['date']}",
        "",
        f"| model | batch | {' | '.join(PEERS)} | **edgekit** | its pick | error | ÷ best peer | wanted |",
        "|" + "---|" * (len(PEERS) + 7),
    ]
    for item in rows:
        cells = []
        for who in (*PEERS, PICK):
            p50, error = item["p50_ms"].get(who), item["rel_l2"].get(who)
            wrong = "" if error is None or error <= MAX_ERROR else f" (error {error:.1e})"
            cells.append("–" if p50 is None else f"{p50:.3f}{wrong}")
        best = item["best_peer"]
        held = "–" if best is None else f"{best['ratio']:.2f} ({best['low']:.2f} to {best['high']:.2f}, {best['peer']})"
        error = item["rel_l2"].get(PICK)
        lines.append(
            f"| {item['model']} | {item['batch']} | {' | '.join(cells[:-1])} | **{cells[-1]}** | {item['pick'] or '–'} "
            f"| {'–' if error is None else f'{error:.1e}'} | {held} | {item['limit'] or '–'}: {verdict(item)} |"
        )
    for item in rows:
        lines += [f"- {item['model']}, batch {item['batch']}, {who}: {why}" for who, why in item["failures"].items()]
    return "\n".join(lines)


def facts(options: argparse.Namespace) -> dict[str, Any]:
    gpu = platform.processor() or platform.machine()
    if options.provider == "cuda":
        from edgekit.measure.nvml import load

        found = load()
        gpu = torch.cuda.get_device_name(0)
        if not isinstance(found, str):
            gpu += f" (SM {(found.states()[0].sm_clock_hz or 0) / 1e6:.0f} MHz)"
    names = ("torch", "onnxruntime-gpu", "onnxruntime", "onnx", "onnxscript", "transformers", "torchvision")
    known = [f"{name} {number}" for name in names if (number := _version(name))]
    known += [f"CUDA {torch.version.cuda}"] if torch.version.cuda else []
    return {"gpu": gpu, "versions": ", ".join(known), "date": datetime.now(UTC).date().isoformat()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(_gpu_models.NAMES), help="of: %(default)s")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--skip", default="", help=f"of: {', '.join((*PEERS, PICK))}")
    parser.add_argument("--leave-out", default="", help="candidates of edgekit's: 'bf16 fused'")
    parser.add_argument("--limit-s", type=int, default=240, help="until a contender is ready; longer: it is left out")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--block-s", type=float, default=0.1)
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda", help="cpu: tries the script, no more")
    parser.add_argument("--tiny", action="store_true", help="a few layers of each model: tries the script, no more")
    parser.add_argument("--work", type=Path, help="keep the exported files there; default: a temporary folder")
    parser.add_argument("--prepare", action="store_true", help="only export into --work, on the CPU")
    parser.add_argument("--json", type=Path, help="rows; those that it already holds of other models are kept")
    parser.add_argument("--markdown", type=Path, help="the table")
    options = parser.parse_args(arguments)
    options.models = options.models.split(",")
    options.batches = [int(item) for item in options.batches.split(",")]
    options.leave_out = options.leave_out.split(",")
    options.skip = [item.strip() for item in options.skip.split(",") if item]
    unknown = set(options.models) - set(_gpu_models.NAMES) | set(options.skip) - {*PEERS, PICK}
    if unknown:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"rows": []}
    rows: dict[tuple[str, int], dict[str, Any]] = {(item["model"], item["batch"]): item for item in known["rows"]}
    if options.prepare:
        return prepare(options)
    about = facts(options)
    for name in options.models:
        for batch in options.batches:
            torch.compiler.reset()
            rows[name, batch] = row(name, batch, options, _say)
            text = table([rows[key] for key in sorted(rows)], about)
            print(table([rows[name, batch]], about).splitlines()[4], flush=True)
            if options.json:
                options.json.write_text(
                    json.dumps({**about, "rows": [rows[key] for key in sorted(rows)]}, indent=1) + "\n"
                )
            if options.markdown:
                options.markdown.write_text(text + "\n")
    print(text)
    missed = [item for item in rows.values() if verdict(item).startswith("MISSES") or item["best_peer"] is None]
    print(f"{len(rows) - len(missed)} of {len(rows)} rows hold")
    return 1 if missed else 0


def prepare(options: argparse.Namespace) -> int:
    for name in options.models:
        for batch in options.batches:
            _say(f"exporting {name}, batch {batch}")
            folder = options.work / f"{name}-{batch}"
            folder.mkdir(parents=True, exist_ok=True)
            subject = _gpu_models.load(name, batch, options.tiny)
            shared_graph(subject, folder)
            plain_export(subject, torch.float16 if options.provider == "cuda" else torch.float32, folder)
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What Qualcomm's HTP takes, and how exactly its emulator computes it: operators, and the example models.

    python benchmarks/coverage_qnn.py [--soc 69] [--only NAME…] [--json FILE]

Each row is built as `edgekit export --target mobile-npu` builds it, in each of the target's candidates, and opened with
no fallback allowed. A cell says whether the whole graph runs on the HTP, and how far its outputs are from those of ONNX
Runtime on the CPU over the same graph, in steps of the output's quantization (LSB) and as a signal-to-noise ratio; or
the engine's reason why not. ``!`` marks what no rounding explains.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import _models
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.accuracy.same_graph import SameGraphCheck, write_plain
from edgekit.context import PassContext
from edgekit.devices.local import LocalDevice
from edgekit.errors import EdgekitError
from edgekit.graph import clone
from edgekit.measure.parity import ParityMeter
from edgekit.pipeline.stages import run_passes
from edgekit.target.load import load_target
from edgekit.target.profile import Candidate
from edgekit.target.toolchain import steps

SAMPLES, CALIBRATION = 8, 32
LENGTH = 32  # tokens of MiniLM's input
SUSPECT_DB = 25.0
"""Below this the engine computes something else than the graph says: a relative error of 6 %, in 8 bits or more."""


@dataclass(frozen=True)
class Cell:
    """One row in one precision."""

    whole: bool  # every node on the HTP
    lsb: float | None = None
    engine_db: float | None = None  # against the CPU over the same graph
    torch_db: float | None = None  # against PyTorch in float32
    reason: str = ""

    @property
    def suspect(self) -> bool:
        """Whether the engine computes something else than the graph says."""
        return self.engine_db is not None and self.engine_db < SUSPECT_DB

    def __str__(self) -> str:
        if not self.whole:
            return f"no: {self.reason}"
        mark = "! " if self.suspect else ""
        lsb = "" if self.lsb is None else f"{self.lsb:.0f} LSB, "
        return f"{mark}{lsb}{_db(self.engine_db)}"


def _db(value: float | None) -> str:
    return "equal" if value is None or math.isinf(value) else f"{value:.0f} dB"


class Call(nn.Module):
    """A function, or a chain of modules, as one module of one input."""

    def __init__(self, function: Callable[[Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Block(nn.Module):
    """A transformer's layer: attention and a feed-forward part, each after a LayerNorm."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.feed(self.second(x))


class Recurrent(nn.Module):
    """The outputs of a GRU or LSTM."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(16, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cell(x)[0]
        return y


IMAGE, TOKENS, ROWS = (1, 8, 12, 12), (1, 8, 32), (1, 16)
Row = tuple[nn.Module, tuple[int, ...]]


def _sampled(x: Tensor) -> Tensor:
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 9), indexing="xy"), -1)
    return functional.grid_sample(x, grid[None] * 0.9, align_corners=False)


def _masked(x: Tensor) -> Tensor:
    return torch.where(torch.arange(x.shape[-1]) % 2 == 0, x, torch.zeros(()))


def _scattered(x: Tensor) -> Tensor:
    return x.index_put((torch.tensor([0, 0]), torch.tensor([2, 4])), x[0, :2] * 0.5)


def _assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2] = x[:, 3] * 0.5
    return y


def _channel(x: Tensor, *parts: nn.Module) -> Tensor:
    for part in parts:
        x = part(x)
    return x


def operators() -> dict[str, Row]:
    """Name → a module that is that operator, and its input's shape."""
    index = torch.tensor([3, 0, 5])
    rows: dict[str, Row] = {
        "transformer block": (Block(), TOKENS),
        "Conv": (nn.Conv2d(8, 16, 3, padding=1), IMAGE),
        "Conv, depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), IMAGE),
        "Conv, dilated": (nn.Conv2d(8, 8, 3, padding=2, dilation=2), IMAGE),
        "Conv 1D": (nn.Conv1d(8, 8, 3), TOKENS),
        "ConvTranspose": (nn.ConvTranspose2d(8, 8, 2, stride=2), IMAGE),
        "Conv + BatchNormalization (folded)": (nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)), IMAGE),
        "Gemm": (nn.Linear(16, 8), ROWS),
        "MatMul": (nn.Linear(32, 8), TOKENS),
        "MatMul of two activations": (Call(lambda x: x @ x.transpose(-1, -2)), TOKENS),
        "LayerNormalization": (nn.LayerNorm(32), TOKENS),
        "InstanceNormalization": (nn.InstanceNorm2d(8, affine=True), IMAGE),
        "GroupNormalization": (nn.GroupNorm(2, 8), IMAGE),
        "RMSNorm": (nn.RMSNorm(32), TOKENS),
        "Softmax": (nn.Softmax(-1), TOKENS),
        "LogSoftmax": (nn.LogSoftmax(-1), TOKENS),
        "Gelu (erf)": (nn.GELU(), TOKENS),
        "Gelu (tanh)": (nn.GELU("tanh"), TOKENS),
        "Erf alone": (Call(torch.erf), TOKENS),
        "Relu": (nn.ReLU(), TOKENS),
        "Relu6": (nn.ReLU6(), TOKENS),
        "LeakyRelu": (nn.LeakyReLU(0.1), TOKENS),
        "PRelu": (nn.PReLU(8), IMAGE),
        "Elu": (nn.ELU(), TOKENS),
        "Sigmoid": (nn.Sigmoid(), TOKENS),
        "SiLU": (nn.SiLU(), TOKENS),
        "HardSwish": (nn.Hardswish(), TOKENS),
        "Tanh": (nn.Tanh(), TOKENS),
        "Exp": (Call(torch.exp), TOKENS),
        "Sqrt": (Call(lambda x: torch.sqrt(x.abs())), TOKENS),
        "Div": (Call(lambda x: x / (x.abs() + 1)), TOKENS),
        "Pow": (Call(lambda x: x**2), TOKENS),
        "Clip": (Call(lambda x: x.clamp(-0.5, 0.7)), TOKENS),
        "Where": (Call(_masked), TOKENS),
        "MaxPool": (nn.MaxPool2d(2), IMAGE),
        "AveragePool": (nn.AvgPool2d(2), IMAGE),
        "GlobalAveragePool": (nn.AdaptiveAvgPool2d(1), IMAGE),
        "ReduceMean": (Call(lambda x: x.mean(-1)), TOKENS),
        "ReduceSum": (Call(lambda x: x.sum(-1)), TOKENS),
        "ReduceMax": (Call(lambda x: x.amax(-1)), TOKENS),
        "Resize, nearest": (nn.Upsample(scale_factor=2), IMAGE),
        "Resize, linear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
        "Pad": (Call(lambda x: functional.pad(x, (1, 1, 2, 2))), IMAGE),
        "Concat": (Call(lambda x: torch.cat((x, x * 2), 1)), IMAGE),
        "Split": (Call(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), IMAGE),
        "DepthToSpace": (nn.PixelShuffle(2), IMAGE),
        "GridSample": (Call(_sampled), IMAGE),
        "TopK": (Call(lambda x: x.topk(4, -1).values), TOKENS),
        "ScatterElements": (Call(_assigned), TOKENS),
        "ScatterND": (Call(_scattered), TOKENS),
        "Gather": (Call(lambda x: x.index_select(1, index)), TOKENS),
        "x[:, idx] (GatherND → Gather)": (Call(lambda x: x[:, index]), TOKENS),
        "CumSum": (Call(lambda x: x.cumsum(-1)), TOKENS),
        "Einsum": (Call(lambda x: torch.einsum("bij,bkj->bik", x, x)), TOKENS),
        "GRU": (Recurrent(nn.GRU), (1, 8, 16)),
        "LSTM": (Recurrent(nn.LSTM), (1, 8, 16)),
    }
    for module, _ in rows.values():
        _settle(module)
    return rows


def _settle(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
    module.eval()


Subject = tuple[nn.Module, list[_models.Feeds], list[_models.Feeds]]  # calibration, evaluation


def _random(module: nn.Module, shape: tuple[int, ...]) -> Subject:
    data = [
        {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}
        for seed in range(CALIBRATION + SAMPLES)
    ]
    return module, data[:CALIBRATION], data[CALIBRATION:]


def _minilm() -> Subject:
    """Single sentences; the HTP takes static shapes, so they are padded, and the padding masked."""
    data = _models._example("minilm", "data")
    module, _ = _models._example("minilm", "encoder").build()

    def padded(calibration: bool, count: int) -> list[_models.Feeds]:
        rows = []
        for text in data.sentences(data.pairs(calibration=calibration))[:count]:
            cut = {name: array[:, :LENGTH] for name, array in data.feeds(text).items()}
            rows.append({name: np.pad(array, ((0, 0), (0, LENGTH - array.shape[1]))) for name, array in cut.items()})
        return rows

    return module, padded(True, CALIBRATION), padded(False, SAMPLES)


def _digits(folder: Path) -> Subject:
    found = _models.load("digits", folder)
    return found.module, found.calibration[:CALIBRATION], found.evaluation[:SAMPLES]


def subjects(folder: Path) -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Every row, the models first."""
    yield "digits (CNN)", lambda: _digits(folder / "digits")
    yield "MiniLM", _minilm
    torch.manual_seed(0)
    for name, (module, shape) in operators().items():
        yield name, lambda module=module, shape=shape: _random(module, shape)  # type: ignore[misc]


def to_graph(subject: Subject, opset: int) -> ir.Model:
    module, _, evaluation = subject
    arrays = evaluation[0]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in arrays.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(arrays),
            output_names=["y"],
            verbose=False,
        )
    assert program is not None
    return program.model


def cell(graph: ir.Model, candidate: Candidate, subject: Subject, context: PassContext, soc: int) -> Cell:
    module, _, evaluation = subject
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            model, _ = run_passes(clone(graph), steps(candidate.passes), context)
            artifact, rounding = write_plain(model, Path(folder) / "plain", candidate.precision, context)
            same, parity = SameGraphCheck(artifact, rounding), ParityMeter()
            with LocalDevice().open(artifact, candidate.runtime, {"soc_model": soc}) as worker:
                for feeds, got in zip(evaluation, worker.run_many(evaluation), strict=True):
                    same.add(feeds, got)
                    with torch.no_grad():
                        exact = module(*(torch.from_numpy(array) for array in feeds.values()))
                    parity.add({"y": exact.numpy()}, got)
        except EdgekitError as error:
            reasons = [line.split("  ")[-1].strip() for line in error.details if "QNN:" in line]
            return Cell(False, reason=reasons[0] if reasons else error.what.rsplit("Error: ", 1)[-1][:120])
    found = same.result()
    return Cell(True, found.max_lsb, found.sqnr_db, parity.result().sqnr_db)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soc", type=int, default=69, help="QNN's number of the SoC (69: Snapdragon 8 Elite)")
    parser.add_argument("--only", nargs="*", help="rows by their names")
    parser.add_argument("--json", type=Path, help="also write the cells to this file")
    parser.add_argument("--folder", type=Path, default=Path(".edgekit/models"), help="where trained weights are kept")
    given = parser.parse_args()
    target = load_target("mobile-npu")
    print(f"| | {' | '.join(item.precision for item in target.candidates)} |")
    print(f"|---|{'---|' * len(target.candidates)}")
    table: dict[str, dict[str, object]] = {}
    for name, load in subjects(given.folder):
        if given.only and name not in given.only:
            continue
        subject = load()
        context = PassContext(
            arch="aarch64",
            runtime="onnxruntime_qnn",
            calibration=lambda subject=subject: iter(subject[1]),  # type: ignore[misc]
            calibration_samples=len(subject[1]),
        )
        graph, _ = run_passes(to_graph(subject, target.export.opset), steps(target.passes), context)
        cells = [cell(graph, candidate, subject, context, given.soc) for candidate in target.candidates]
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
        table[name] = {item.precision: asdict(found) for item, found in zip(target.candidates, cells, strict=True)}
    if given.json:
        given.json.write_text(json.dumps(table, indent=1, allow_nan=True))


if __name__ == "__main__":
    sys.exit(main())

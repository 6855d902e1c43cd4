"""What the engines that convert the PyTorch program do beyond the kit: int8, refusals, a whole export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit import plugins
from edgekit.api.export import export
from edgekit.context import PassContext
from edgekit.contracts import Feeds, options_from
from edgekit.errors import UsageError
from edgekit.measure.parity import ParityMeter
from edgekit.measure.stream import Stream
from edgekit.sources.load import load_source
from edgekit.sources.source import Source
from edgekit.sources.state import settle
from edgekit.target.load import load_target
from edgekit.target.profile import Candidate, PassSpec
from edgekit.target.toolchain import Toolchain

INSTALL = {
    "executorch": "pip install -c constraints.txt executorch",
    "litert": "pip install --no-deps -r constraints-litert.txt",
}
NET = """
import torch

def build():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(16 * 6 * 6, 5),
    )
    return net, torch.randn(1, 3, 16, 16)
"""
IMAGES = np.random.default_rng(0).standard_normal((8, 1, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("source")
    (folder / "net.py").write_text(NET)
    return load_source(f"{folder / 'net.py'}:build")


def needs(engine: str) -> None:
    for package in plugins.load("exporters", engine).packages:
        if not list(metadata.distributions(name=package)):
            pytest.skip(f"{package} is not installed: {INSTALL[engine]}")


def samples() -> Iterator[Feeds]:
    return iter([{"input": image} for image in IMAGES])


def write(engine: str, source: Source, folder: Path, **options: Any) -> tuple[Any, float]:
    """The artifact, and the signal-to-noise ratio of its engine's outputs to PyTorch's."""
    exporter, runtime = plugins.load("exporters", engine)(), plugins.load("runtimes", engine)()
    folder.mkdir()
    context = PassContext(calibration=samples, calibration_samples=len(IMAGES))
    artifact, _ = exporter.write_program(source, folder, "int8", exporter.Options(**options), context)
    session, meter = runtime.open(artifact, runtime.Options(threads=1)), ParityMeter()
    for feeds in samples():
        meter.add(source.forward(feeds), session.run(feeds))
    return artifact, meter.result().sqnr_db


class Ring(torch.nn.Module):
    """Remembers in a buffer and in an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = torch.nn.GRUCell(6, 5), torch.nn.Linear(5, 1)
        self.register_buffer("past", torch.full((1, 3), 0.5))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.cell(torch.cat([self.past, x], -1), state)
        self.past.copy_(x)
        return {"y": self.out(state), "stateN": state}


@pytest.mark.parametrize("engine", ["executorch", "litert"])
def test_a_stream_keeps_its_state_outside_the_engine(engine: str, tmp_path: Path) -> None:
    needs(engine)
    torch.manual_seed(0)
    net = Ring().eval()
    source = load_source((net, (torch.randn(1, 3), torch.zeros(1, 5))))
    settle(source, [])
    exporter, runtime = plugins.load("exporters", engine)(), plugins.load("runtimes", engine)()
    artifact, _ = exporter.write_program(source, tmp_path, "fp32", exporter.Options(), PassContext())
    session = runtime.open(artifact, runtime.Options(threads=1))
    frames, state = torch.randn(12, 1, 3), torch.zeros(1, 5)
    net.past.fill_(0.5)
    with Stream(session, source.inputs, source.state, source.initial) as one:
        with Stream(session, source.inputs, source.state, source.initial) as other:
            first = None
            for frame in frames:
                with torch.no_grad():
                    y, state = net(frame, state).values()
                got = one.run({"x": frame.numpy()})
                first = got["y"] if first is None else first
                assert list(got) == ["y"] and one.bound is False
                np.testing.assert_allclose(got["y"], y.numpy(), rtol=1e-4, atol=1e-6)
                other.run({"x": -frame.numpy()})
        assert first is not None
        one.reset()
        np.testing.assert_array_equal(one.run({"x": frames[0].numpy()})["y"], first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "static", "dynamic"),
    [
        ("executorch", {"quantize": "pt2e"}, {"quantize": "pt2e", "dynamic": True}),
        ("litert", {"quantize": "static"}, {"quantize": "dynamic"}),
    ],
)
def test_int8(engine: str, static: dict[str, Any], dynamic: dict[str, Any], source: Source, tmp_path: Path) -> None:
    needs(engine)
    plain, exact_db = write(engine, source, tmp_path / "plain")
    assert exact_db > 100
    for name, options in (("static", static), ("dynamic", dynamic)):
        artifact, sqnr_db = write(engine, source, tmp_path / name, **options)
        assert 20 < sqnr_db < 60, name  # 8 bits, and really used
        assert artifact.path.stat().st_size < plain.path.stat().st_size, name
        assert (artifact.inputs, artifact.outputs) == (source.inputs, source.outputs)


@pytest.mark.parametrize("engine", ["executorch", "litert"])
def test_static_int8_without_samples_is_refused(engine: str, source: Source, tmp_path: Path) -> None:
    needs(engine)
    exporter = plugins.load("exporters", engine)()
    options = exporter.Options(quantize="pt2e" if engine == "executorch" else "static")
    with pytest.raises(UsageError, match=r"needs calibration data\. Pass samples with --data"):
        exporter.write_program(source, tmp_path, "int8", options, PassContext())


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("executorch", {"quantize": "nncf"}, "'quantize' must be 'pt2e', got 'nncf'"),
        ("executorch", {"dynamic": True}, "'dynamic' needs 'quantize'"),
        ("litert", {"quantize": "pt2e"}, "'quantize' must be 'static' or 'dynamic', got 'pt2e'"),
    ],
)
def test_options_that_cannot_be(engine: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options_from(plugins.load("exporters", engine).Options, options, "export_options")


def test_dynamic_int8_needs_no_samples() -> None:
    for name in ("cpu-executorch", "cpu-litert"):
        needing = {item.precision: Toolchain(item).needs_calibration for item in load_target(name).candidates}
        assert needing == {"fp32": False, "int8": True, "int8-dynamic": False}


def test_a_candidate_with_passes_that_would_not_reach_it() -> None:
    candidate = Candidate("x", "litert", "fp32", "litert", passes=(PassSpec("fuse_gelu"),))
    with pytest.raises(UsageError, match=r"candidate 'x' states passes \(fuse_gelu\), which work on the ONNX graph"):
        _ = Toolchain(candidate).takes_program
    assert not Toolchain(Candidate("x", "onnxruntime", "fp32", "onnx", passes=(PassSpec("fuse_gelu"),))).takes_program


def test_what_is_no_pytorch_program_cannot_go_this_way(tmp_path: Path) -> None:
    needs("litert")
    torch.onnx.export(
        torch.nn.Linear(3, 2).eval(), (torch.randn(1, 3),), tmp_path / "net.onnx", dynamo=True, verbose=False
    )
    with pytest.raises(UsageError, match=r"no candidate of target 'cpu-litert' applies to this model") as caught:
        export(tmp_path / "net.onnx", "cpu-litert", output=tmp_path / "x.edgekit", candidates=["litert fp32"])
    assert "litert converts PyTorch programs, and" in str(caught.value)
    assert "net.onnx has none" in str(caught.value)


@pytest.mark.slow
def test_a_bundle_runs_with_its_engine_alone(source: Source, tmp_path: Path) -> None:
    needs("executorch")
    (tmp_path / "net.py").write_text(NET)
    result = export(
        f"{tmp_path / 'net.py'}:build",
        "cpu-executorch",
        output=tmp_path / "net.edgekit",
        candidates=["executorch fp32"],
        threads=1,
        max_time_s=1.0,
    )
    assert result.placement == {"CPU": result.pick.nodes}
    assert result.pick.latency is not None
    assert "self-test passed on executorch" in result.self_test  # run.py, in a process of its own
    manifest = json.loads((tmp_path / "net.edgekit/manifest.json").read_text())
    assert manifest["passes"] == [], "graph passes did not reach it"
    assert manifest["artifact"] == {"file": "model/model.pte", "format": "executorch-pte"}

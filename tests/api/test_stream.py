"""Models with memory, from source to bundle: drift that one step hides, an app's stream beside PyTorch's own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import open_bundle
from edgekit.api.bench import bench
from edgekit.api.export import export
from edgekit.bundle import Bundle
from edgekit.contracts import Artifact
from edgekit.errors import EngineError, UsageError
from edgekit.measure.stream import Stream
from edgekit.runtimes.onnxruntime import OnnxRuntime

STEPS = 96


class Leaky(torch.nn.Module):
    """A slow memory: each frame adds less to it than a step of eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(32, 16)
        self.out = torch.nn.Linear(16, 4)
        with torch.no_grad():
            self.mix.weight.copy_(torch.cat([0.002 * torch.eye(16), 0.998 * torch.eye(16)], 1))
            self.mix.bias.zero_()

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = self.mix(torch.cat([x, state], -1))
        return self.out(new), new


def roll(net: torch.nn.Module, frames: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """PyTorch's own loop: the states before each frame, and the outputs."""
    state, states, outputs = torch.zeros(1, 16), [], []
    with torch.no_grad():
        for frame in torch.from_numpy(frames):
            states.append(state.numpy())
            output, state = net(frame, state)
            outputs.append(output.numpy())
    return states, outputs


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module, np.ndarray]:
    """A folder with frames.npz (frames alone) and stream.npz (with the true states)."""
    folder = tmp_path_factory.mktemp("leaky")
    torch.manual_seed(0)
    net = Leaky().eval()
    # Slow: the memory follows the frames' mean over some hundreds of them.
    turn = np.sin(np.arange(STEPS)[:, None] / 40 + np.arange(16)[None])
    frames = (turn + 0.1 * np.random.default_rng(0).normal(size=(STEPS, 16))).astype("f4")[:, None]
    states, _ = roll(net, frames)
    np.savez(folder / "frames.npz", x=frames)
    np.savez(folder / "stream.npz", x=frames, state=np.stack(states))
    return folder, net, frames


def test_drift_that_one_step_hides_is_a_miss_that_is_repaired(leaky: tuple[Path, torch.nn.Module, np.ndarray]) -> None:
    folder, net, frames = leaky
    result = export(
        (net, (torch.zeros(1, 16), torch.zeros(1, 16))),
        "cpu-onnxruntime",
        output=folder / "leaky.edgekit",
        data=str(folder / "stream.npz"),
        candidates=["onnxruntime int8 static", "onnxruntime fp32"],
        rollout=STEPS,
        max_time_s=1,
    )
    rows = {item.name: item for item in result.candidates}
    eight, full = rows["onnxruntime int8 static"], rows["onnxruntime fp32"]
    # All in int8, each step is near enough; the stream is not. What does the harm is left in floating point.
    assert eight.note is not None and "(stream: over 96 steps with its own state: sqnr_db 12" in eight.note
    assert len(eight.kept_float) == 1 and eight.rollout is not None and eight.rollout.sqnr_db > 25
    told = full.rollout
    assert told is not None and told.passed and told.steps == STEPS and told.state_bound is True
    assert told.frames == "96 samples of stream.npz, which are one stream by their states"
    assert result.source["state"] == [{"input": "state", "output": "output_1", "buffer": False}]

    _, want = roll(net, frames)
    near = {"rtol": 1e-4, "atol": 1e-6} if result.chosen == full.name else {"atol": 0.02}
    with open_bundle(folder / "leaky.edgekit") as bundle, bundle.session() as model:
        assert [spec.name for spec in model.inputs] == ["x", "state"]  # forward's own
        with model.stream() as one, model.stream() as other:
            for frame, output in zip(frames, want, strict=True):
                got = one.run({"x": frame})
                assert list(got) == ["output_0"]
                np.testing.assert_allclose(got["output_0"], output, **near)
                other.run({"x": frame * 2})
            one.reset()
            np.testing.assert_allclose(one.run({"x": frames[0]})["output_0"], want[0], **near)
        assert bundle.manifest.golden_steps == 8
    done = subprocess.run([sys.executable, "run.py"], cwd=folder / "leaky.edgekit", capture_output=True, text=True)
    assert done.returncode == 0 and " dB over a stream of 8 steps" in done.stdout, done.stdout + done.stderr
    measured = bench(folder / "leaky.edgekit", seconds=0.05, processes=1).to_json()
    assert measured["stream"] == {"state": ["state"], "bound": True}


def test_frames_alone_are_a_stream_and_a_self_test_sees_its_state(
    leaky: tuple[Path, torch.nn.Module, np.ndarray],
) -> None:
    folder, net, frames = leaky
    result = export(
        (net, (torch.zeros(1, 16), torch.zeros(1, 16))),
        "cpu-openvino",
        output=folder / "alone.edgekit",
        data=str(folder / "frames.npz"),
        candidates=["openvino fp32"],
        rollout=10,
        max_time_s=1,
    )
    told = result.pick.rollout
    assert told is not None and told.frames == "the first 10 samples of frames.npz in order"
    assert result.pick.parity is not None and result.pick.parity.samples == STEPS
    states, _ = roll(net, frames)
    with open_bundle(folder / "alone.edgekit") as bundle:
        # Each golden sample has the state that PyTorch came to.
        for (feeds, _), state in zip(bundle.golden(), states, strict=False):
            np.testing.assert_allclose(feeds["state"], state, rtol=1e-5, atol=1e-7)
        assert bundle.self_test().stream is not None
        wrong = bundle.golden_stream()[5][1]["output_0"] * 1.5
    # A golden stream that is not the model's is a miss.
    path = folder / "alone.edgekit" / "golden" / "stream" / "5.outputs.npz"
    np.savez(path, output_0=wrong)
    with open_bundle(folder / "alone.edgekit", verify=False) as bundle:
        test = bundle.self_test()
        assert not test.passed and test.misses[0].startswith("a stream of 8 steps: ")


class Ring(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(2, 3, 5)
        self.register_buffer("past", torch.full((1, 2, 4), 0.25))

    def forward(self, chunk: torch.Tensor) -> torch.Tensor:
        full = torch.cat([self.past, chunk], -1)
        self.past.copy_(full[..., -4:])
        return self.conv(full)


def test_a_buffer_is_kept_by_a_stream_and_begins_anew_in_each_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Ring().eval()
    result = export(
        (net, torch.randn(1, 2, 8)),
        "cpu-onnxruntime",
        output=tmp_path / "ring.edgekit",
        candidates=["onnxruntime fp32"],
        max_time_s=1,
    )
    told = result.pick.rollout
    assert told is not None and told.frames == "made-up frames (noise in chunk, of the example's range)"
    frames = torch.randn(5, 1, 2, 8)
    with torch.no_grad():
        want = [net(frame).numpy() for frame in frames]  # the module keeps its own past
    with open_bundle(tmp_path / "ring.edgekit") as bundle, bundle.session() as model:
        assert [spec.name for spec in (*model.inputs, *model.outputs)] == ["chunk", "output"]
        with model.stream() as stream:
            for frame, output in zip(frames, want, strict=True):
                np.testing.assert_allclose(stream.run({"chunk": frame.numpy()})["output"], output, rtol=1e-5, atol=1e-6)
        with pytest.raises(EngineError, match=r"the model has no state 'pasd'. Did you mean 'past'\?"):
            model.stream({"pasd": np.zeros((1, 2, 4), np.float32)})
        for _ in range(2):
            alone = model.run({"chunk": frames[0].numpy()})
            assert list(alone) == ["output"]
            np.testing.assert_allclose(alone["output"], want[0], rtol=1e-5, atol=1e-6)
        manifest = json.loads((bundle.folder / "manifest.json").read_text())
    assert manifest["state"] == [{"input": "past", "output": "past_out", "buffer": True}]
    assert "model.stream() as stream" in (tmp_path / "ring.edgekit" / "README.md").read_text()


def test_what_has_no_memory_has_no_stream(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(UsageError, match="--rollout is for models with memory"):
        export((torch.nn.Linear(2, 2), torch.zeros(1, 2)), "cpu-onnxruntime", output=tmp_path / "b", rollout=3)
    with make_bundle().session() as model, pytest.raises(EngineError, match="this model has no memory"):
        model.stream()


def test_a_stream_belongs_to_one_caller(linear: Artifact) -> None:
    """A second thread would mix up the frames: it is refused while the first one is in a step."""
    session = OnnxRuntime().open(linear, OnnxRuntime.Options(threads=1))
    turn = threading.Lock()
    stream = Stream(session, linear.inputs, (), {}, turn)
    frame = {"x": np.ones((1, 8), np.float32)}
    with ThreadPoolExecutor(1) as pool:
        with turn:  # the engine is busy: the other thread waits in its step
            waiting = pool.submit(stream.run, frame)
            while not stream._busy.locked():
                time.sleep(0.001)
            with pytest.raises(EngineError, match="another thread is in this stream"):
                stream.run(frame)
        assert list(waiting.result(timeout=20)) == ["y"]
    assert list(stream.run(frame)) == ["y"]
    stream.close()
    with pytest.raises(EngineError, match="this stream is closed"):
        stream.run(frame)

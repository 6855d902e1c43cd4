"""A cache of keys and values that grows with every step: told, and where it is named, a state that begins empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import open_bundle
from edgekit.accuracy.reference import Reference
from edgekit.accuracy.rollout import Rolled
from edgekit.api.evaluate import evaluate
from edgekit.api.export import export
from edgekit.contracts import Artifact, Feeds, Outputs, StatePair, TensorSpec
from edgekit.data.dataset import Dataset, Sample
from edgekit.errors import DataError, EngineError, UsageError
from edgekit.pipeline.follow_data import read_data
from edgekit.runtimes.openvino import OpenVino
from edgekit.sources.load import load_source
from edgekit.sources.state import growing_hint, settle

PAIRS = ["present_k=past_k", "present_v=past_v"]


class Decoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = torch.nn.Linear(8, 24), torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, past_k: torch.Tensor, past_v: torch.Tensor) -> dict[str, torch.Tensor]:
        q, k, v = self.mix(x).chunk(3, -1)
        k, v = torch.cat([past_k, k], 1), torch.cat([past_v, v], 1)
        mixed = torch.softmax(q @ k.transpose(1, 2) / 3, -1) @ v
        return {"y": self.out(mixed), "present_k": k, "present_v": v}


def decoder() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return Decoder().eval(), (torch.randn(1, 1, 8), torch.randn(1, 3, 8), torch.randn(1, 3, 8))


def test_it_is_told_and_not_taken_unasked(tmp_path: Path) -> None:
    source = load_source(decoder())
    settle(source, [])
    flags = f"--dynamic past_k:1 --dynamic past_v:1 --state {PAIRS[0]} --state {PAIRS[1]}"
    assert not source.state and growing_hint(source).endswith(flags) and source.notes[-1] == growing_hint(source)
    with pytest.raises(UsageError, match=r"It grows by a step: free that dimension: --dynamic past_k:1"):
        settle(load_source(decoder()), PAIRS)
    frames = str(tmp_path / "frames.npz")
    np.savez(frames, x=np.ones((4, 1, 1, 8), np.float32))
    free = load_source(decoder(), dynamic=["past_k:1=t", "past_v:1=t"])
    settle(free, [])
    with pytest.raises(DataError, match=r"no array 'past_k'.* Output 'present_k' is input 'past_k' grown by a step"):
        read_data(free, frames, None, None, lambda source: settle(source, []))


def test_where_it_is_named_a_stream_begins_with_none_of_it(tmp_path: Path) -> None:
    net, example = decoder()
    result = export(
        (net, example),
        "cpu-onnxruntime",
        output=tmp_path / "decoder.edgekit",
        dynamic=["past_k:1=t", "past_v:1=t"],
        state=PAIRS,
        candidates=["onnxruntime fp32"],
        rollout=20,
        max_time_s=1,
    )
    told = result.pick.rollout
    assert told is not None and told.passed and told.steps == 20 and told.tail_db > 60
    assert any(note.startswith("'past_k', 'past_v' grow with every step") for note in result.source["notes"])
    frames = torch.randn(20, 1, 1, 8)
    k = v = torch.zeros(1, 0, 8)
    with open_bundle(tmp_path / "decoder.edgekit") as bundle, bundle.session() as model, model.stream() as stream:
        for frame in frames:
            with torch.no_grad():
                y, k, v = net(frame, k, v).values()
            np.testing.assert_allclose(stream.run({"x": frame.numpy()})["y"], y.numpy(), rtol=1e-4, atol=1e-5)
        assert stream.state()["past_k"].shape == (1, 20, 8)
        stream.reset()
        assert stream.state()["past_v"].shape == (1, 0, 8)
    np.savez(tmp_path / "frames.npz", x=frames.numpy())
    found = evaluate(tmp_path / "decoder.edgekit", str(tmp_path / "frames.npz"), "sqnr_db", source=(net, example))
    assert found.streamed and found.value > 80  # PyTorch's stream begins with none of it, too


def test_a_step_that_the_state_does_not_fit_ends_with_what_to_do(tmp_path: Path) -> None:
    """As where a mask does not grow along."""

    def run(feeds: Feeds) -> Outputs:
        if feeds["s"].shape[0] > 1:
            raise EngineError("Mul: 1 by 2", details=["node 'mask'"])
        return {"s_out": np.concatenate([feeds["s"], feeds["x"]])}

    inputs = (TensorSpec("x", "float32", (1,)), TensorSpec("s", "float32", ("t",)))
    frames = [Sample({"x": np.ones(1, "f4")}, None)] * 3
    data = Dataset("made", "made", lambda indices: [frames[index] for index in indices], 3, has_labels=False)
    rolled = Rolled(data, Reference("r", run), inputs, (StatePair("s", "s_out"),), {}, tmp_path)
    told = r"step 2 of the stream, with the state of the one before, fails: Mul: 1 by 2:\n  node 'mask'\n.*--state none"
    with pytest.raises(DataError, match=told):
        list(rolled.dataset().samples())


def test_openvino_has_no_empty_cache(tmp_path: Path) -> None:
    """Afterwards its answers would be wrong at more than 15 steps; a sibling without an empty run is right."""
    net, example = decoder()
    length = torch.export.Dim("t", max=64)
    torch.onnx.export(
        net, example, str(tmp_path / "m.onnx"), dynamic_shapes=(None, {1: length}, {1: length}), verbose=False,
        input_names=["x", "past_k", "past_v"], output_names=["y", "present_k", "present_v"],
    )  # fmt: skip
    inputs = (
        TensorSpec("x", "float32", (1, 1, 8)),
        *(TensorSpec(n, "float32", (1, "t", 8)) for n in ("past_k", "past_v")),
    )
    session = OpenVino().open(Artifact(tmp_path / "m.onnx", "onnx", "fp32", inputs, ()), OpenVino.Options())
    feeds = {"x": np.ones((1, 1, 8), np.float32), "past_k": np.zeros((1, 0, 8), np.float32)}
    with pytest.raises(EngineError, match="'past_k' is empty, after which OpenVINO would answer wrongly"):
        session.run({**feeds, "past_v": feeds["past_k"]})
    long = {name: np.ones((1, 30, 8), np.float32) for name in ("past_k", "past_v")}
    with torch.no_grad():
        want = net(torch.ones(1, 1, 8), torch.ones(1, 30, 8), torch.ones(1, 30, 8))["y"].numpy()
    np.testing.assert_allclose(session.run({**feeds, **long})["y"], want, rtol=1e-4, atol=1e-5)

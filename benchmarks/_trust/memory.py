"""Models whose answers depend on what came before, and rows that nobody reads."""

from __future__ import annotations

import json

import numpy as np
import torch

from _trust import nets
from _trust.side import Array, Outcome, Side

ROLL = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from run import load
frames = np.load(sys.argv[2])["frames"]
kept, state = [], np.zeros((1, 48), np.float32)
with load() as model:
    for frame in frames:
        score, state = model.run({"frame": frame, "state": state}).values()
        kept.append(score.ravel()[0])
np.save(sys.argv[3], np.array(kept))
"""

STREAM = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from run import load
pieces = np.load(sys.argv[2])["pieces"]
with load() as model, model.stream() as stream:
    np.save(sys.argv[3], np.stack([np.array(next(iter(stream.run({"piece": piece}).values()))) for piece in pieces]))
"""


def roll(frames: Array) -> tuple[Array, Array]:
    """PyTorch's scores [n], and the state before each frame [n, 1, 48]."""
    net = nets.leaky()[0]
    state, states, scores = torch.zeros(1, 48), [], []
    with torch.no_grad():
        for frame in frames:
            states.append(state.numpy())
            score, state = net(torch.from_numpy(frame), state)
            scores.append(float(score))
    return np.array(scores), np.stack(states)


def slow_noise(count: int, seed: int) -> Array:
    noise = np.random.default_rng(seed).standard_normal((count + 4, 1, 24)).astype(np.float32)
    return np.mean([noise[i : i + count] for i in range(5)], 0, dtype=np.float32)


def drift(side: Side) -> Outcome:
    """Each sample holds the true state; in the app the bundle is fed its own."""
    frames = slow_noise(200, 1)
    np.savez(side.folder / "data.npz", frame=frames, state=roll(frames)[1])
    done = side.export(
        "nets.py:leaky", "cpu-onnxruntime", "leaky", "--data", "data.npz", "--candidate", "onnxruntime int8 static"
    )
    told = "rollout" in json.dumps(done.json.get("candidates", "")) and any(
        item.get("rollout") for item in done.json.get("candidates", [])
    )
    if done.code:
        named = "drift" in done.err or "roll" in done.err or "step" in done.err or "state" in done.err
        return Outcome(f"refused, {done.said}", not done.broke and (named or told))
    frames = slow_noise(300, 2)
    truth = roll(frames)[0]
    np.savez(side.folder / "frames.npz", frames=frames)
    app = side.script(ROLL, "leaky.edgekit", "frames.npz", "got.npy")
    if app.code:
        return Outcome(f"{done.picked}, the app: {app.said}", False)
    got = np.load(side.folder / "got.npy")
    error, differ = np.linalg.norm(truth - got) / np.linalg.norm(truth), int(((truth > 0.5) != (got > 0.5)).sum())
    return Outcome(
        f"{done.picked}, after 300 own steps {100 * error:.0f} % off, {differ} decisions differ, "
        f"the stream was {'rolled out' if told else 'not rolled out'}",
        bool(told and differ <= 15),
    )


def buffer(side: Side) -> Outcome:
    """Forward overwrites a buffer: the bundle streams as PyTorch does."""
    done = side.export("nets.py:delay", "cpu-onnxruntime", "delay", "--candidate", "onnxruntime fp32")
    if done.code:
        return Outcome(done.said, False)
    pieces = np.random.default_rng(3).standard_normal((12, 1, 8, 40)).astype(np.float32)
    np.savez(side.folder / "pieces.npz", pieces=pieces)
    app = side.script(STREAM, "delay.edgekit", "pieces.npz", "got.npy")
    if app.code:
        return Outcome(f"{done.picked}, the app: {app.said}", False)
    net = nets.delay()[0]
    with torch.no_grad():
        truth = np.stack([net(torch.from_numpy(piece)).numpy() for piece in pieces])
    error = float(np.abs(np.load(side.folder / "got.npy") - truth).max())
    return Outcome(f"{done.picked}, 12 pieces of a stream within {error:.1g} of PyTorch", error < 1e-4)


def left_padding(side: Side) -> Outcome:
    """A decoder with prompts padded on the left; the rows of padding are read by nobody."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(side.folder / "decoder")
    draw, count, length = np.random.default_rng(0), 8, 16
    words, mask = draw.integers(3, 300, (count, 1, length)), np.ones((count, 1, length), np.int64)
    for index in range(count):
        mask[index, 0, :index] = 0
    places = np.maximum(mask.cumsum(-1) - 1, 0)
    samples = [
        {"input_ids": a, "attention_mask": b, "position_ids": c} for a, b, c in zip(words, mask, places, strict=True)
    ]
    np.savez(side.folder / "data.npz", input_ids=words, attention_mask=mask, position_ids=places)
    free = [part for name in samples[0] for part in ("--dynamic", f"{name}:1")]
    done = side.export(
        "decoder", "cpu-onnxruntime", "decoder", "--data", "data.npz", "--candidate", "onnxruntime fp32", *free
    )
    if done.code:
        return Outcome(done.said, False)
    worst = 0.0
    for item, answer in zip(samples, side.answers("decoder.edgekit", samples), strict=True):
        with torch.no_grad():
            truth = model(**{name: torch.from_numpy(value) for name, value in item.items()}).logits.numpy()
        read = item["attention_mask"][0] == 1
        worst = max(worst, float(np.abs(answer[0] - truth)[0, read].max()))
    return Outcome(f"{done.picked}, real tokens within {worst:.1g} of PyTorch", worst < 1e-3)

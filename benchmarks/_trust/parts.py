"""What one number over a whole output hides."""

from __future__ import annotations

import numpy as np
import torch

from _trust import nets
from _trust.side import Array, Outcome, Side, decibels, graph_answers


def pictures(count: int, seed: int, size: int = 96) -> Array:
    """Blotches, [count, 1, 3, size, size]."""
    coarse = np.random.default_rng(seed).random((count, 1, 3, size // 8, size // 8), np.float32)
    return np.repeat(np.repeat(coarse, 8, 3), 8, 4)


def detector(side: Side, net: str, target: str, candidate: str = "") -> Outcome:
    """Detections are cells whose class score exceeds 0.5.

    A candidate is named where the float form of so small a net would win the race. Targets without one are devices
    that are not here: their graph is run by plain ONNX Runtime.
    """
    np.savez(side.folder / "data.npz", image=pictures(32, 1))
    done = side.export(
        f"nets.py:{net}", target, "detector", "--data", "data.npz", *(["--candidate", candidate] if candidate else [])
    )
    if done.code:
        return Outcome(f"refused, {done.said}", not done.broke)
    samples = [{"image": item} for item in pictures(24, 2)]
    bundle = side.folder / "detector.edgekit"
    got = np.stack([item[0] for item in (side.answers if candidate else graph_answers)(bundle, samples)])
    model = getattr(nets, net)()[0]
    with torch.no_grad():
        truth = np.stack([model(torch.from_numpy(item["image"])).numpy() for item in samples])
    there, found = truth[:, :, 4:] > 0.5, got[:, :, 4:] > 0.5
    kept, false = int((there & found).sum()), int((found & ~there).sum())
    whole = 10 * np.log10((truth.astype(np.float64) ** 2).sum() / ((truth - got).astype(np.float64) ** 2).sum())
    scores = decibels(truth[:, :, 4:], got[:, :, 4:])
    right = kept >= 0.9 * there.sum() and false <= 0.1 * there.sum()
    return Outcome(
        f"{done.picked}, whole {whole:.0f} dB, scores {scores:.0f} dB, "
        f"{kept:,} of {there.sum():,} detections, {false:,} false",
        bool(right),
    )


def offset(side: Side) -> Outcome:
    """r² is what a regression is worth; a constant answer has 0."""
    draw = np.random.default_rng(3)
    np.savez(side.folder / "data.npz", input=draw.standard_normal((200, 1, 12)).astype(np.float32))
    done = side.export("nets.py:pressure", "mobile-npu", "pressure", "--data", "data.npz")
    if done.code:
        return Outcome(f"refused, {done.said}", not done.broke)
    samples = [{"input": item} for item in draw.standard_normal((300, 1, 12)).astype(np.float32)]
    got = np.concatenate([item[0] for item in graph_answers(side.folder / "pressure.edgekit", samples)]).astype(
        np.float64
    )
    with torch.no_grad():
        truth = nets.pressure()[0](torch.from_numpy(np.concatenate([i["input"] for i in samples]))).numpy()
    r2 = 1 - ((got - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    text = f"{done.picked}, {len(np.unique(got))} distinct answers for 300 inputs, r² {r2:.3f}"
    return Outcome(text, bool(r2 > 0.9))


def class_numbers(side: Side) -> Outcome:
    """An argmax inside: the only output is int64."""
    draw = np.random.default_rng(4)
    np.savez(side.folder / "data.npz", image=draw.standard_normal((24, 1, 3, 32, 32)).astype(np.float32))
    done = side.export("nets.py:segmenter", "cpu-onnxruntime", "segmenter", "--data", "data.npz")
    if done.code:
        return Outcome(done.said, False)
    samples = [{"image": item} for item in draw.standard_normal((8, 1, 3, 32, 32)).astype(np.float32)]
    got = np.concatenate([item[0] for item in side.answers("segmenter.edgekit", samples)])
    with torch.no_grad():
        truth = nets.segmenter()[0](torch.from_numpy(np.concatenate([i["image"] for i in samples]))).numpy()
    differ = float((got != truth).mean())
    return Outcome(f"{done.picked}, {100 * differ:.2f} % of the class numbers differ", differ < 0.02)

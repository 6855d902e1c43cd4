"""`.onnx` files of other exporters: what they declare is not what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from _trust.side import Array, Outcome, Side


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Array]) -> None:
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def real(name: str, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def odd_dimensions(side: Side, kind: str) -> Outcome:
    """The bundle answers as plain ONNX Runtime does with the file, with batch 1 and another."""
    draw = np.random.default_rng(12)
    path = side.folder / "odd.onnx"
    if kind in ("-1", "?"):
        first: int | str = -1 if kind == "-1" else "?"
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["c"], ["s"]),
            helper.make_node("GlobalMaxPool", ["s"], ["y"]),
        ]
        weight = draw.standard_normal((5, 3, 3, 3)).astype(np.float32)
        save(path, nodes, [real("x", [first, 3, "?", "?"])], [real("y", [first, 5, 1, 1])], {"w": weight})
        feeds = [{"x": draw.standard_normal((n, 3, 40, 56)).astype(np.float32)} for n in (1, 3)]
    else:  # a file whose output is declared as it is not, by rank or by a batch of 1
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["g"]),
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "zero"], ["b"]),
            helper.make_node("Concat", ["b", "rest"], ["t"], axis=0),
            helper.make_node("Reshape", ["g", "t"], ["y"]),
        ]
        weights = {
            "w": draw.standard_normal((10, 8)).astype(np.float32),
            "zero": np.array([0]),
            "rest": np.array([2, 4]),
        }
        declared = ["n", 8] if kind == "untrue" else [1, 2, 4]
        save(path, nodes, [real("x", ["n", 10])], [real("y", declared)], weights)
        feeds = [{"x": draw.standard_normal((n, 10)).astype(np.float32)} for n in (1, 5)]
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    truth = [session.run(None, item)[0] for item in feeds]
    done = side.export("odd.onnx", "cpu-onnxruntime", "odd", "--candidate", "onnxruntime fp32")
    if done.code:
        return Outcome(done.said, False)
    ends = []
    for item, wanted in zip(feeds, truth, strict=True):
        try:
            (got,) = side.answers("odd.edgekit", [item])[0]
            ends.append("right" if got.shape == wanted.shape and np.allclose(got, wanted, atol=1e-4) else "WRONG")
        except RuntimeError:
            ends.append("refused")
    batches = [len(item["x"]) for item in feeds]
    text = ", ".join(f"batch {batch} {end}" for batch, end in zip(batches, ends, strict=True))
    return Outcome(text, ends == ["right", "right"])


HIDDEN, WIDTH, WORDS = 40, 32, 50


class Tagger(nn.Module):
    """A bidirectional LSTM over padded sequences: what ``sequence_lens`` is for."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, HIDDEN, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(2 * HIDDEN, 9, bias=False)

    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.words(words), lengths, batch_first=True, enforce_sorted=False)
        found, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=words.shape[1])
        return self.tag(found)


def tagger_file(net: Tagger, path: Path) -> None:
    """The same net, written by hand: torch's gates i f g o are ONNX's i o f c."""
    of = {name: value.detach().numpy() for name, value in net.state_dict().items()}

    def gates(value: Array) -> Array:
        i, f, g, o = np.split(value, 4)
        return np.concatenate([i, o, f, g])

    def both(name: str) -> Array:
        return np.stack([gates(of[f"rnn.{name}_l0"]), gates(of[f"rnn.{name}_l0_reverse"])])

    nodes = [
        helper.make_node("Gather", ["table", "words"], ["e"]),
        helper.make_node("Transpose", ["e"], ["x"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths"], ["l"], to=TensorProto.INT32),
        helper.make_node("LSTM", ["x", "W", "R", "B", "l"], ["g"], hidden_size=HIDDEN, direction="bidirectional"),
        helper.make_node("Transpose", ["g"], ["t"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["t", "merge"], ["f"]),
        helper.make_node("MatMul", ["f", "tag"], ["tags"]),
    ]
    whole = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.INT64, shape)  # noqa: E731
    weights = {
        "table": of["words.weight"], "W": both("weight_ih"), "R": both("weight_hh"),
        "B": np.concatenate([both("bias_ih"), both("bias_hh")], 1),
        "tag": of["tag.weight"].T, "merge": np.array([0, 0, -1]),
    }  # fmt: skip
    save(path, nodes, [whole("words", ["n", "t"]), whole("lengths", ["n"])], [real("tags", ["n", "t", 9])], weights)


def sequence_lengths(side: Side) -> Outcome:
    """PyTorch is the truth; an evaluator that ignores ``sequence_lens`` rejects the right engine."""
    torch.manual_seed(2)
    net = Tagger().eval()
    tagger_file(net, side.folder / "tagger.onnx")
    draw = np.random.default_rng(2)
    words, lengths = draw.integers(0, WORDS, (16, 1, 24)), draw.integers(5, 24, (16, 1))
    np.savez(side.folder / "data.npz", words=words, lengths=lengths)
    done = side.export("tagger.onnx", "cpu", "tagger", "--data", "data.npz")
    if done.code:
        return Outcome(done.said, False)
    samples = [{"words": w, "lengths": n} for w, n in zip(words[:6], lengths[:6], strict=True)]
    got = side.answers("tagger.edgekit", samples)
    errors = []
    for item, (answer,) in zip(samples, got, strict=True):
        with torch.no_grad():
            truth = net(torch.from_numpy(item["words"]), torch.from_numpy(item["lengths"])).numpy()
        real_steps = int(item["lengths"][0])
        difference = (answer - truth)[:, :real_steps]
        errors.append(float(np.linalg.norm(difference) / np.linalg.norm(truth[:, :real_steps])))
    return Outcome(f"{done.picked}, {100 * max(errors):.2g} % from PyTorch on real steps", max(errors) < 0.05)

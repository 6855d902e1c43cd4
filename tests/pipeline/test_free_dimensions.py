"""A free dimension that works at one size alone is found, whoever froze it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgekit.accuracy.reference import Reference
from edgekit.api import export as exporting
from edgekit.contracts import Feeds, Outputs
from edgekit.errors import EngineError, ParityError
from edgekit.pipeline.free_dimensions import at_second_sizes, refuse_frozen
from edgekit.sources.load import load_source

torch.manual_seed(0)  # a reversed sequence must be told from the right one, whatever the weights
NET = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).eval()


class Open:
    """What a worker looks like from here."""

    def __init__(self, run: Callable[[Feeds], Outputs]) -> None:
        self.run = run


def test_each_is_tried_where_the_reference_answers() -> None:
    source = load_source((NET, torch.ones(1, 5, 4)), dynamic=["input:0", "input:1=length"])
    reference = Reference("PyTorch", source.forward)
    feeds = {"input": np.ones((1, 5, 4), np.float32)}
    found = at_second_sizes(source, reference, feeds, {"length": (1, 5, 7)})
    assert [(item.dim, item.size, item.other, item.expected["output"].shape) for item in found] == [
        ("batch", 1, 2, (2, 5, 3)),
        ("length", 5, 2, (1, 2, 3)),
    ]
    refuse_frozen(Open(source.forward), found, "fp32", ())  # type: ignore[arg-type]

    def refuses(feeds: Feeds) -> Outputs:
        raise EngineError("got 2, expected 1")

    def forgets(feeds: Feeds) -> Outputs:
        return {name: array[:1] for name, array in source.forward(feeds).items()}

    def repeats(feeds: Feeds) -> Outputs:
        return {name: array[:, ::-1] for name, array in source.forward(feeds).items()}

    for run, why in ((refuses, "got 2, expected 1"), (forgets, "must be float32 2x5x3, got float32 1x5x3")):
        with pytest.raises(ParityError, match=f"'batch' is right at 1 and wrong at 2: .*{why}"):
            refuse_frozen(Open(run), found, "fp32", ())  # type: ignore[arg-type]
    random = {"input": np.random.default_rng(0).normal(size=(1, 5, 4)).astype(np.float32)}
    for precision in ("fp32", "int8"):
        with pytest.raises(ParityError, match=r"'batch' is right at 1 and wrong at 2: rel_l2"):
            refuse_frozen(Open(repeats), at_second_sizes(source, reference, random, {}), precision, ())  # type: ignore[arg-type]


def test_a_pass_that_freezes_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one did that believed a file's word: at the sample's batch of 1 everything agrees."""
    monkeypatch.chdir(tmp_path)
    plain = exporting.run_passes

    def freezing(model: ir.Model, *more: Any) -> Any:
        model, records = plain(model, *more)
        value = model.graph.outputs[0]
        shape = ir.node("Constant", [], {"value_ints": [1, 3]})
        frozen = ir.node("Reshape", [value, shape.outputs[0]], name="frozen")
        frozen.outputs[0].name, value.name = value.name, "before"
        frozen.outputs[0].type, frozen.outputs[0].shape = value.type, value.shape
        model.graph.extend([shape, frozen])
        model.graph.outputs[0] = frozen.outputs[0]
        return model, records

    monkeypatch.setattr(exporting, "run_passes", freezing)
    with pytest.raises(ParityError) as raised:
        exporting.export(
            (NET, torch.ones(1, 4)), "cpu-onnxruntime", dynamic=["input:0"], candidates=("onnxruntime fp32",)
        )
    assert "the free dimension 'batch' is right at 1 and wrong at 2" in str(raised.value)

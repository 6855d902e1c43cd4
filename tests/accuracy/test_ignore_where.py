"""Which outputs are compared where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.accuracy.ignore_where import ignore_note, ignore_rules
from edgekit.api.export import export
from edgekit.bundle import open_bundle
from edgekit.contracts import TensorSpec
from edgekit.errors import UsageError
from edgekit.measure.ignore import IgnoreWhere
from edgekit.sources.source import Kind, Source


def source(kind: Kind, mask: Sequence[int | str], *outputs: TensorSpec) -> Source:
    inputs = (TensorSpec("ids", "int64", tuple(mask)), TensorSpec("attention_mask", "int64", tuple(mask)))
    return Source(
        spec="m", kind=kind, name="m", description="", inputs=inputs, outputs=outputs, example={}, parameters=0
    )


HIDDEN = TensorSpec("hidden", "float32", (1, 8, 16))
POOLED = TensorSpec("pooled", "float32", (1, 16))
START = TensorSpec("start", "float32", (1, 8))


def test_a_text_models_padding_is_not_compared() -> None:
    (rule,) = ignore_rules(source("huggingface", (1, 8), HIDDEN, POOLED, START), ())
    assert rule == IgnoreWhere("attention_mask", 0.0, ("hidden",)), "8 numbers may be 8 classes"
    free = TensorSpec("start", "float32", (1, "seq"))
    (rule,) = ignore_rules(source("huggingface", (1, "seq"), free, POOLED), ())
    assert rule.outputs == ("start",)
    assert ignore_note(rule) == "where attention_mask is 0, start is not compared: nobody reads it there"


def test_of_others_only_what_the_user_says() -> None:
    model = source("factory", (1, 8), HIDDEN, POOLED, START)
    assert ignore_rules(model, ()) == ()
    assert ignore_rules(model, ["attention_mask=0"])[0].outputs == ("hidden", "start")
    assert ignore_rules(source("huggingface", (1, 8), HIDDEN), ["none"]) == ()
    with pytest.raises(UsageError, match="does not have the form NAME=VALUE"):
        ignore_rules(model, ["attention_mask"])
    with pytest.raises(UsageError, match="has no input 'attention_mas'") as raised:
        ignore_rules(model, ["attention_mas=0"])
    assert "attention_mask" in raised.value.fix
    with pytest.raises(UsageError, match="no output begins with the dimensions of 'attention_mask int64 1x8'"):
        ignore_rules(source("factory", (1, 8), POOLED), ["attention_mask=0"])


class Padded(torch.nn.Module):
    """Rows of padding are divided by zero; PyTorch calls that NaN, and whoever reads them is to blame."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 6)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.linear(x) * (mask / mask)[..., None]}


def test_an_export_whose_padding_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = (Padded().eval(), (torch.randn(1, 5, 4), torch.tensor([[0.0, 0, 1, 1, 1]])))
    with pytest.raises(Exception, match="returned NaN in output 'y'"):
        export(model, "cpu-onnxruntime", max_time_s=0.5, candidates=("onnxruntime fp32",))
    result = export(model, "cpu-onnxruntime", ignore_where=["mask=0"], max_time_s=0.5, candidates=("onnxruntime fp32",))
    assert result.pick.parity is not None and result.pick.parity.rel_l2 < 1e-5
    assert "where mask is 0, y is not compared: nobody reads it there" in result.source["notes"]
    with open_bundle(result.bundle) as bundle:
        assert bundle.manifest.ignore == (IgnoreWhere("mask", 0.0, ("y",)),)
        ((_, expected),) = bundle.golden()
        assert np.isfinite(expected["y"]).all() and not expected["y"][0, :2].any()
        assert bundle.self_test().passed

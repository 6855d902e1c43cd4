"""float16 ends at 65504: the layer that passes it is named and stays in float32."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.analysis.overflow import SMALLEST, find_overflows
from edgekit.errors import ParityError
from edgekit.graph import MODULE_PATH
from edgekit.pipeline.half import beyond_range
from edgekit.pipeline.repair import Proposal
from edgekit.testing.passes import graph_of

TEXT = """(float[2] x, float[2] big, float[2] mask) => (float[2] y)
{ a = Mul (x, big) b = Neg (a) c = Add (x, mask) y = Add (b, c) }"""


def graph() -> ir.Model:
    lowest = np.array([np.finfo(np.float32).min, -np.inf], np.float32)  # stand for −∞: no layer computes them
    model = graph_of(TEXT, {"big": np.array([1e4, 1.0], np.float32), "mask": lowest})
    for node, path in zip(model.graph, ("encoder.up", "", "encoder.mask", "head"), strict=True):
        if path:
            node.metadata_props[MODULE_PATH] = path
    return model


def test_the_nodes_that_make_and_read_what_is_too_large() -> None:
    found = find_overflows(graph(), [{"x": np.ones(2, np.float32)}, {"x": np.full(2, 9.0, np.float32)}])
    assert [(item.tensor, item.largest, item.module) for item in found] == [
        ("a", 9e4, "encoder.up"),
        ("b", 9e4, "Neg_1"),
    ]
    assert found[0].nodes == ("Mul_0", "Neg_1")
    assert found[1].nodes == ("Neg_1", "Add_3")


def test_numbers_that_fit_are_no_overflow() -> None:
    assert find_overflows(graph(), [{"x": np.ones(2, np.float32)}]) == []


def test_an_input_that_is_too_large_keeps_its_readers() -> None:
    (first, *_) = find_overflows(graph(), [{"x": np.full(2, 1e5, np.float32)}])
    assert (first.tensor, first.module, first.nodes) == ("x", "", ("Mul_0", "Add_2"))


def test_a_tensor_without_a_normal_float16_is_found_where_that_is_asked_for() -> None:
    tiny = [{"x": np.full(2, 1e-10, np.float32)}]
    assert find_overflows(graph(), tiny) == []
    (first, *_) = find_overflows(graph(), tiny, smallest=SMALLEST)
    assert str(first) == "values stay below 1e-10 in x, float16 has all its digits from 6.1e-05 on"
    assert find_overflows(graph(), [{"x": np.zeros(2, np.float32)}], smallest=SMALLEST) == []


@pytest.mark.parametrize("converted", [True, False])
def test_a_range_that_float16_does_not_hold_is_named_whatever_an_engine_answers(converted: bool) -> None:
    """No engine is asked: the graph's nodes are kept, or, where the device computes all in float16, it is out."""
    passes = [SimpleNamespace(name="convert_float16")] if converted else []
    toolchain: Any = SimpleNamespace(candidate=SimpleNamespace(passes=passes, precision="fp16"))
    samples = [SimpleNamespace(feeds={"x": np.full(2, size, np.float32)}) for size in (1.0, 9.0)]
    job = SimpleNamespace(expected=samples, workdir=None)
    variant: Any = SimpleNamespace(job=job, graph=graph(), beyond={})
    found = beyond_range(toolchain, variant)
    why = "values reach 9e+04 in encoder.up, float16 ends at 65504"
    if converted:
        assert isinstance(found, Proposal) and found.nodes == {"Mul_0", "Neg_1", "Add_3"} and found.why == why
    else:
        assert isinstance(found, ParityError) and str(found) == why
    assert beyond_range(SimpleNamespace(candidate=SimpleNamespace(passes=[], precision="bf16")), variant) is None


NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.up, self.down = nn.Linear(16, 16), nn.Linear(16, 16)
        with torch.no_grad():
            self.up.weight.mul_(gain)
            self.down.weight.div_(gain)

    def forward(self, x):
        # ONNX Runtime's CPU provider moves float16 as such, and computes it in float32: what is moved, overflows.
        return self.down(self.up(x).relu().unflatten(1, (4, 4)).transpose(1, 2).flatten(1))

def build():
    torch.manual_seed(0)
    return nn.Sequential(Block(1.0), Block(2e5), Block(1.0)).eval(), 8 * torch.randn(2, 16)
"""
TARGET = """
name = "half"
extends = "cpu-base"
description = "float16 on the CPU"
[[candidates]]
name = "fp16"
precision = "fp16"
passes = [{ name = "convert_float16" }]
"""


@pytest.mark.slow
def test_an_export_keeps_the_overflowing_layer_in_float32(tmp_path: Path) -> None:
    """The middle block reaches 4e5. Real export, real engine; the bundle's own self-test is part of it."""
    from edgekit import export

    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "half.toml").write_text(TARGET)
    result = export(
        f"{tmp_path}/net.py:build", target=tmp_path / "half.toml", output=tmp_path / "net.edgekit", max_time_s=3
    )
    pick = result.pick
    assert pick.note is not None
    assert pick.note.endswith("nodes (1.up, 1) left in float32: values reach 3.42e+05 in 1.up, float16 ends at 65504")
    assert pick.parity is not None
    assert pick.parity.sqnr_db > 60
    graph = ir.load(tmp_path / "net.edgekit" / "model" / "model.onnx").graph
    types = {value.name: value.dtype for value in graph.initializers.values()}
    assert ir.DataType.FLOAT16 in types.values()
    kept = [node for node in graph if node.name in pick.kept_float]
    assert {item.dtype for node in kept for item in node.outputs} == {ir.DataType.FLOAT}


@pytest.mark.slow
def test_what_overflows_inside_an_operator_is_found_in_the_run_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if float32 had shown nothing: the first node that is not finite, and its readers, try by try."""
    from edgekit import export
    from edgekit.pipeline import half, repair

    monkeypatch.setattr(repair, "find_overflows", lambda *arguments: [])
    monkeypatch.setattr(half, "find_overflows", lambda *arguments, **more: [])
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "half.toml").write_text(TARGET)
    result = export(
        f"{tmp_path}/net.py:build", target=tmp_path / "half.toml", output=tmp_path / "net.edgekit", max_time_s=3
    )
    assert result.pick.note is not None
    assert " left in float32: " in result.pick.note
    assert "overflows float16; all fp16 had -inf dB" in result.pick.note
    assert {"linear_2", "linear_3"} <= set(result.pick.kept_float)

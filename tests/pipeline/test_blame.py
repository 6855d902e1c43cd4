"""A failure on made-up inputs blames them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.api.export import export
from edgekit.errors import DataError, EngineError, SourceError, UnusableSourceError
from edgekit.pipeline.blame import blaming


def test_only_what_inputs_can_cause_and_only_made_up_ones() -> None:
    with pytest.raises(SourceError) as raised, blaming("images 1x3x32x32"):
        raise SourceError("it does not run", details=["because"], fix="Check the file.")
    assert str(raised.value) == (
        "it does not run, on made-up images 1x3x32x32:\n  because\n"
        "These inputs may be at fault, not the model: give real ones with --data. Check the file."
    )
    passed = (SourceError("it does not run"), EngineError("no engine"), UnusableSourceError("no operator"))
    for made_up, error in zip((None, "images", "images"), passed, strict=True):
        with pytest.raises(type(error)) as same, blaming(made_up):
            raise error
        assert same.value is error


def test_a_logarithm_of_made_up_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ends = [helper.make_tensor_value_info(name, 1, [1, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), "m.onnx")
    with pytest.raises(DataError, match="NaN in output 'y' for sample 0, on made-up inputs x 1x8") as raised:
        export("m.onnx", "cpu-onnxruntime")
    assert "give real ones" in raised.value.fix
    np.savez("d.npz", x=np.ones((4, 8), np.float32))
    assert export("m.onnx", "cpu-onnxruntime", data="d.npz", max_time_s=0.5).source["made_up"] is None

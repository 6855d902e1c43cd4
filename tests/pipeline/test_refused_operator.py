"""An operator that an engine does not have: where in the user's model it is."""

from __future__ import annotations

import re
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgekit import export
from edgekit.errors import EngineError
from edgekit.graph import MODULE_PATH
from edgekit.pipeline.refused_operator import FIX, located

WORDS = {
    "ONNX Runtime": "NOT_IMPLEMENTED : Could not find an implementation for Det(11) node with name 'second'",
    "its provider": "Provider type for Det node with name 'second' is not set",
    "OpenVINO": "-- No conversion rule found for operations: Det-11",
}


def graph() -> ir.Model:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[4,4] x) => (float y, float z, float[4,4] w) '
        "{ y = Det (x) z = Det (x) w = Cast <to=1> (x) }"
    )
    for node, name, module in zip(model.graph, ("first", "second", "third"), ("body", "head", "tail"), strict=True):
        node.name = name
        node.metadata_props[MODULE_PATH] = module
    return model


@pytest.mark.parametrize(("engine", "places"), [("ONNX Runtime", 1), ("its provider", 1), ("OpenVINO", 2)])
def test_an_operator_of_the_graph_is_told_by_its_module(engine: str, places: int) -> None:
    error = located(EngineError(f"refused: {WORDS[engine]}"), graph())
    assert error.details == ("Det  (body)", "Det  (head)")[-places:]
    assert error.fix == FIX


def test_a_name_that_the_engine_made_up_stands_for_its_operator() -> None:
    error = located(EngineError("for Det(11) node with name 'fused_17'"), graph())
    assert error.details == ("Det  (body)", "Det  (head)")


@pytest.mark.parametrize("text", ["cannot Cast the graph", "needs version 11", "operations: Foo-1"])
def test_words_that_name_no_operator_of_the_graph_add_nothing(text: str) -> None:
    error = EngineError(text)
    assert located(error, graph()) is error


def test_an_error_that_says_what_to_do_stays_as_it_is() -> None:
    error = EngineError(WORDS["OpenVINO"], fix="pip install it")
    assert located(error, graph()) is error


class Head(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.det(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + 1)  # type: ignore[no-any-return]


def test_an_operator_of_a_program_is_told_by_its_module_and_line() -> None:
    program = torch.export.export(Net().eval(), (torch.eye(4),))
    error = located(EngineError("Lowering not found: aten._linalg_det.default"), graph(), program)
    (line,) = error.details
    assert re.fullmatch(
        r"aten\._linalg_det\.default  head \(Head\)  \S*test_refused_operator\.py:\d+ in forward: "
        r"return torch\.linalg\.det\(x\)",
        line,
    )


def test_export_for_an_engine_without_the_operator(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        export((Net().eval(), (torch.eye(4),)), target="cpu-openvino", output=tmp_path / "net.edgekit")
    assert "No conversion rule found for operations: Det-20" in str(caught.value)
    assert "\n  Det  (head)\n" in str(caught.value)
    assert not (tmp_path / "net.edgekit").exists()

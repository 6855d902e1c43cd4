"""Our rules beside NVIDIA's parser, over every ONNX node test; and the parser as a second opinion.

The parser is TensorRT-RTX's, the sibling of TensorRT 11.4. Where the two disagree, each reason is named below.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.exporters import _tensorrt_parser as parser

INSTALL = "pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
needs_rtx = pytest.mark.skipif(
    not any(__import__("importlib.util").util.find_spec(name) for name in parser.PACKAGES),
    reason=f"needs TensorRT-RTX: {INSTALL}",
)

# The parser takes it, the rules do not, on purpose.
STRICTER = (
    r"is float64, which TensorRT would round",  # silent damage
    r"is uint8, which nothing but a Cast",  # documented for 10.x
    r"uint8 would be read as int8",
    r"it takes .* got (int8|int4|float8e4m3fn|float4e2m1)",  # quantized types outside QuantizeLinear and its inverse
    r"its (scale|zero point) is computed",
    r"must be a constant",  # restrictions of 10.x that 11 has lifted: CumSum's axis, …
    r"it takes bfloat16, float, float16, got int32",  # CumSum
    r"'layout' must be 0",
    r"it takes 4 dimensions, got 5",  # GridSample
    r"the number of turns is not known",
    r"blocks are for 4 bits",
)
# The rules take it, the parser does not.
LOOSER = (
    r"[Pp]lugin",  # DeformConv, RoiAlign: TensorRT's plug-ins, which RTX has not
    r"Unsupported reduction type",  # ScatterElements: a plug-in too
    r"Network input scales is a shape tensor",  # Resize whose scales are an input of the network: of tests alone
    r"node_of_Y_AttentionInput|IAttention::setMask",  # shapes of Attention
    r"softmax precision",
    r"Only linear mode|past_cache tensor is required",  # TensorScatter
    r"The last chunk size is negative|reshape changes volume|The rank of operands should be the same",
    r"graphShapeAnalyzer",
    r"Unsupported data type for the Cast operator",  # float8e8m0
)


@needs_rtx
@pytest.mark.slow
def test_the_rules_agree_with_the_parser_on_the_onnx_node_tests() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("tensorrt_agreement.py"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=300,
    )
    cases: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(cases) > 1800
    taken_yet_found = [item for item in cases if item["takes"] and item["found"]]
    refused_yet_clean = [item for item in cases if not item["takes"] and not item["found"]]
    for item in taken_yet_found:
        assert all(any(re.search(why, line) for why in STRICTER) for line in item["found"]), item
    for item in refused_yet_clean:
        assert any(re.search(why, item["words"]) for why in LOOSER), item
    agreed = len(cases) - len(taken_yet_found) - len(refused_yet_clean)
    assert agreed >= 0.9 * len(cases), f"{agreed} of {len(cases)}"


def write(path: Path, op_type: str) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"], name="it")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 3] if op_type == "Relu" else [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@needs_rtx
def test_the_parsers_verdict(tmp_path: Path) -> None:
    taken = parser.ask(write(tmp_path / "a.onnx", "Relu"))
    assert taken is not None and taken.refusals == () and taken.parser.startswith("TensorRT-RTX 1.")
    refused = parser.ask(write(tmp_path / "b.onnx", "Det"))
    assert refused is not None and refused.refusals[0].startswith("Det  (it)  ")


def test_without_the_package_there_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "PACKAGES", ("no_such_package",))
    assert parser.ask(tmp_path / "any.onnx") is None

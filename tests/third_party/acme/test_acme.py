"""What its author runs: edgekit's conformance kit. Run from edgekit's own tests, where the package is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from acme.engine import Acme
from onnx import helper

from edgekit.contracts import Artifact, TensorSpec, Tolerance
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance
from edgekit.testing.targets import TargetConformance


class TestAcme(RuntimeConformance):
    @pytest.fixture
    def runtime_case(self, tmp_path: Path) -> RuntimeCase:
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "relu", [x], [y])
        onnx.save(helper.make_model(graph), tmp_path / "relu.onnx")
        specs = [(TensorSpec(name, "float32", (2, 3)),) for name in ("x", "y")]
        artifact = Artifact(tmp_path / "relu.onnx", "onnx", "fp32", *specs)
        feeds = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
        return RuntimeCase(Acme(), artifact, feeds, {"y": np.maximum(feeds["x"], 0)}, Tolerance(max_abs=0.0))


class TestAcmeBoard(TargetConformance):
    @pytest.fixture
    def target(self) -> str:
        return "acme-board"

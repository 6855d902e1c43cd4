"""Every adapter of ours passes the kit that plug-in authors use."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.contracts import Artifact, Tolerance
from edgekit.runtimes.onnxruntime import OnnxRuntime
from edgekit.runtimes.openvino import OpenVino
from edgekit.runtimes.torch_eager import TorchEager
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance

Arrays = dict[str, np.ndarray]
# float32 throughout, sums of up to 36 terms: rounding stays under 1e-6 relative.
FLOAT32 = Tolerance(rel_l2=1e-6)


class TestOnnxRuntime(RuntimeConformance):
    @pytest.fixture
    def runtime_case(self, artifacts: dict[str, Artifact], feeds: Arrays, expected: Arrays) -> RuntimeCase:
        return RuntimeCase(OnnxRuntime(), artifacts["onnx"], feeds, expected, FLOAT32)


class TestOpenVinoOnnx(RuntimeConformance):
    @pytest.fixture
    def runtime_case(self, artifacts: dict[str, Artifact], feeds: Arrays, expected: Arrays) -> RuntimeCase:
        return RuntimeCase(OpenVino(), artifacts["onnx"], feeds, expected, FLOAT32)


class TestOpenVinoIr(RuntimeConformance):
    @pytest.fixture
    def runtime_case(self, artifacts: dict[str, Artifact], feeds: Arrays, expected: Arrays) -> RuntimeCase:
        return RuntimeCase(OpenVino(), artifacts["openvino-ir"], feeds, expected, FLOAT32)


class TestTorchEager(RuntimeConformance):
    @pytest.fixture
    def runtime_case(self, artifacts: dict[str, Artifact], feeds: Arrays, expected: Arrays) -> RuntimeCase:
        return RuntimeCase(TorchEager(), artifacts["exported-program"], feeds, expected, FLOAT32)

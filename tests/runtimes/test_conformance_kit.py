"""Every adapter that is found passes the kit that plug-in authors use: a new one is tested by being there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit import plugins
from edgekit.contracts import Artifact, Tolerance
from edgekit.errors import EngineError
from edgekit.testing.runtimes import RuntimeCase, RuntimeConformance

Arrays = dict[str, np.ndarray]
# float32 throughout, sums of up to 36 terms: rounding stays under 1e-6 relative.
FLOAT32 = Tolerance(rel_l2=1e-6)
ELSEWHERE = {
    "null": "test_null.py: it computes nothing",
    "onnxruntime_cuda": "test_onnxruntime_cuda.py, on a GPU; test_ort_device.py, its session on the CPU",
    "onnxruntime_qnn": "test_onnxruntime_qnn.py, on the emulator, in float16 and static shapes",
    "onnxruntime_tensorrt": "test_onnxruntime_tensorrt.py: it needs a GPU",
    "onnxruntime_web": "test_onnxruntime_web.py, in a browser",
    "tensorrt": "test_tensorrt_session.py, on a host's memory in place of a GPU's",
    "tensorrt_rtx": "test_tensorrt.py: the same session, another library",
}
"""Adapters that the model below, or a machine without their device, cannot try; and what tries them instead."""
FOUND = {name: plugins.load("runtimes", name)() for name in plugins.names("runtimes") if name not in ELSEWHERE}


@pytest.mark.parametrize(
    ("name", "format"),
    [(name, format) for name, item in FOUND.items() for format in item.formats],
)
class TestEveryRuntime(RuntimeConformance):
    @pytest.fixture
    def runtime_case(
        self, name: str, format: str, artifact: Callable[[str], Artifact], feeds: Arrays, expected: Arrays
    ) -> RuntimeCase:
        try:
            FOUND[name].version()
        except EngineError as error:
            pytest.skip(str(error))
        return RuntimeCase(FOUND[name], artifact(format), feeds, expected, FLOAT32)

"""TensorRT for RTX: the same API and the same ONNX parser, for GeForce and RTX cards, installed by pip alone."""

from __future__ import annotations

from typing import Any

from ._tensorrt import PlanRuntime, SessionOptions


class TensorRtRtx(PlanRuntime):
    """Opens the artifacts of TensorRT. Its plans are compiled on the GPU when they are loaded.

    Source: NVIDIA, "TensorRT-RTX", support matrix: compute capability 7.5, 8.0, 8.6, 8.9, 12.0 and later.
    """

    name = "tensorrt_rtx"
    install = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"
    modules = ("tensorrt_rtx", "tensorrt_rtx_bindings")
    timing_cache = False  # it has no kernels to time when it builds
    Options = SessionOptions

    def configure(self, trt: Any, config: Any) -> None:
        """Build for this GPU alone, not for every card that the plan could be carried to."""
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)


PLUGIN = TensorRtRtx

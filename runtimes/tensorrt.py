"""TensorRT 10.3 and later, 11 too, on a Jetson or a desktop GPU."""

from __future__ import annotations

from typing import ClassVar

from ._tensorrt import PlanRuntime, SessionOptions


class TensorRt(PlanRuntime):
    """Builds the plan on the device that it runs on. On a Jetson, JetPack brings TensorRT and its Python package."""

    name = "tensorrt"
    install = "pip install tensorrt"
    by_pip = False
    install_on: ClassVar = {"aarch64": "apt install python3-libnvinfer python3-numpy"}  # from JetPack's package archive
    note = "On a Jetson, JetPack brings it: apt install python3-libnvinfer."
    modules = ("tensorrt", "tensorrt_bindings")
    Options = SessionOptions


PLUGIN = TensorRt

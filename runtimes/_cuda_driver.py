"""What NVIDIA's driver tells before an engine is asked: is there a GPU, and is the driver new enough.

Engines answer these questions late and vaguely (ONNX Runtime falls back to the CPU). The driver's own library answers
at once: no Python package is needed.

Source: NVIDIA, "CUDA Driver API" (cuda.h): names, result codes, device attributes. "CUDA Toolkit Release Notes", table
"minimum required driver version for CUDA minor version compatibility": `_LEAST_DRIVER`.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError

_LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_NO_DEVICE, _INSUFFICIENT_DRIVER, _DRIVER_MISMATCH = 100, 35, 803
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
# Major version of CUDA → the oldest driver that runs programs built with it (Linux).
_LEAST_DRIVER = {11: "450", 12: "525", 13: "580"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, in the order of CUDA."""

    name: str
    capability: tuple[int, int]  # (9, 0) on an H100
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver and the GPUs that this process may use."""

    cuda: tuple[int, int]  # the newest CUDA whose programs it runs
    gpus: tuple[Gpu, ...]


class CudaDriver:
    """The driver's library, initialized.

    Args:
        library: the opened library, or what behaves like it.

    Raises:
        EngineError: it finds no GPU, or cannot be used.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        done = library.cuInit(0)
        if done == _NO_DEVICE:
            raise EngineError(f"NVIDIA's driver finds no GPU{_visible()}", fix=_NO_GPU)
        if done in (_INSUFFICIENT_DRIVER, _DRIVER_MISMATCH):
            raise EngineError(
                f"NVIDIA's driver library and its kernel module do not fit together (cuInit: error {done})",
                fix="Reinstall NVIDIA's driver and restart the machine.",
            )
        if done != 0:
            raise EngineError(f"NVIDIA's driver cannot be used: cuInit says error {done}", fix=_NO_GPU)

    def describe(self) -> Driver:
        """The version of CUDA it runs, and its GPUs.

        Raises:
            EngineError: no GPU is visible.
        """
        version = self._integer("cuDriverGetVersion")
        count = self._integer("cuDeviceGetCount")
        if not count:
            raise EngineError(f"NVIDIA's driver finds no GPU{_visible()}", fix=_NO_GPU)
        return Driver((version // 1000, version % 1000 // 10), tuple(self._gpu(index) for index in range(count)))

    def free_bytes(self, index: int) -> int:
        """Free memory of a GPU now, in bytes, with this process' CUDA context already in it.

        The context is the one that engines use too. It is never released: the last release would tear it down.
        """
        context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device(index))
        self._call("cuCtxPushCurrent_v2", context)
        try:
            self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(context))
        return free.value

    def _gpu(self, index: int) -> Gpu:
        device, name, memory = self._device(index), ctypes.create_string_buffer(128), ctypes.c_size_t()
        self._call("cuDeviceGetName", name, len(name), device)
        self._call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        capability = tuple(
            self._integer("cuDeviceGetAttribute", key, device) for key in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
        )
        return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)

    def _device(self, index: int) -> ctypes.c_int:
        return ctypes.c_int(self._integer("cuDeviceGet", index))

    def _integer(self, function: str, *arguments: Any) -> int:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        done = getattr(self._library, function)(*arguments)
        if done != 0:
            raise EngineError(f"NVIDIA's driver cannot be used: {function} says error {done}")


@functools.cache
def load() -> CudaDriver:
    """The driver of this machine; its library stays open.

    Raises:
        EngineError: there is none, or no GPU.
    """
    try:
        library: Any = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineError(f"no NVIDIA driver on this machine: {_LIBRARY} cannot be loaded", fix=_NO_GPU) from error
    return CudaDriver(library)


def require(driver: Driver, engine: str, built_for: str, device_id: int = 0) -> Gpu:
    """The GPU to use, of a driver that is new enough for the engine.

    Args:
        driver: what `CudaDriver.describe` said.
        engine: the engine and its version, for the message.
        built_for: the version of CUDA it was built with: "13.0". Programs run with every later minor version.
        device_id: which GPU.

    Raises:
        EngineError: the driver is too old, or has no such GPU.
    """
    wanted = int(built_for.split(".")[0])
    if driver.cuda[0] < wanted:
        least = f", {_LEAST_DRIVER[wanted]} or later" if wanted in _LEAST_DRIVER else ""
        raise EngineError(
            f"NVIDIA's driver is too old: it runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, "
            f"and {engine} is built for CUDA {built_for}",
            fix=f"Install a driver for CUDA {wanted}{least}, or a build of the engine for CUDA {driver.cuda[0]}.",
        )
    if device_id >= len(driver.gpus):
        names = ", ".join(f"{index}: {gpu.name}" for index, gpu in enumerate(driver.gpus))
        raise EngineError(f"there is no GPU {device_id}{_visible()}; this machine has {names}")
    return driver.gpus[device_id]


_NO_GPU = "This needs a machine with an NVIDIA GPU and its driver, which nvidia-smi lists."


def _visible() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES is '{visible}')"

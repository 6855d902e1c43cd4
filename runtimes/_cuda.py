"""The few calls of CUDA that an adapter needs: memory, a stream, a graph. (Questions about the driver: `_cuda_driver`.)

By the driver's own library (libcuda): it is on every machine with a GPU that works, its ABI does not change from one
CUDA version to the next, and no Python package is needed.

Source: NVIDIA, "CUDA Driver API" (cuda.h): names, enumerations, the ``_v2`` suffixes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError

_LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_HOST_PORTABLE = 1
_CAPTURE_THREAD_LOCAL = 1  # CUstreamCaptureMode: other threads' calls do not disturb a capture
_NO_DEVICE = 100


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that plans are built for."""

    name: str
    compute_capability: str  # "8.7"
    driver_cuda: int  # the newest CUDA that the driver speaks: 12060 is 12.6
    driver: str  # the driver's own version where the system tells, else that of CUDA
    integrated: bool  # it shares the CPU's memory, as on a Jetson


class Cuda:
    """The first GPU's primary context, shared with every library in this process."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("cuInit", 0)
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()

    def enter(self) -> None:
        """Make the context current in this thread."""
        self._call("cuCtxSetCurrent", self._context)

    def gpu(self) -> Gpu:
        """What the GPU and the driver are."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return Gpu(
            name=name.value.decode(errors="replace"),
            compute_capability=f"{self._attribute(_MAJOR)}.{self._attribute(_MINOR)}",
            driver_cuda=version.value,
            driver=driver_version() or cuda_version(version.value),
            integrated=bool(self._attribute(_INTEGRATED)),
        )

    def allocate(self, size: int) -> int:
        """Memory on the GPU, at least one byte; its address."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def free(self, pointer: int) -> None:
        """Give memory on the GPU back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def allocate_host(self, size: int) -> tuple[int, NDArray[np.uint8]]:
        """Page-locked memory of the host, which copies go to and from at full speed: its address and its bytes."""
        pointer = ctypes.c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)), _HOST_PORTABLE)
        assert pointer.value is not None
        memory = (ctypes.c_uint8 * max(size, 1)).from_address(pointer.value)
        return pointer.value, np.frombuffer(memoryview(memory), np.uint8, count=size)

    def free_host(self, pointer: int) -> None:
        """Give page-locked memory back."""
        self._call("cuMemFreeHost", ctypes.c_void_p(pointer))

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Start a copy to the GPU."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(device),
            ctypes.c_void_p(host),
            ctypes.c_size_t(size),
            ctypes.c_void_p(stream),
        )

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Start a copy from the GPU."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(host),
            ctypes.c_uint64(device),
            ctypes.c_size_t(size),
            ctypes.c_void_p(stream),
        )

    def stream(self) -> int:
        """A new stream, which does not wait for the default one."""
        made = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(made), 1)
        return made.value or 0

    def destroy_stream(self, stream: int) -> None:
        """End a stream."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        """Wait until all that was started on the stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def begin_capture(self, stream: int) -> None:
        """From here on, what is started on the stream is recorded and not run."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """A graph of what was recorded, ready to launch."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Start a graph."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Free a graph."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(text))
            words = text.value.decode() if text.value else f"error {code}"
            raise EngineError(f"CUDA: {words} ({name}, error {code})", fix=_fix(code))


@functools.cache
def load_cuda() -> Cuda:
    """The GPU of this process.

    Raises:
        EngineError: no driver, no GPU, or one that cannot be used; in CUDA's words.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineError(
            f"no NVIDIA driver here: {_LIBRARY} cannot be loaded",
            fix="A plan is built and run on a machine with an NVIDIA GPU: --device ssh://…",
        ) from error
    return Cuda(library)


def driver_version() -> str | None:
    """The NVIDIA driver's version by what the kernel tells, on a Jetson the L4T release; None: it does not tell."""
    for path, pattern in (
        ("/proc/driver/nvidia/version", r"(?:Kernel Module|for \S+)\s+(?:for \S+\s+)?([\d.]+)"),
        ("/etc/nv_tegra_release", r"(R\d+).*?REVISION:\s*([\d.]+)"),
    ):
        try:
            found = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found is not None:
            return f"{platform.system()} {'.'.join(found.groups())}"
    return None


def cuda_version(number: int) -> str:
    """12060 → "CUDA 12.6"."""
    return f"CUDA {number // 1000}.{number % 1000 // 10}"


def _fix(code: int) -> str:
    if code == _NO_DEVICE:
        return "A plan is built and run on a machine with an NVIDIA GPU: --device ssh://…"
    if code in (35, 803, 804):  # insufficient driver, driver mismatch, not supported on this device
        return "Install a newer NVIDIA driver, or a TensorRT for the CUDA version that the driver speaks."
    return ""

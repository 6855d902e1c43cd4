"""A GPU of host memory, and an engine that doubles its input: what `TensorRtSession` talks to, without a GPU.

Not TensorRT: it shows that the session's own steps are in order (addresses, copies, shapes, graphs, memory given
back), and nothing about TensorRT. The members' names are checked against the real API in `test_tensorrt`.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgekit.errors import EngineError


class HostCuda:
    """`_cuda.Cuda`, with every allocation counted; a copy or a run happens when the stream is synchronized."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.streams = 0
        self.launches = 0

    def enter(self) -> None: ...

    def allocate(self, size: int) -> int:
        block = np.zeros(max(size, 1), np.uint8)
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def allocate_host(self, size: int) -> tuple[int, Any]:
        pointer = self.allocate(size)
        return pointer, self.memory[pointer][:size]

    free_host = free

    def start(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        self.start(lambda: ctypes.memmove(device, host, size))

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        self.start(lambda: ctypes.memmove(host, device, size))

    def stream(self) -> int:
        self.streams += 1
        return self.streams

    def destroy_stream(self, stream: int) -> None:
        self.streams -= 1

    def synchronize(self, stream: int) -> None:
        for work in self.queue:
            work()
        self.queue.clear()

    def begin_capture(self, stream: int) -> None:
        self.recording = []

    def end_capture(self, stream: int) -> int:
        recorded, self.recording = self.recording, None
        if recorded is None or None in recorded:
            raise EngineError("CUDA: operation failed due to a previous error during capture")
        self.graphs[len(self.graphs) + 1] = recorded
        return len(self.graphs)

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        self.queue += self.graphs[graph]

    def destroy_graph(self, graph: int) -> None:
        self.graphs[graph] = []


class Mode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class Place(enum.Enum):
    DEVICE, HOST = 0, 1


TRT = SimpleNamespace(
    TensorIOMode=Mode,
    TensorLocation=Place,
    ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
    LayerInformationFormat=SimpleNamespace(JSON="json"),
    IProfiler=object,
    IOutputAllocator=object,
)


class Doubling:
    """An engine of ``y = 2 * x``, x float32 [-1, 3] with 1 to 8 rows; ``counting``: y holds the positive rows alone."""

    device_memory_size_v2 = 64
    num_io_tensors = 2

    def __init__(self, cuda: HostCuda, *, counting: bool = False, capturable: bool = True) -> None:
        self.cuda, self.counting, self.capturable = cuda, counting, capturable

    def get_tensor_name(self, index: int) -> str:
        return ("y", "x")[index]  # not in the artifact's order

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return (-1, 3)

    def get_tensor_location(self, name: str) -> Place:
        return Place.DEVICE

    def create_execution_context(self, strategy: str) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Any:
        layer = {"Name": "double", "LayerType": "PointWise", "Metadata": "[ONNX Layer: the_mul]", "Outputs": []}
        return SimpleNamespace(get_engine_information=lambda kind: json.dumps({"Layers": [layer]}))


class Context:
    """Of one engine, with its own shapes and addresses."""

    def __init__(self, engine: Doubling) -> None:
        self.engine, self.cuda = engine, engine.cuda
        self.rows = 0
        self.addresses: dict[str, int] = {}
        self.allocator: Any = None
        self.profiler: Any = None

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert pointer in self.cuda.memory and size == self.engine.device_memory_size_v2

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.rows = shape[0]
        return 1 <= shape[0] <= 8

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return (-1 if self.engine.counting and name == "y" else self.rows, 3)

    def set_tensor_address(self, name: str, pointer: int) -> None:
        assert pointer in self.cuda.memory
        self.addresses[name] = pointer

    def set_output_allocator(self, name: str, allocator: Any) -> None:
        self.allocator = allocator

    def execute_async_v3(self, stream: int) -> bool:
        if self.cuda.recording is not None and not self.engine.capturable:
            self.cuda.recording.append(None)  # type: ignore[arg-type]
            return False
        self.cuda.start(self.compute)
        if self.allocator is not None:
            self.cuda.synchronize(stream)  # its size is known when it is computed
        return True

    def compute(self) -> None:
        x = self.view(self.addresses["x"], self.rows)
        y = 2 * (x[(x > 0).all(1)] if self.engine.counting else x)
        if self.allocator is not None:
            self.addresses["y"] = self.allocator.reallocate_output_async("y", 0, y.nbytes, 256, 1)
            self.allocator.notify_shape("y", y.shape)
        self.view(self.addresses["y"], len(y))[:] = y
        if self.profiler is not None:
            self.profiler.report_layer_time("double", 0.25)

    def view(self, pointer: int, rows: int) -> Any:
        return self.cuda.memory[pointer][: rows * 12].view(np.float32).reshape(rows, 3)

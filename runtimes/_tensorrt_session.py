"""An open plan: bindings by name, one stream, page-locked buffers, a CUDA graph where the model can be captured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Array, Artifact, Feeds, LayerTime, NodePlacement, Outputs, Placement, TensorSpec, typical
from ..errors import EngineError
from ._cuda import Cuda
from ._tensorrt_build import Log
from ._values import engine_errors, extended_dtype, from_bits, is_plain, prepare, to_bits

# trt.DataType's name → TensorSpec's.
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
    "FP8": "float8_e4m3fn",
    "INT4": "int4",
    "FP4": "float4_e2m1fn",
}
_BITS = {"int4": 4, "float4_e2m1fn": 4}


@dataclass(frozen=True, slots=True)
class _Tensor:
    spec: TensorSpec
    on_host: bool  # a shape tensor, which TensorRT reads or writes in the host's memory


@dataclass(slots=True)
class _Buffer:
    """One tensor's memory: page-locked on the host, and on the GPU unless TensorRT wants it on the host."""

    tensor: _Tensor
    shape: tuple[int, ...]
    host: int
    memory: NDArray[np.uint8]
    device: int  # 0: none

    def put(self, array: Array) -> None:
        """Copy a feed into the page-locked memory."""
        if is_plain(self.tensor.spec.dtype):
            np.copyto(self.view(), array)
        else:
            np.copyto(self.memory, to_bits(array))

    def view(self) -> Array:
        """The page-locked memory as an array."""
        return self.memory.view(self.tensor.spec.dtype).reshape(self.shape)

    def fresh(self) -> Array:
        """A copy that the caller may keep."""
        if is_plain(self.tensor.spec.dtype):
            return self.view().copy()
        return from_bits(self.memory, self.tensor.spec.dtype, self.shape)


class TensorRtSession:
    """A deserialized plan.

    Args:
        trt: the package.
        cuda: the GPU.
        log: TensorRT's messages.
        engine: the ICudaEngine.
        artifact: what it was built from: names of free dimensions, inputs that nothing reads.
        cuda_graph: whether to capture runs.
        facts: what else `in_force` tells: where the plan lies, how long it took.
    """

    def __init__(
        self,
        trt: Any,
        cuda: Cuda,
        log: Log,
        engine: Any,
        artifact: Artifact,
        cuda_graph: bool,
        facts: Mapping[str, Any],
    ) -> None:
        self.trt, self.cuda, self.log = trt, cuda, log
        self.cuda_graph = cuda_graph
        self.graph_refused: str | None = None
        self._engine = engine
        self._facts = dict(facts)
        known = {spec.name: spec for spec in (*artifact.inputs, *artifact.outputs)}
        found = [self._tensor(engine.get_tensor_name(index), known) for index in range(engine.num_io_tensors)]
        self._input_tensors = _ordered(
            [item for item in found if self._mode(item) == trt.TensorIOMode.INPUT], artifact.inputs
        )
        self._output_tensors = _ordered(
            [item for item in found if self._mode(item) == trt.TensorIOMode.OUTPUT], artifact.outputs
        )
        # TensorRT drops inputs that nothing reads; feeding them is no mistake of the caller's.
        self._unused = {spec.name for spec in artifact.inputs} - {item.spec.name for item in self._input_tensors}
        self.stream = cuda.stream()
        # Every binding shares it: they run one after the other.
        self._scratch = cuda.allocate(engine.device_memory_size_v2)
        self._bindings: list[_Binding] = []
        self._latest: tuple[tuple[tuple[int, ...], ...], _Binding] | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, by the plan's own account."""
        return tuple(item.spec for item in self._input_tensors)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, by the plan's own account."""
        return tuple(item.spec for item in self._output_tensors)

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        self._open()
        ready = self._ready(feeds)
        shapes = tuple(np.shape(value) for value in ready.values())
        if self._latest is None or self._latest[0] != shapes:
            if self._latest is not None:
                self._drop(self._latest[1])
                self._latest = None
            self._latest = (shapes, self._bind(ready))
        binding = self._latest[1]
        binding.feeds = ready
        binding()
        return binding.outputs()

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind: its own buffers and graph; each call copies the feeds in and the outputs out."""
        self._open()
        binding = self._bind(self._ready(feeds))
        binding()
        return binding

    def placement(self) -> Placement:
        """Layer by layer, as the plan's inspector tells: TensorRT (the GPU) or DLA."""
        layers = self._layers()
        if not layers:
            return Placement(unknown="the plan holds no information about its layers")
        return Placement(
            tuple(NodePlacement(item.name, item.kind, item.device, item.precision) for item in layers.values())
        )

    def in_force(self) -> dict[str, Any]:
        """The settings of this session and of its plan."""
        self._open()
        graphs = [binding.graph for binding in self._bindings]
        told: dict[str, Any] = {
            "threads": 0,  # the GPU has its own
            "precision": "as the graph says",
            "cuda_graph": any(graphs) if graphs else self.cuda_graph,
        }
        if self.graph_refused is not None:
            told["cuda_graph_refused"] = self.graph_refused
        return {**told, **self._facts}

    def profile(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """See contracts.Profiles: TensorRT's own profiler, layer by layer, in a context of its own."""
        engine = self._open()
        times: dict[str, list[float]] = {}
        trt = self.trt

        class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms / 1e3)

        binding = _Binding(self, engine, self._ready(feeds), self._scratch, graph=False)
        profiler = Profiler()
        try:
            binding()  # the first run sets up what the later ones find ready
            binding.context.profiler = profiler
            for _ in range(runs):
                binding()
        finally:
            binding.free()
        layers = self._layers()
        return [
            LayerTime(name, layers[name].kind, typical(taken), layers[name].precision, layers[name].covers)
            if name in layers
            else LayerTime(name, "?", typical(taken))
            for name, taken in times.items()
        ]

    def close(self) -> None:
        """Free the plan's memory, on the host and on the GPU; what `bind` returned cannot be called any more."""
        if self._engine is None:
            return
        self.cuda.enter()
        for binding in self._bindings:
            binding.free()
        self._bindings.clear()
        self._latest = None
        self.cuda.free(self._scratch)
        self.cuda.destroy_stream(self.stream)
        self._engine = None

    def _bind(self, ready: dict[str, Array]) -> _Binding:
        binding = _Binding(self, self._engine, ready, self._scratch, graph=self.cuda_graph)
        self._bindings.append(binding)
        return binding

    def _drop(self, binding: _Binding) -> None:
        self._bindings.remove(binding)
        binding.free()

    def _ready(self, feeds: Feeds) -> dict[str, Array]:
        return prepare(feeds, self.inputs, unused=self._unused)

    def _open(self) -> Any:
        if self._engine is None:
            raise EngineError("this session is closed")
        self.cuda.enter()  # the caller may be another thread than the one that opened it
        return self._engine

    def _mode(self, tensor: _Tensor) -> Any:
        return self._engine.get_tensor_mode(tensor.spec.name)

    def _tensor(self, name: str, known: Mapping[str, TensorSpec]) -> _Tensor:
        engine = self._engine
        kind = engine.get_tensor_dtype(name).name
        sizes = tuple(engine.get_tensor_shape(name))
        names = known[name].shape if name in known and len(known[name].shape) == len(sizes) else ("?",) * len(sizes)
        shape = tuple(
            size if size >= 0 else (label if isinstance(label, str) else "?")
            for size, label in zip(sizes, names, strict=True)
        )
        on_host = engine.get_tensor_location(name) == self.trt.TensorLocation.HOST
        return _Tensor(TensorSpec(name, DTYPES.get(kind, kind.lower()), shape), on_host)

    def _layers(self) -> dict[str, Layer]:
        inspector = self._open().create_engine_inspector()
        with engine_errors("TensorRT's inspector"):
            text = inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)
        return {item.name: item for item in read_layers(text)}


class _Binding:
    """Feeds of fixed shapes bound to buffers: calling it copies them in, runs, and copies the outputs out."""

    def __init__(
        self, session: TensorRtSession, engine: Any, feeds: dict[str, Array], scratch: int, *, graph: bool
    ) -> None:
        trt, self._cuda, self._session = session.trt, session.cuda, session
        self.feeds = feeds
        self.graph = 0
        self._inputs: list[_Buffer] = []
        self._outputs: list[_Buffer] = []
        self._growing: dict[str, Any] = {}  # outputs whose size only the run tells → their allocator
        with engine_errors("TensorRT cannot make a context"):
            self.context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self.context is None:
            raise EngineError("TensorRT cannot make a context", details=session.log.take())
        self.context.set_device_memory(scratch, engine.device_memory_size_v2)
        try:
            self._prepare(graph)
        except BaseException:
            self.free()
            raise

    def __call__(self) -> None:
        for buffer in self._inputs:
            buffer.put(self.feeds[buffer.tensor.spec.name])
        if self.graph:
            self._cuda.launch(self.graph, self._session.stream)
        else:
            self._enqueue()
        self._cuda.synchronize(self._session.stream)

    def outputs(self) -> Outputs:
        """Fresh copies of what the last call computed."""
        found = {buffer.tensor.spec.name: buffer.fresh() for buffer in self._outputs}
        for name, allocator in self._growing.items():
            found[name] = allocator.fetch()
        return {spec.name: found[spec.name] for spec in self._session.outputs}

    def free(self) -> None:
        """Give everything back; it cannot be called afterwards."""
        if self.graph:
            self._cuda.destroy_graph(self.graph)
            self.graph = 0
        self.context = None
        for buffer in (*self._inputs, *self._outputs):
            self._cuda.free_host(buffer.host)
            if buffer.device:
                self._cuda.free(buffer.device)
        self._inputs.clear()
        self._outputs.clear()
        for allocator in self._growing.values():
            allocator.free()
        self._growing.clear()

    def _prepare(self, graph: bool) -> None:
        session, context = self._session, self.context
        for tensor in session._input_tensors:
            name, value = tensor.spec.name, self.feeds[tensor.spec.name]
            if not context.set_input_shape(name, value.shape):
                got = "x".join(map(str, value.shape)) or "scalar"
                raise EngineError(
                    f"input '{name}' has the shape {got}, which the plan was not built for",
                    details=session.log.take(),
                    fix="State its range when exporting: --range DIM=MIN..OPT..MAX",
                )
            buffer = self._buffer(tensor, tuple(value.shape))
            self._inputs.append(buffer)
            buffer.put(value)  # a shape tensor's values decide the outputs' shapes
        missing = context.infer_shapes()
        if missing:
            raise EngineError(f"TensorRT cannot compute the shapes that depend on {', '.join(missing)}")
        for tensor in session._output_tensors:
            name = tensor.spec.name
            shape = tuple(context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                allocator = _output_allocator(session, tensor)
                context.set_output_allocator(name, allocator)
                self._growing[name] = allocator
            else:
                self._outputs.append(self._buffer(tensor, shape))
        if graph and not self._growing:
            self._capture()

    def _buffer(self, tensor: _Tensor, shape: tuple[int, ...]) -> _Buffer:
        if not is_plain(tensor.spec.dtype):
            extended_dtype(tensor.spec.dtype)  # says what is missing before memory is read
        size = size_bytes(tensor.spec.dtype, shape)
        host, memory = self._cuda.allocate_host(size)
        device = 0 if tensor.on_host else self._cuda.allocate(size)
        self.context.set_tensor_address(tensor.spec.name, device or host)
        return _Buffer(tensor, shape, host, memory, device)

    def _enqueue(self) -> None:
        """Start the copies in, the run, the copies out on the session's stream."""
        stream = self._session.stream
        for buffer in self._inputs:
            if buffer.device:
                self._cuda.to_device(buffer.device, buffer.host, buffer.memory.size, stream)
        if not self.context.execute_async_v3(stream):
            raise EngineError("TensorRT cannot run the plan", details=self._session.log.take())
        for buffer in self._outputs:
            if buffer.device:
                self._cuda.to_host(buffer.host, buffer.device, buffer.memory.size, stream)

    def _capture(self) -> None:
        """Record a run as a CUDA graph. A model that cannot be captured runs without, and `in_force` says why."""
        stream = self._session.stream
        self._enqueue()  # TensorRT wants a run with these shapes before one is captured
        self._cuda.synchronize(stream)
        self._cuda.begin_capture(stream)
        refused = None
        try:
            self._enqueue()
        except EngineError as error:
            refused = error
        try:
            self.graph = self._cuda.end_capture(stream)
        except EngineError as error:
            refused = refused or error
        if refused is not None:
            self._session.graph_refused = "; ".join((refused.what, *refused.details))


def _output_allocator(session: TensorRtSession, tensor: _Tensor) -> Any:
    """An IOutputAllocator: memory for an output whose shape depends on values."""
    trt, cuda = session.trt, session.cuda

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.pointer, self.size, self.shape = 0, 0, (0,)

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            if size > self.size or not self.pointer:
                self.free()
                self.pointer, self.size = cuda.allocate(size), size
            return self.pointer

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

        def fetch(self) -> Array:
            """The output, copied to the host."""
            size = size_bytes(tensor.spec.dtype, self.shape)
            host, memory = cuda.allocate_host(size)
            try:
                if size:
                    cuda.to_host(host, self.pointer, size, session.stream)
                    cuda.synchronize(session.stream)
                return _Buffer(tensor, self.shape, host, memory, 0).fresh()
            finally:
                cuda.free_host(host)

        def free(self) -> None:
            if self.pointer:
                cuda.free(self.pointer)
            self.pointer = self.size = 0

    return Allocator()


def size_bytes(dtype: str, shape: Sequence[int]) -> int:
    """The memory that TensorRT wants for a dense tensor; elements under a byte are packed."""
    count = int(np.prod(shape, dtype=np.int64))
    if dtype in _BITS:
        return -(-count * _BITS[dtype] // 8)
    return count * (np.dtype(dtype) if is_plain(dtype) else extended_dtype(dtype)).itemsize


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a plan, as the engine inspector tells it."""

    name: str
    kind: str
    device: str  # "TensorRT" (the GPU), "DLA"
    precision: str | None
    covers: tuple[str, ...]  # names of the ONNX nodes in it


def read_layers(text: str) -> list[Layer]:
    """The layers in an engine inspector's JSON: ``{"Layers": [{"Name", "LayerType", "Outputs", "Metadata"}, …]}``.

    A plan without detailed information lists names alone. Keys that a version of TensorRT has not are left out of it.
    """
    found = []
    for item in json.loads(text).get("Layers", []):
        table = item if isinstance(item, dict) else {"Name": str(item)}
        name, kind = str(table.get("Name", "?")), str(table.get("LayerType", "?"))
        covers = re.findall(r"\[ONNX Layer: ([^\]]+)\]", str(table.get("Metadata", "")))
        device = "DLA" if "dla" in kind.lower() else "TensorRT"
        found.append(Layer(name, kind, device, _precision(table.get("Outputs")), tuple(dict.fromkeys(covers))))
    return found


def _precision(outputs: Any) -> str | None:
    """What the first output is held in: ``Format/Datatype`` before TensorRT 11, ``Datatype`` since."""
    first = outputs[0] if isinstance(outputs, list) and outputs and isinstance(outputs[0], dict) else {}
    text = first.get("Datatype") or first.get("DataType") or first.get("Format/Datatype")
    return None if text is None else str(text)


def _ordered(tensors: list[_Tensor], wanted: Sequence[TensorSpec]) -> list[_Tensor]:
    """In the artifact's order; what it does not list comes last."""
    order = {spec.name: index for index, spec in enumerate(wanted)}
    return sorted(tensors, key=lambda item: order.get(item.spec.name, len(order)))

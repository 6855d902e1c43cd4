"""OpenVINO on the CPU.

Left alone, OpenVINO computes in bf16 on every CPU that has it, and keeps quiet about it. Here the precision is always
stated, and read back from the compiled model: what the CPU cannot honour is an error.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Artifact,
    Feeds,
    LayerTime,
    NodePlacement,
    Outputs,
    Placement,
    Session,
    StatePair,
    Steps,
    TensorSpec,
    typical,
)
from ..errors import EngineError
from ._openvino_steps import RequestSteps
from ._values import engine_errors, extended_dtype, from_bits, import_engine, is_plain, prepare, to_bits

_PRECISIONS = ("f32", "bf16", "f16")
# OpenVINO's name of an element type → TensorSpec's.
_DTYPES = {
    "boolean": "bool",
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i4": "int4",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u2": "uint2",
    "u4": "uint4",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "f4e2m1": "float4_e2m1fn",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu",
    "string": "string",
}
# Runtime graph nodes that move nothing and compute nothing.
_NOT_NODES = {"Input", "Output", "Const"}


class OpenVino:
    """Opens OpenVINO's IR and ONNX files with OpenVINO's CPU plug-in."""

    name = "openvino"
    formats = ("openvino-ir", "onnx")
    install = "pip install openvino"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Compile options. None leaves the choice to OpenVINO."""

        threads: int = 0  # 0: OpenVINO's choice, which `in_force` tells
        precision: str = "f32"  # "f32", "bf16", "f16": what floating-point layers compute in
        streams: int = 1  # inferences at the same time; 1 is the lowest latency
        hint: str = "latency"  # or "throughput"
        hyper_threading: bool | None = None  # whether threads may share a physical core
        pinning: bool | None = None  # whether threads stay on their core
        dynamic_quantization_group_size: int = 0  # 0: activations are never quantized behind the graph's back
        # Faster where activations decay to denormals. OpenVINO then also leaves the calling thread flushing to zero,
        # which changes numpy's results in it.
        denormals_as_zero: bool = False

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")
            if self.streams < 1:
                raise ValueError(f"streams must be >= 1, got {self.streams}")
            if self.precision not in _PRECISIONS:
                raise ValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got '{self.precision}'")
            if self.hint not in ("latency", "throughput"):
                raise ValueError(f"hint must be 'latency' or 'throughput', got '{self.hint}'")

    def version(self) -> str:
        """OpenVINO's version, without its build number."""
        return str(import_engine("openvino", self.install).__version__).split("-")[0]

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open. A precision that this CPU does not compute in is an EngineError."""
        ov = import_engine("openvino", self.install)
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        core = open_core()

        def compile_model(**more: Any) -> Any:
            with engine_errors(f"OpenVINO refuses {artifact.path.name}"):
                return core.compile_model(core.read_model(artifact.path), "CPU", {**_properties(ov, options), **more})

        compiled = compile_model()
        in_force = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if in_force != options.precision:
            raise EngineError(
                f"this CPU does not compute in {options.precision}: OpenVINO would use {in_force} instead",
                details=[f"it has {', '.join(core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))}"],
                fix=f"Ask for precision '{in_force}'.",
            )
        return OpenVinoSession(ov, compiled, artifact, lambda: compile_model(PERF_COUNT=True))


@functools.cache
def open_core() -> Any:
    """One Core a process, as OpenVINO advises: it loads the plug-ins."""
    return import_engine("openvino", OpenVino.install).Core()


def _properties(ov: ModuleType, options: OpenVino.Options) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": options.precision,
        # Attention caches would otherwise be kept in 8 bits.
        "KV_CACHE_PRECISION": options.precision,
        "PERFORMANCE_HINT": options.hint.upper(),
        "NUM_STREAMS": options.streams,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": options.dynamic_quantization_group_size,
        "CPU_DENORMALS_OPTIMIZATION": options.denormals_as_zero,
    }
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.hyper_threading is not None:
        properties["ENABLE_HYPER_THREADING"] = options.hyper_threading
    if options.pinning is not None:
        properties["ENABLE_CPU_PINNING"] = options.pinning
    return properties


class OpenVinoSession:
    """A compiled model and its infer requests.

    Args:
        ov: the package.
        compiled: the compiled model.
        artifact: what it was compiled from.
        compile_profiled: compiles it once more, with timers.
    """

    concurrent = True  # each thread has a request of its own

    def __init__(self, ov: ModuleType, compiled: Any, artifact: Artifact, compile_profiled: Callable[[], Any]) -> None:
        self._ov = ov
        self._compiled = compiled
        self._artifact = artifact
        self._compile_profiled = compile_profiled
        self._inputs = _specs(compiled.inputs, artifact.inputs)
        self._outputs = _specs(compiled.outputs, artifact.outputs)
        #: OpenVINO drops inputs that nothing reads; feeding them is no mistake of the caller's.
        self.unused = {spec.name for spec in artifact.inputs} - {spec.name for spec in self._inputs}
        # One request a thread that runs at the same time; taking one and putting it back are atomic.
        self._free = deque([compiled.create_infer_request()])

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, named as the artifact names them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, named as the artifact names them."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        compiled = self._open()
        try:
            request = self._free.pop()
        except IndexError:  # all are in use by other threads
            request = compiled.create_infer_request()
        try:
            held = self._set(request, feeds)
            with engine_errors("OpenVINO"):
                request.infer(share_outputs=True)
                found = {
                    spec.name: self._from_native(request.get_output_tensor(i), spec)
                    for i, spec in enumerate(self._outputs)
                }
            del held  # the request read these arrays until here
        finally:
            self._free.append(request)
        return found

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind: its own request over the arrays, outputs left where they are made."""
        request = self._open().create_infer_request()
        held = self._set(request, feeds)
        call = functools.partial(request.infer, share_outputs=True)
        with engine_errors("OpenVINO"):
            call()
        vars(call)["held"] = held  # the arrays must live as long as the call
        return call

    def open_steps(self, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> Steps | None:
        """See contracts.KeepsState; not where a shape is free, or numpy has not the type."""
        specs = self._inputs + self._outputs
        if not all(is_plain(spec.dtype) and all(isinstance(size, int) for size in spec.shape) for spec in specs):
            return None
        return RequestSteps(self, pairs, state, shown)

    def new_request(self) -> Any:
        """An infer request of its own."""
        return self._open().create_infer_request()

    def tensor(self, array: Array) -> Any:
        """A tensor over an array's own memory."""
        return self._ov.Tensor(array, shared_memory=True)

    def placement(self) -> Placement:
        """Node by node after OpenVINO's own fusions, with the precision each computes in."""
        compiled = self._open()
        device = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        nodes = []
        for node in compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            kind = info["layerType"].astype(str)
            if kind not in _NOT_NODES:
                precision = info["runtimePrecision"].astype(str)
                nodes.append(NodePlacement(node.get_friendly_name(), kind, device, precision))
        return Placement(tuple(nodes))

    def in_force(self) -> dict[str, Any]:
        """What the compiled model reports."""
        read = self._open().get_property
        return {
            "threads": read("INFERENCE_NUM_THREADS"),
            "precision": read("INFERENCE_PRECISION_HINT").get_type_name(),
            "streams": read("NUM_STREAMS"),
            "hint": str(read("PERFORMANCE_HINT")).lower(),
            "hyper_threading": read("ENABLE_HYPER_THREADING"),
            "pinning": read("ENABLE_CPU_PINNING"),
            "dynamic_quantization_group_size": read("DYNAMIC_QUANTIZATION_GROUP_SIZE"),
            "denormals_as_zero": read("CPU_DENORMALS_OPTIMIZATION"),
        }

    def profile(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """See contracts.Profiles. What a node covers is OpenVINO's own account of what it fused."""
        self._open()
        compiled = self._compile_profiled()
        request = compiled.create_infer_request()
        held = self._set(request, feeds)
        times: dict[str, list[float]] = {}
        with engine_errors("OpenVINO"):
            for _ in range(runs):
                request.infer(share_outputs=True)
                for item in request.get_profiling_info():
                    if item.status == self._ov.ProfilingInfo.Status.EXECUTED:
                        times.setdefault(item.node_name, []).append(item.real_time.total_seconds())
            nodes = {node.get_friendly_name(): node.get_rt_info() for node in compiled.get_runtime_model().get_ops()}
        del held
        return [_layer_time(name, taken, nodes[name]) for name, taken in times.items()]

    def close(self) -> None:
        """Free the model; what `bind` returned keeps its own hold until it is dropped."""
        self._compiled = None
        self._free.clear()

    def _open(self) -> Any:
        if self._compiled is None:
            raise EngineError("this session is closed")
        return self._compiled

    def _set(self, request: Any, feeds: Feeds) -> list[object]:
        """Put the feeds into a request; returns what must stay alive while it runs."""
        ready = prepare(feeds, self._inputs, unused=self.unused)
        held: list[object] = []
        for i, spec in enumerate(self._inputs):
            value = ready[spec.name]
            # 2026.4: once a compiled model has run with a cache of no step, its answers are wrong from 16 steps on, in
            # every request; without such a run they are right.
            if not np.size(value) and any(isinstance(size, str) for size in spec.shape):
                raise EngineError(
                    f"input '{spec.name}' is empty, after which OpenVINO would answer wrongly at larger sizes",
                    fix="Begin with one step, or use another engine.",
                )
            with engine_errors(f"OpenVINO refuses input '{spec.name}'"):
                tensor = self._to_native(value, spec, self._compiled.inputs[i].element_type)
                request.set_input_tensor(i, tensor)
            held.append((value, tensor))
        return held

    def _to_native(self, value: Any, spec: TensorSpec, element_type: Any) -> Any:
        ov = self._ov
        if spec.dtype == "string":
            return ov.Tensor(np.asarray(value).astype(str))
        if is_plain(spec.dtype):
            # OpenVINO shares an array's memory only if it could also write to it.
            return ov.Tensor(value, shared_memory=bool(value.flags.writeable))
        tensor = ov.Tensor(element_type, ov.Shape(list(value.shape)))
        if value.size:
            # OpenVINO shows these types as some numpy dtype of the same size: the bytes are what counts.
            tensor.data.reshape(-1).view(np.uint8)[:] = to_bits(value)
        return tensor

    @staticmethod
    def _from_native(tensor: Any, spec: TensorSpec) -> Array:
        if spec.dtype == "string":
            return np.asarray(tensor.str_data).astype(object)
        if is_plain(spec.dtype):
            return np.array(tensor.data)
        extended_dtype(spec.dtype)
        return from_bits(tensor.data.reshape(-1).view(np.uint8), spec.dtype, list(tensor.shape))


# OpenVINO's names for the parts into which it splits a node: a convolution apart from its bias, what quantizes.
_PARTS = re.compile(r"(/WithoutBiases|/DequantizationMultiply|/fq_(in|out)put_\d+)+$")


def _layer_time(name: str, times_s: Sequence[float], info: Any) -> LayerTime:
    covers = dict.fromkeys(_PARTS.sub("", part) for part in info["originalLayersNames"].astype(str).split(","))
    return LayerTime(
        name,
        info["layerType"].astype(str),
        typical(times_s),
        info["runtimePrecision"].astype(str),
        tuple(part for part in covers if part),
    )


def _specs(ports: Sequence[Any], wanted: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Ports as TensorSpecs, named as the artifact names them."""
    names = _names([port.names for port in ports], [item.name for item in wanted])
    shapes = {item.name: item.shape for item in wanted}
    specs = []
    for port, name in zip(ports, names, strict=True):
        kind = port.element_type.get_type_name()
        name = name or port.node.friendly_name
        specs.append(TensorSpec(name, _DTYPES.get(kind, kind), _shape(port.partial_shape, shapes.get(name, ()))))
    return tuple(specs)


def _names(ports: Sequence[set[str]], wanted: Sequence[str]) -> list[str]:
    """For each port, by the names OpenVINO has for it: the wanted name it stands for, else one of its own, else "".

    A port may have several names (two outputs that are the same tensor), none, or only that of the node behind it (an
    input that is also an output): those are told apart by their places.
    """
    found = [""] * len(ports)
    for i, names in enumerate(ports):
        if i < len(wanted) and wanted[i] in names:
            found[i] = wanted[i]
    for i, names in enumerate(ports):
        found[i] = found[i] or next((name for name in wanted if name in names and name not in found), "")
    if len(ports) == len(wanted):
        left = iter([name for name in wanted if name not in found])
        return [name or next(left) for name in found]
    return [name or min(names - set(found), default="") for name, names in zip(found, ports, strict=True)]


def _shape(partial: Any, known: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Free dimensions keep the artifact's names; one without is called ``?``, an unknown rank ``("...",)``."""
    if partial.rank.is_dynamic:
        return known or ("...",)
    if len(known) != len(partial):
        known = ("?",) * len(partial)
    return tuple(
        size.get_length() if size.is_static else name if isinstance(name, str) else "?"
        for size, name in zip(partial, known, strict=True)
    )


PLUGIN = OpenVino

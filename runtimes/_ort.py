"""A session of ONNX Runtime, whatever execution provider computes it: what all adapters to it share."""

from __future__ import annotations

import ctypes
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Artifact,
    Feeds,
    LayerTime,
    NodePlacement,
    Outputs,
    Placement,
    StatePair,
    Steps,
    TensorSpec,
    typical,
)
from ..errors import EngineError
from ._engine_path import engine_path
from ._ort_steps import BoundSteps, ValueSteps
from ._values import engine_errors, extended_dtype, from_bits, import_engine, is_plain, one_line, prepare, to_bits

# Each of these writes the folder `onnxruntime`; two of them overwrite each other, and pip does not mind.
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-training",
)

# Our names of the graph optimization levels → ONNX Runtime's.
OPTIMIZATION = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}

_DEVICES = {
    "CPUExecutionProvider": "CPU",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
    "NvTensorRTRTXExecutionProvider": "TensorRT",
    "QNNExecutionProvider": "HTP",  # the only backend of it that edgekit opens
}

# ONNX Runtime's name of an element type → TensorSpec's, where they differ.
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
}
# onnx.TensorProto.DataType of the element types that numpy has not.
_ONNX_TYPES = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
    "uint4": 21,
    "int4": 22,
    "float4_e2m1fn": 23,
    "float8_e8m0fnu": 24,
    "uint2": 25,
    "int2": 26,
}
BF16_GEMM = "mlas.enable_gemm_fastmath_arm64_bfloat16"  # onnxruntime_session_options_config_keys.h
_RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"


def import_onnxruntime(install: str) -> ModuleType:
    """The package ``onnxruntime``, with its telemetry off unless the user's environment says otherwise.

    Raises:
        EngineError: missing, damaged, or installed twice over.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it loads; else it keeps a session file in TMPDIR
    return import_engine("onnxruntime", install, exclusive=DISTRIBUTIONS)


def open_session(
    ort: ModuleType, artifact: Artifact, options: Any, providers: list[Any] | None, *, log_severity: int = 4
) -> OrtSession:
    """Load an ONNX file with the given ``SessionOptions`` and execution providers, the most wanted first.

    Args:
        ort: the package.
        artifact: names the file.
        options: its SessionOptions; placement is recorded in addition.
        providers: None: those that were added to ``options``, for providers that are plug-ins.
        log_severity: 4: what matters is raised, and warnings about our own graphs help nobody. 0: everything.

    Raises:
        EngineError: the file is missing, or ONNX Runtime refuses it; in its own words.
    """
    if not artifact.path.is_file():
        raise EngineError(f"model file '{artifact.path}' does not exist")
    options.log_severity_level = log_severity
    options.add_session_config_entry(_RECORD_PLACEMENT, "1")

    def create() -> Any:
        with engine_errors(f"ONNX Runtime refuses {artifact.path.name}"):
            native = ort.InferenceSession(engine_path(artifact.path), options, providers=providers)
            # It would otherwise retry a failed run on other providers than those that were asked for.
            native.disable_fallback()
            return native

    def create_profiled(prefix: str) -> Any:
        options.enable_profiling, options.profile_file_prefix = True, prefix
        try:
            return create()
        finally:
            options.enable_profiling = False

    return OrtSession(ort, create(), create_profiled)


class OrtSession:
    """An open model.

    Args:
        ort: the package.
        native: its InferenceSession.
        create_profiled: opens the same model once more, with timers that write to files of the given prefix.
    """

    concurrent = True  # Run is thread-safe by ONNX Runtime's own account

    def __init__(self, ort: ModuleType, native: Any, create_profiled: Callable[[str], Any]) -> None:
        self._ort = ort
        self._native = native
        self._create_profiled = create_profiled
        self._inputs = tuple(_spec(item) for item in native.get_inputs())
        self._outputs = tuple(_spec(item) for item in native.get_outputs())
        self._names = [spec.name for spec in self._outputs]
        self._convertible = all(spec.dtype not in _ONNX_TYPES for spec in self._inputs + self._outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, as ONNX Runtime lists them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, as ONNX Runtime lists them."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run. A sequence comes as a list of arrays, an empty optional as None."""
        native = self.native()
        ready = prepare(feeds, self._inputs)
        with engine_errors("ONNX Runtime"):
            if self._convertible:
                return dict(zip(self._names, native.run(self._names, ready), strict=True))
            values = {spec.name: self.to_native(ready[spec.name], spec) for spec in self._inputs}
            found = native.run_with_ort_values(self._names, values)
            return {spec.name: self.from_native(value, spec) for spec, value in zip(self._outputs, found, strict=True)}

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind.

        Inputs are bound where they lie; ONNX Runtime allocates the outputs at the first run and keeps them. (A tiny
        model takes 2.8 µs a call, and 4.2 µs by ``run``, which copies outputs; our own memory for them is no faster.)
        Where an output's shape is free, or a type cannot be bound (strings, sequences), the call is ``run``: a shape
        may depend on values, and those the caller may change in place.
        """
        native = self.native()
        ready = prepare(feeds, self._inputs)
        if not all(_is_fixed(spec) for spec in self._outputs) or not all(_can_bind(spec) for spec in self._inputs):
            if self._convertible:
                return partial(native.run, [spec.name for spec in self._outputs], ready)
            return partial(self.run, ready)
        with engine_errors("ONNX Runtime"):
            binding = native.io_binding()
            for spec in self._inputs:
                binding.bind_ortvalue_input(spec.name, self.to_native(ready[spec.name], spec))
            for spec in self._outputs:
                binding.bind_output(spec.name, "cpu")
            native.run_with_iobinding(binding)
        call = partial(native.run_with_iobinding, binding)
        vars(call)["held"] = ready  # the arrays must live as long as the call
        return call

    def open_steps(self, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> Steps:
        """See contracts.KeepsState: two sets of memory that change places, or where shapes are free, its own values."""
        self.native()
        if all(_is_fixed(spec) and is_plain(spec.dtype) for spec in self._inputs + self._outputs):
            return BoundSteps(self, pairs, state, shown)
        return ValueSteps(self, pairs, state, shown)

    def placement(self) -> Placement:
        """Node by node, as assigned before the provider's own fusions; a node's name may be empty."""
        native = self.native()
        if not hasattr(native, "get_provider_graph_assignment_info"):
            version = self._ort.__version__
            return Placement(unknown=f"ONNX Runtime {version} does not say where nodes run; 1.24 and later do")
        try:
            parts = native.get_provider_graph_assignment_info()
        except RuntimeError as error:
            return Placement(unknown=f"ONNX Runtime does not tell: {one_line(error)}")
        return Placement(
            tuple(
                NodePlacement(node.name, node.op_type, _DEVICES.get(part.ep_name, part.ep_name))
                for part in parts
                for node in part.get_nodes()
            )
        )

    def in_force(self) -> dict[str, Any]:
        """What ONNX Runtime reports of its settings. 0 threads: its choice, one for each physical core."""
        options = self.native().get_session_options()
        entry = partial(_config_entry, options)
        return {
            "threads": options.intra_op_num_threads,
            "inter_op_threads": options.inter_op_num_threads,
            # It never computes in another type than the graph's on its own account.
            "precision": "as the graph says" + (", products in bf16" if entry(BF16_GEMM) == "1" else ""),
            "optimization": options.graph_optimization_level.name,
            "execution_mode": options.execution_mode.name,
            "spinning": entry("session.intra_op.allow_spinning") != "0",
            "denormals_as_zero": entry("session.set_denormal_as_zero") == "1",
            "arena": options.enable_cpu_mem_arena,
            "mem_pattern": options.enable_mem_pattern,
            "providers": list(self.native().get_providers()),
        }

    def profile(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """See contracts.Profiles. ONNX Runtime times in whole microseconds."""
        self.native()
        with tempfile.TemporaryDirectory() as folder:
            timed = OrtSession(self._ort, self._create_profiled(str(Path(folder) / "profile")), self._create_profiled)
            call = timed.bind(feeds)
            for _ in range(runs):
                call()
            with engine_errors("ONNX Runtime"):
                events = json.loads(Path(timed.native().end_profiling()).read_bytes())
            timed.close()
        return layer_times(events)

    def close(self) -> None:
        """Free the session; what `bind` returned keeps its own hold until it is dropped."""
        self._native = None

    def native(self) -> Any:
        """The InferenceSession itself.

        Raises:
            EngineError: this session is closed.
        """
        if self._native is None:
            raise EngineError("this session is closed")
        return self._native

    def to_native(self, value: Any, spec: TensorSpec) -> Any:
        """An OrtValue over the array's own memory, or over a copy of its bits where numpy has not its dtype."""
        make = self._ort.OrtValue
        if spec.dtype not in _ONNX_TYPES:
            return make.ortvalue_from_numpy(value)
        native = make.ortvalue_from_shape_and_type(list(value.shape), _ONNX_TYPES[spec.dtype])
        bits = to_bits(value)
        ctypes.memmove(native.data_ptr(), bits.ctypes.data, bits.nbytes)
        return native

    @staticmethod
    def from_native(value: Any, spec: TensorSpec) -> Any:
        """What an OrtValue holds."""
        if spec.dtype not in _ONNX_TYPES:
            return value.numpy()
        extended_dtype(spec.dtype)  # says what is missing before memory is read
        data = np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), np.uint8)
        return from_bits(data, spec.dtype, value.shape())


_KERNEL = "_kernel_time"


def layer_times(events: list[dict[str, Any]]) -> list[LayerTime]:
    """The kernels' times of a profile, by the node, in the order of their first run.

    ONNX Runtime names a kernel after its node; one that it made of several by its own rules: after its output with
    ``_nchwc`` (a convolution in blocked layout), or with ``_token_N`` added (one that was moved to another layout).
    """
    times: dict[tuple[int, str, str], list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            told = event["args"]
            key = (int(told["node_index"]), name.removesuffix(_KERNEL), told["op_name"])
            times.setdefault(key, []).append(event["dur"] / 1e6)
    return [
        LayerTime(name, op_type, typical(taken), covers=(re.sub(r"_nchwc$|(_token_\d+)+$", "", name),))
        for (_, name, op_type), taken in times.items()
    ]


def _can_bind(spec: TensorSpec) -> bool:
    return spec.dtype in _ONNX_TYPES or is_plain(spec.dtype)


def _is_fixed(spec: TensorSpec) -> bool:
    return _can_bind(spec) and all(isinstance(size, int) for size in spec.shape)


def _spec(item: Any) -> TensorSpec:
    """ONNX Runtime's NodeArg as a TensorSpec; an unnamed free dimension is called ``?``."""
    found = re.fullmatch(r"tensor\((\w+)\)", item.type)
    dtype = _DTYPES.get(found[1], found[1]) if found else item.type
    shape = tuple(size if isinstance(size, int) else size or "?" for size in item.shape or ()) if found else ()
    return TensorSpec(item.name, dtype, shape)


def _config_entry(options: Any, key: str) -> str | None:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # its way to say that the key was never set
        return None

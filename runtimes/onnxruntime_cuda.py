"""ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ..contracts import Artifact, Session
from ..errors import EngineError
from . import _cuda_driver
from ._ort import OPTIMIZATION, import_onnxruntime, open_session
from ._ort_device import Device, DeviceSession
from ._values import engine_errors

_PROVIDER = "CUDAExecutionProvider"
_CONV_SEARCH = ("exhaustive", "heuristic", "default")
# Which kernel computes attention: the bits of the provider's option `sdpa_kernel` (attention_common.h).
_ATTENTION = {"auto": 0, "flash": 1, "efficient": 2, "cudnn": 8, "math": 16}
_BFLOAT16_CAPABILITY = (8, 0)  # Ampere: the first with bf16 arithmetic
_CUDNN = "cudnn64_9.dll" if os.name == "nt" else "libcudnn.so.9"
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ATTENTIONS = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "PackedMultiHeadAttention")


class OnnxRuntimeCuda:
    """Opens ``onnx`` artifacts with ONNX Runtime's CUDA execution provider, for the GPU alone."""

    name = "onnxruntime_cuda"
    formats = ("onnx",)
    install = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    # Session option → the operators without one of which it changes nothing, so that it need not be tried.
    affects: ClassVar[dict[str, tuple[str, ...]]] = {
        "prefer_nhwc": _CONVOLUTIONS,
        "conv_search": _CONVOLUTIONS,
        "conv_workspace": _CONVOLUTIONS,
        "fuse_conv_bias": _CONVOLUTIONS,
        "attention": _ATTENTIONS,
    }

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options. Where they differ from ONNX Runtime's own defaults, that is said."""

        threads: int = 0  # of the CPU, for what little runs there; 0: one for each physical core
        device_id: int = 0
        cuda_graph: bool = False  # capture the GPU's work once, then replay it: no launch costs; needs static shapes
        prefer_nhwc: bool = False  # convolutions with channels last, as tensor cores want them
        conv_search: str = "exhaustive"  # how cuDNN's algorithm is found at the first run: or "heuristic", "default"
        conv_workspace: bool = True  # let cuDNN take as much scratch memory as its fastest algorithm wants
        fuse_conv_bias: bool = False  # one cuDNN kernel for a convolution, its bias and its activation
        tf32: bool = False  # round float32 to 10 bits in products and convolutions; ONNX Runtime's default is True
        attention: str = "auto"  # the kernel of fused attention: "auto", "flash", "efficient", "cudnn", "math"
        memory_limit_bytes: int = 0  # of the memory that the session keeps; 0: none
        optimization: str = "all"  # "all", "extended", "basic", "none"
        host_copies: bool = False  # put the copies to the GPU and back into the hot call (see `_ort_device`)

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")
            if self.device_id < 0 or self.memory_limit_bytes < 0:
                raise ValueError("device_id and memory_limit_bytes must be >= 0")
            for name, allowed in (
                ("conv_search", _CONV_SEARCH),
                ("attention", tuple(_ATTENTION)),
                ("optimization", tuple(OPTIMIZATION)),
            ):
                if getattr(self, name) not in allowed:
                    raise ValueError(f"{name} must be one of {', '.join(allowed)}, got '{getattr(self, name)}'")

    def version(self) -> str:
        """ONNX Runtime's version.

        Raises:
            EngineError: a build without CUDA is installed, or two builds are; no GPU, a driver too old, or CUDA's
                libraries missing.
        """
        return str(self._ready().__version__)

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open.

        Raises:
            EngineError: also where this machine cannot run it, see `version`.
        """
        ort = self._ready(options.device_id)
        driver = _cuda_driver.load()
        gpu = driver.describe().gpus[options.device_id]
        if artifact.precision == "bf16" and gpu.capability < _BFLOAT16_CAPABILITY:
            raise EngineError(
                f"bf16 needs a GPU of compute capability 8.0 or later, but {gpu.name} has "
                f"{gpu.capability[0]}.{gpu.capability[1]}",
                fix="Use fp16 there.",
            )
        native = ort.SessionOptions()
        native.intra_op_num_threads = options.threads
        native.graph_optimization_level = getattr(ort.GraphOptimizationLevel, OPTIMIZATION[options.optimization])
        # The CPU's threads have nothing to do; waiting busily they would take time from the one that feeds the GPU.
        native.add_session_config_entry("session.intra_op.allow_spinning", "0")
        before = driver.free_bytes(options.device_id)
        inner = open_session(ort, artifact, native, [(_PROVIDER, provider_options(options))])
        if _PROVIDER not in inner.native().get_providers():
            inner.close()
            raise EngineError(
                "ONNX Runtime's CUDA provider did not start, and ONNX Runtime would run the model on the CPU instead",
                fix="Its own words are above, on standard error.",
            )
        return DeviceSession(
            ort,
            inner,
            Device("cuda", options.device_id),
            graph=options.cuda_graph,
            host_copies=options.host_copies,
            told=partial(_told, inner.native(), gpu, driver, options.device_id, before),
        )

    def _ready(self, device_id: int = 0) -> Any:
        """The package, after all that it needs was found.

        Raises:
            EngineError: see `version`.
        """
        ort: Any = import_onnxruntime(self.install)
        driver = _cuda_driver.load().describe()
        if _PROVIDER not in ort.get_available_providers():
            raise EngineError(
                f"the onnxruntime {ort.__version__} that is installed is a build without CUDA",
                fix=f"Replace it: pip uninstall -y onnxruntime && {self.install}",
            )
        built_for = str(getattr(ort, "cuda_version", "") or "0")
        _cuda_driver.require(driver, f"onnxruntime-gpu {ort.__version__}", built_for, device_id)
        _load_libraries(ort, self.install)
        return ort


def provider_options(options: OnnxRuntimeCuda.Options) -> dict[str, str]:
    """The CUDA provider's options, by its names, as strings."""
    table: dict[str, str] = {
        "device_id": str(options.device_id),
        "enable_cuda_graph": _flag(options.cuda_graph),
        "prefer_nhwc": _flag(options.prefer_nhwc),
        "cudnn_conv_algo_search": options.conv_search.upper(),
        "cudnn_conv_use_max_workspace": _flag(options.conv_workspace),
        "fuse_conv_bias": _flag(options.fuse_conv_bias),
        "use_tf32": _flag(options.tf32),
        "sdpa_kernel": str(_ATTENTION[options.attention]),
    }
    if options.memory_limit_bytes:
        table["gpu_mem_limit"] = str(options.memory_limit_bytes)
    return table


def settings(reported: Mapping[str, str]) -> dict[str, Any]:
    """What the provider says of its options, by ours; one that it does not know (yet) is left out."""
    kernels = {str(bits): name for name, bits in _ATTENTION.items()}
    found: dict[str, Any] = {}
    for ours, theirs in (
        ("cuda_graph", "enable_cuda_graph"),
        ("prefer_nhwc", "prefer_nhwc"),
        ("conv_workspace", "cudnn_conv_use_max_workspace"),
        ("fuse_conv_bias", "fuse_conv_bias"),
        ("tf32", "use_tf32"),
    ):
        if theirs in reported:
            found[ours] = reported[theirs] in ("1", "True", "true")
    if "cudnn_conv_algo_search" in reported:
        found["conv_search"] = reported["cudnn_conv_algo_search"].lower()
    if "sdpa_kernel" in reported:
        found["attention"] = kernels.get(reported["sdpa_kernel"], reported["sdpa_kernel"])
    return found


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _told(
    native: Any, gpu: _cuda_driver.Gpu, driver: _cuda_driver.CudaDriver, device_id: int, before: int
) -> dict[str, Any]:
    """The provider's settings; the GPU's memory that is gone since before the session was opened, whoever took it."""
    return {
        **settings(native.get_provider_options()[_PROVIDER]),
        "gpu": gpu.name,
        "device_memory_bytes": max(0, before - driver.free_bytes(device_id)),
    }


def _load_libraries(ort: Any, install: str) -> None:
    """Load CUDA's and cuDNN's libraries, from NVIDIA's Python packages or the system.

    Raises:
        EngineError: some are missing; names them.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), engine_errors("ONNX Runtime"):
        ort.preload_dlls()
    missing = re.findall(r"^Failed to load (\S+?):", said.getvalue(), flags=re.MULTILINE)
    if not _loads(_CUDNN):  # which `preload_dlls` does not insist on, and convolutions do
        missing.append(_CUDNN)
    if missing:
        names = ", ".join(dict.fromkeys(re.split(r"[\\/]", name)[-1] for name in missing))
        raise EngineError(
            f"CUDA's libraries for onnxruntime-gpu {ort.__version__} are missing: {names}",
            fix=f"Install them: {install}",
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


PLUGIN = OnnxRuntimeCuda

"""TensorRT through ONNX Runtime's execution provider: the second way, for programs that have ONNX Runtime already."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from ..contracts import Artifact, Session
from ..errors import EngineError
from . import _plan_cache
from ._cuda import Gpu, cuda_version, load_cuda
from ._ort import import_onnxruntime, open_session
from ._tensorrt_recipe import Recipe, read_recipe

PROVIDER = "TensorrtExecutionProvider"


class OnnxRuntimeTensorRt:
    """Opens ``tensorrt`` artifacts with ONNX Runtime's TensorRT execution provider, which builds and keeps the plan.

    Source: ONNX Runtime, "TensorRT Execution Provider", configuration options.
    """

    name = "onnxruntime_tensorrt"
    formats = ("tensorrt",)
    install = "pip install onnxruntime-gpu tensorrt"
    by_pip: ClassVar[bool] = False
    prepares: ClassVar[str] = "plan"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options. What decides the plan itself is in its recipe."""

        threads: int = 0  # of the CPU, for what does not run on the GPU; 0: ONNX Runtime's choice
        cuda_graph: bool = False  # ONNX Runtime replays it only with inputs that stay where they are on the GPU
        cache: bool = True  # keep the plan for the next start

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")

    def version(self) -> str:
        """ONNX Runtime's version.

        Raises:
            EngineError: it is not installed, has no TensorRT provider, or there is no GPU.
        """
        ort: Any = self._load()
        load_cuda()
        return str(ort.__version__)

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open. The first open on a device builds the plan."""
        ort: Any = self._load()
        recipe = read_recipe(artifact.path.parent)
        gpu = load_cuda().gpu()
        native = ort.SessionOptions()
        native.intra_op_num_threads = options.threads
        # What ONNX Runtime would fuse, TensorRT's parser does not know.
        native.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings = provider_options(recipe, options)
        if options.cache:
            folder = _cache_folder(artifact.path, recipe, gpu, str(ort.__version__))
            settings |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_enable": "1" if recipe.timing_cache else "0",
                "trt_timing_cache_path": str(folder),
            }
        session = open_session(ort, artifact, native, [(PROVIDER, settings)])
        if PROVIDER not in session.in_force()["providers"]:
            session.close()
            raise EngineError(
                "ONNX Runtime cannot load its TensorRT provider, and would run on the CPU",
                fix="Are libnvinfer and libnvonnxparser of the version that it was built for on the library path?",
            )
        return session

    def _load(self) -> ModuleType:
        ort: Any = import_onnxruntime(self.install)
        if PROVIDER not in ort.get_available_providers():
            raise EngineError(
                f"this ONNX Runtime has no {PROVIDER}, only {', '.join(ort.get_available_providers())}",
                fix=f"Install one that has: {self.install}",
            )
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA's libraries, where they come as Python packages
        module: ModuleType = ort
        return module


def provider_options(recipe: Recipe, options: OnnxRuntimeTensorRt.Options) -> dict[str, str]:
    """The recipe as the provider's options. It has no name for some of it: the GPU fallback is always allowed there."""
    reduced = recipe.precision in ("fp16", "int8")
    table = {
        "trt_fp16_enable": "1" if reduced else "0",
        "trt_int8_enable": "1" if recipe.precision == "int8" else "0",
        "trt_builder_optimization_level": str(recipe.optimization_level),
        "trt_cuda_graph_enable": "1" if options.cuda_graph else "0",
    }
    if recipe.workspace_bytes:
        table["trt_max_workspace_size"] = str(recipe.workspace_bytes)
    if recipe.dla_core is not None:
        table |= {"trt_dla_enable": "1", "trt_dla_core": str(recipe.dla_core)}
    for kind in ("min", "opt", "max"):
        shapes = {name: "x".join(map(str, getattr(item, kind))) for name, item in recipe.profiles.items()}
        if shapes:
            table[f"trt_profile_{kind}_shapes"] = ",".join(f"{name}:{shape}" for name, shape in shapes.items())
    return table


def _cache_folder(model: Path, recipe: Recipe, gpu: Gpu, version: str) -> Path:
    """A folder for exactly this model, recipe, GPU, driver and ONNX Runtime, so that no foreign plan lies in it."""
    identity = {
        "model": _plan_cache.hash_model(model),
        "recipe": recipe.sha256,
        "engine": f"onnxruntime {version}",
        "gpu": f"{gpu.name} {gpu.compute_capability}",
        "driver": f"{gpu.driver}, {cuda_version(gpu.driver_cuda)}",
        "machine": platform.machine(),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = _plan_cache.cache_folder() / f"onnxruntime-{digest[:32]}"
    folder.mkdir(exist_ok=True)
    return folder


PLUGIN = OnnxRuntimeTensorRt

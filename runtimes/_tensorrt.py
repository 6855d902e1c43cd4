"""What the adapters to TensorRT and to its sibling for RTX cards share: plans are built at first open, and kept."""

from __future__ import annotations

import dataclasses
import platform
import re
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ..contracts import Artifact, Session
from ..errors import EngineError
from ..facts import install_on
from ..measure.engines import installed_version
from ..measure.telling import tell
from . import _plan_cache
from ._cuda import Gpu, cuda_version, load_cuda
from ._tensorrt_build import Log, build_plan
from ._tensorrt_recipe import Recipe, read_recipe
from ._tensorrt_session import TensorRtSession
from ._values import import_engine


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Session options. What decides the plan itself is in its recipe."""

    threads: int = 0  # of the CPU; TensorRT uses none, and `in_force` tells 0
    cuda_graph: bool = True  # start a run as one graph; a model that cannot be captured runs without, and says so
    cache: bool = True  # keep the plan for the next start

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads must be >= 0, got {self.threads}")


class PlanRuntime:
    """Opens ``tensorrt`` artifacts: an ONNX file with a recipe. Subclasses name the package.

    A plan is tied to the GPU, the driver and TensorRT's version, so it is built on the device, at first open, which
    takes seconds to many minutes, and kept in `_plan_cache`. Where any of the three has changed it is built anew.
    """

    name: str
    formats: tuple[str, ...] = ("tensorrt",)
    install: str
    by_pip: ClassVar[bool] = True  # False: wheels alone do not bring it to a device
    note: ClassVar[str] = ""  # what else is worth knowing about installing it
    prepares: ClassVar[str] = "plan"  # what the first open on a device builds, which may take minutes
    Options = SessionOptions
    modules: ClassVar[tuple[str, ...]]  # the package's import names, the first one found is used
    timing_cache: ClassVar[bool] = True

    def version(self) -> str:
        """TensorRT's version.

        Raises:
            EngineError: it is not installed, or there is no GPU, or its driver is too old for this TensorRT.
        """
        trt = self.load()
        self._check_driver(load_cuda().gpu(), trt.__version__)
        return str(trt.__version__)

    def open(self, artifact: Artifact, options: SessionOptions) -> Session:
        """See contracts.Runtime.open. Builds the plan if this device has none that fits."""
        trt = self.load()
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        recipe = read_recipe(artifact.path.parent)
        refused = recipe.refuses(trt.__version__) if self.name == "tensorrt" else None
        if refused is not None:
            raise EngineError(refused, fix="Update it, on a Jetson by updating JetPack.")
        cuda = load_cuda()
        gpu = cuda.gpu()
        self._check_driver(gpu, trt.__version__)
        log = Log(trt)
        engine, facts = _Plans(self, trt, log, artifact, recipe, gpu, options.cache).open()
        return TensorRtSession(trt, cuda, log, engine, artifact, options.cuda_graph, facts)

    def load(self) -> Any:
        """The package.

        Raises:
            EngineError: not installed, or broken.
        """
        here = install_on(self, platform.machine())
        for name in self.modules:
            if find_spec(name) is not None:
                return import_engine(name, here)
        fix = f"Install it: {here}" if here != self.install else f"Install it: {self.install}. {self.note}"
        raise EngineError(f"{self.name} is not installed", fix=fix.rstrip(". ") + ".")

    def configure(self, trt: Any, config: Any) -> None:
        """Put into the builder's configuration what this kind of TensorRT wants beyond the recipe."""

    def _check_driver(self, gpu: Gpu, version: str) -> None:
        """A TensorRT made for a newer CUDA than the driver speaks fails in ways that do not say so."""
        wanted = cuda_of(self.modules[0])
        if wanted is not None and gpu.driver_cuda // 1000 < wanted:
            raise EngineError(
                f"the driver is too old: it speaks {cuda_version(gpu.driver_cuda)} ({gpu.driver}), "
                f"{self.name} {version} is made for CUDA {wanted}",
                fix=f"Update the NVIDIA driver, or install {self.name} for CUDA {gpu.driver_cuda // 1000}.",
            )


def cuda_of(package: str) -> int | None:
    """The major version of CUDA that an installed package is made for, by its distribution's name; None: no telling.

    ``tensorrt-cu13-bindings`` → 13. On a Jetson the package comes with the system, and with its driver.
    """
    stem = package.replace("_", "-")
    found = []
    for major in (11, 12, 13, 14):
        for distribution in (f"{stem}-cu{major}-bindings", f"{stem}-cu{major}"):
            if installed_version(distribution):
                found.append(major)
    return min(found, default=None)


@dataclass(frozen=True, slots=True)
class _Plans:
    """Finds or builds the plan of one artifact on this device, and deserializes it."""

    runtime: PlanRuntime
    trt: Any
    log: Log
    artifact: Artifact
    recipe: Recipe
    gpu: Gpu
    keep: bool

    def open(self) -> tuple[Any, dict[str, Any]]:
        """The engine, and the facts for `in_force`."""
        identity = self.identity()
        folder = _plan_cache.cache_folder() if self.keep else None
        path = _plan_cache.plan_path(folder, identity) if folder is not None else None
        kept = _plan_cache.load(path, identity) if path is not None else None
        reason = None
        if isinstance(kept, _plan_cache.Kept):
            try:
                return self._deserialize(kept.plan), self._facts(path, kept.build_s, built=False)
            except EngineError as error:
                reason = "; ".join((error.what, *error.details))
        elif isinstance(kept, _plan_cache.Refused):
            reason = kept.reason
        if reason is not None:
            tell(f"the kept plan cannot be used and is built again: {reason}")
        start = time.perf_counter()
        timings = folder / self._timings_name() if folder is not None and self._keeps_timings() else None
        plan = build_plan(self.trt, self.log, self.artifact.path, self.recipe, timings, self.runtime.configure)
        build_s = time.perf_counter() - start
        engine = self._deserialize(plan)
        if path is not None:
            _plan_cache.store(path, identity, plan, build_s)
        return engine, self._facts(path, build_s, built=True, reason=reason)

    def identity(self) -> dict[str, str]:
        """What a plan must have been built for to be loaded."""
        return {
            "model": _plan_cache.hash_model(self.artifact.path),
            "recipe": self.recipe.sha256,
            "engine": f"{self.runtime.name} {self.trt.__version__}",
            "gpu": self.gpu.name,
            "compute capability": self.gpu.compute_capability,
            "driver": f"{self.gpu.driver}, {cuda_version(self.gpu.driver_cuda)}",
            "machine": platform.machine(),
        }

    def _deserialize(self, plan: bytes) -> Any:
        runtime = self.trt.Runtime(self.log.native)
        if self.recipe.dla_core is not None:
            runtime.DLA_core = self.recipe.dla_core
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError("TensorRT cannot load the plan", details=self.log.take())
        return engine

    def _facts(self, path: Path | None, build_s: float, *, built: bool, reason: str | None = None) -> dict[str, Any]:
        facts = {
            "plan": None if path is None else str(path),
            "plan_built_now": built,
            "plan_build_s": build_s,
            "gpu": self.gpu.name,
            "driver": self.gpu.driver,
            "recipe": {key: value for key, value in dataclasses.asdict(self.recipe).items() if key != "profiles"},
        }
        return facts if reason is None else {**facts, "plan_built_because": reason}

    def _keeps_timings(self) -> bool:
        return self.recipe.timing_cache and self.runtime.timing_cache

    def _timings_name(self) -> str:
        told = f"{self.runtime.name}-{self.trt.__version__}-{self.gpu.name}-{self.gpu.compute_capability}"
        return re.sub(r"[^A-Za-z0-9.-]+", "_", told) + ".timing"

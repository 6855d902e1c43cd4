"""``model.onnx`` and a recipe → a serialized plan, by TensorRT's builder, with progress.

Source: NVIDIA, "TensorRT Python API" (Builder, OnnxParser, IBuilderConfig, IProgressMonitor), 10.3 to 11.4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import EngineError
from ..measure.telling import tell
from ._plan_cache import write_whole
from ._tensorrt_recipe import Recipe, numbers
from ._values import engine_errors

_MOST_ERRORS = 8


class Log:
    """What TensorRT says, from warnings up; its own object for that is ``native``.

    Args:
        trt: the package.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        told = self.errors
        worst = int(trt.ILogger.Severity.ERROR)

        class Native(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= worst:
                    told.append(" ".join(message.split()))

        self.native = Native()

    def take(self) -> list[str]:
        """The errors since the last call, each once."""
        found = list(dict.fromkeys(self.errors))
        self.errors.clear()
        return found[-_MOST_ERRORS:]


def build_plan(
    trt: Any,
    log: Log,
    model: Path,
    recipe: Recipe,
    timings: Path | None = None,
    further: Callable[[Any, Any], None] | None = None,
) -> bytes:
    """Build a plan for the GPU of this machine. Takes seconds to many minutes; says how far it is by `tell`.

    Args:
        trt: the package ``tensorrt``, or one with the same API.
        log: gets TensorRT's messages.
        model: the ONNX file; external data lie beside it.
        recipe: the builder's settings.
        timings: the file that keeps the measured times of kernels; read and written; None: none.
        further: puts more into the configuration: called with ``trt`` and the IBuilderConfig.

    Raises:
        EngineError: the parser or the builder refuses the model, with its words and the nodes.
        KeyboardInterrupt: the user interrupted the build.
    """
    tell("reading the model")
    with engine_errors("TensorRT cannot start a build"):
        builder = trt.Builder(log.native)
    weakly_typed = needs_weak_typing(recipe, trt.__version__)
    flags = 0 if weakly_typed else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parse(trt, log, network, model)
    config = builder.create_builder_config()
    configure(trt, builder, network, config, recipe)
    if weakly_typed:
        config.set_flag(trt.BuilderFlag.FP16)
    if further is not None:
        further(trt, config)
    timing_cache = _load_timings(config, timings)
    monitor = _progress_monitor(trt)
    config.progress_monitor = monitor
    with engine_errors("TensorRT cannot build the plan"):
        serialized = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if serialized is None:
        raise EngineError("TensorRT cannot build the plan", details=log.take(), fix=_fix(recipe))
    if timing_cache is not None and timings is not None:
        write_whole(timings, bytes(memoryview(timing_cache.serialize())))
    tell("building the plan", 1.0)
    return bytes(memoryview(serialized))


def needs_weak_typing(recipe: Recipe, version: str) -> bool:
    """Whether the network cannot be strongly typed: before TensorRT 11 the DLA wants its precision as a builder flag.

    The graph's own types are float16 all the same, so that both ways compute alike.
    Source: NVIDIA, "Strongly Typed Networks for DLA", TensorRT 11.4.
    """
    return recipe.dla_core is not None and numbers(version) < (11,)


def parse(trt: Any, log: Log, network: Any, model: Path) -> None:
    """Read the ONNX file into ``network``.

    Raises:
        EngineError: the parser refuses nodes; names each with the parser's reason.
    """
    parser = trt.OnnxParser(network, log.native)
    with engine_errors(f"TensorRT refuses {model.name}"):
        taken = parser.parse_from_file(str(model))
    if taken:
        log.take()
        return
    lines = [_parser_line(parser.get_error(index)) for index in range(parser.num_errors)]
    raise EngineError(f"TensorRT refuses {model.name}", details=lines or log.take())


def _parser_line(error: Any) -> str:
    words = " ".join(error.desc().split())
    operator = error.node_operator()
    return f"{operator}  ({error.node_name()})  {words}" if operator else words


def configure(trt: Any, builder: Any, network: Any, config: Any, recipe: Recipe) -> None:
    """Put the recipe into the builder's configuration.

    Raises:
        EngineError: a profile for an input that the network has not, or a DLA core that this machine has not.
    """
    if recipe.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.builder_optimization_level = recipe.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the plan then tells which node became which layer
    (config.set_flag if recipe.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    if recipe.dla_core is not None:
        if recipe.dla_core >= builder.num_DLA_cores:
            raise EngineError(
                f"the recipe wants DLA core {recipe.dla_core}, this machine has {builder.num_DLA_cores} for TensorRT "
                f"{trt.__version__}",
                fix="Export without a DLA candidate, or use a device and a TensorRT that have one.",
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla_core
        if recipe.gpu_fallback:
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if recipe.profiles:
        known = {network.get_input(index).name for index in range(network.num_inputs)}
        profile = builder.create_optimization_profile()
        for name, shapes in recipe.profiles.items():
            if name not in known:
                raise EngineError(f"the recipe has a profile for '{name}', which is not an input of the model")
            with engine_errors(f"TensorRT refuses the shapes of '{name}'"):
                profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        config.add_optimization_profile(profile)


def _load_timings(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    kept = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None:  # of another TensorRT, or damaged
        cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return cache


def _progress_monitor(trt: Any) -> Any:
    """An IProgressMonitor that tells the share of the outermost phase.

    Its methods are called from the builder's threads, where an exception would end the process: an interrupt is noted,
    and the build asked to stop.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self.phases = Phases()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                self.phases.step(phase_name, step)
                tell("building the plan", self.phases.share(phase_name))
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

    return Monitor()


class Phases:
    """The builder's nested phases, and how much of the outermost one is done."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name → parent, steps, steps done
        self._shown: dict[str, float] = {}  # an outermost phase's share never falls

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        self._phases[name] = (parent, max(steps, 1), 0)

    def step(self, name: str, step: int) -> None:
        """Step ``step`` of a phase, counted from 0, is done."""
        if name in self._phases:
            parent, steps, _ = self._phases[name]
            self._phases[name] = (parent, steps, min(step + 1, steps))

    def finish(self, name: str) -> None:
        """A phase ends."""
        self._phases.pop(name, None)

    def share(self, name: str) -> float:
        """What is done of the outermost phase above ``name``: its steps, and of the step under way its inner phases."""
        inner, root = 0.0, name
        while name in self._phases:
            parent, steps, done = self._phases[name]
            inner, root = min((done + inner) / steps, 1.0), name
            if parent is None:
                break
            name = parent
        self._shown[root] = max(self._shown.get(root, 0.0), min(inner, 0.99))
        return self._shown[root]


def _fix(recipe: Recipe) -> str:
    if recipe.dla_core is not None and not recipe.gpu_fallback:
        return "Layers that the DLA does not take may run on the GPU where the candidate states gpu_fallback = true."
    return ""

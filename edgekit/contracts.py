"""What the stages hand to each other: frozen values and Protocols, nothing else.

Device floor: the standard library and numpy only. This file ships inside every bundle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError, suggestion

Array: TypeAlias = NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]
"""Input name → array. Every array has the dtype and a shape that its TensorSpec allows."""
Outputs: TypeAlias = dict[str, Array]
"""Output name → array. Beyond tensors, here and in Feeds: an ONNX sequence is a list of arrays, an empty optional None.
Adapters pass them through and `measure.parity` compares them; the TensorSpec's dtype then is the type, ``seq(…)``."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The name, dtype and shape of a model's input or output.

    dtype is numpy's name (``float32``, ``int64``, ``bool``), or ml_dtypes' (``bfloat16``, ``float8_e4m3fn``, ``int4``),
    or ``string``. shape holds an int for a fixed dimension and a name for a free one: ``("batch", 3, 224, 224)``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"

    def refuses(self, array: Array) -> str | None:
        """Why ``array`` cannot be fed to this tensor, or None where it can."""
        if array.dtype.name != self.dtype and not (self.dtype == "string" and array.dtype.kind in "OUST"):
            return f"'{self.name}' must be {self.dtype}, got {array.dtype.name}"
        fits = len(array.shape) == len(self.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            want, got = "x".join(map(str, self.shape)) or "scalar", "x".join(map(str, array.shape)) or "scalar"
            return f"'{self.name}' must have the shape {want}, got {got}"
        return None


@dataclass(frozen=True, slots=True)
class StatePair:
    """An output that is an input of the next run: what a model remembers between two frames of a stream."""

    input: str
    output: str
    # A buffer that forward overwrites, and no argument of it: an app that runs single frames sees neither end.
    buffer: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an engine loads: a main file, whose companions (external data, weights) lie in the same folder."""

    path: Path
    format: str  # "onnx", "openvino-ir", …: what a Runtime says it opens
    precision: str  # "fp32", "bf16", "int8", …: what was asked for; a Session reads back what is in force
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StatePair, ...] = ()  # empty: a run depends on its inputs alone


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """Where one node ran. ``name`` is the engine's name of it, which may stand for several fused nodes."""

    name: str
    op_type: str
    device: str  # "CPU", "CUDA", "HTP", …
    precision: str | None = None  # what the engine computes it in, where it tells: "f32", "bf16", "i8"
    reason: str | None = None  # the engine's own words on why not elsewhere


@dataclass(frozen=True, slots=True)
class Placement:
    """Node by node where a session runs, or the reason why that cannot be told."""

    nodes: tuple[NodePlacement, ...] = ()
    unknown: str | None = None

    def counts(self) -> dict[str, int]:
        """Device → number of nodes, the most first."""
        found: dict[str, int] = {}
        for node in self.nodes:
            found[node.device] = found.get(node.device, 0) + 1
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def elsewhere(self, devices: Collection[str], allowed: Collection[str] = ()) -> tuple[NodePlacement, ...]:
        """The nodes that run on another device than any of ``devices``, but for operators that are ``allowed`` to.

        QuantizeLinear and DequantizeLinear go where the operator between them goes: beside one they do not count.
        """
        strays = [node for node in self.nodes if node.device not in devices]
        work = [node for node in strays if node.op_type not in _CARRIERS] or strays
        return tuple(node for node in work if node.op_type not in allowed)


_CARRIERS = ("QuantizeLinear", "DequantizeLinear")


class Session(Protocol):
    """An open model in one engine. Not thread-safe."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, by the engine's own account, in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, by the engine's own account, in order."""
        ...

    def run(self, feeds: Feeds) -> Outputs:
        """Run once and return fresh arrays that the caller may keep.

        Raises:
            EngineError: the engine refuses the feeds or fails while running; its own words are in the message.
        """
        ...

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """The hot call: inputs in place, outputs pre-allocated where the engine can; calling it runs once.

        It is synchronous: it returns when the outputs are usable. What it returns means nothing and may be overwritten
        by the next call. It stays valid until ``close`` or until ``feeds``' arrays are freed.
        """
        ...

    def placement(self) -> Placement:
        """Node by node where this session runs."""
        ...

    def in_force(self) -> dict[str, Any]:
        """The settings in force, read back from the engine where it tells: ``threads``, ``precision``, …."""
        ...

    def close(self) -> None:
        """Free the engine's memory. The session cannot be used afterwards; a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class LayerTime:
    """How long one node of the engine takes in a run."""

    name: str  # the engine's, which may stand for several fused nodes
    op_type: str  # the engine's
    time_s: float
    precision: str | None = None  # what the engine computes it in, where it tells
    covers: tuple[str, ...] = ()  # the artifact's nodes in it, by their names or their outputs', as far as it tells


@runtime_checkable
class Profiles(Protocol):
    """What a Session may offer beyond the rest: the time of each node."""

    def profile(self, feeds: Feeds, runs: int) -> Sequence[LayerTime]:
        """Run ``runs`` times, with the engine's own timers on, and return the nodes in the order they ran.

        The session itself stays untimed and as fast as it was. Each time is `typical` of the runs.

        Raises:
            EngineError: the engine cannot time this model's nodes.
        """
        ...


@runtime_checkable
class Concurrent(Protocol):
    """What a Session may offer beyond the rest: several threads may ``run`` it at once, each with its own answer."""

    concurrent: bool


class Steps(Protocol):
    """A stream of runs in one session, in which the engine keeps the state. Not thread-safe."""

    def run(self, frame: Feeds) -> Outputs:
        """One step: the inputs that are no state, checked as `Session.run` does → fresh arrays of the outputs."""
        ...

    def bind(self, frame: Feeds) -> Callable[[], object]:
        """The hot call of one step, see `Session.bind`; several may live at once, and all go on from one state."""
        ...

    def set_state(self, state: Feeds) -> None:
        """Go on from ``state``, by the inputs' names, of the shapes that it was opened with."""
        ...

    def state(self) -> Outputs:
        """Copies of the present state, by the inputs' names."""
        ...


@runtime_checkable
class KeepsState(Protocol):
    """What a Session may offer beyond the rest: to keep a stream's state in its own memory, uncopied."""

    def open_steps(self, pairs: Sequence[StatePair], state: Feeds, shown: Sequence[str]) -> Steps | None:
        """A stream that begins with ``state`` and answers the outputs ``shown``; None: not for this model's shapes.

        Any number may be open at once; they are independent.
        """
        ...


@runtime_checkable
class Emulated(Protocol):
    """What a Runtime may offer beyond the rest: to say that the device is not here, and an emulator stands for it.

    Its numbers are then worth checking and its latency is not worth measuring; a Session tells the same in
    ``in_force()["emulated"]``.
    """

    def emulator(self) -> str | None:
        """What stands for the device on this machine, in words; None: the device itself."""
        ...


class TimedRuns(Protocol):
    """What times a session's runs: `measure.latency.Sampler`, or a session's own where its engine is elsewhere."""

    def warm_up(self, seconds: float) -> int:
        """Run untimed for ``seconds``, and at least once over every input. Returns the number of runs."""
        ...

    def block(self, seconds: float = 0.0, *, min_runs: int = 1, max_runs: int = ...) -> NDArray[np.float64]:
        """Run back to back and time each run: seconds, in order, shape [n]."""
        ...

    def serve(self, rate_per_s: float, seconds: float, *, seed: int = 0) -> NDArray[np.float64]:
        """Run at the random arrivals of requests; from each arrival to its result, in seconds."""
        ...


class OwnTimedRuns(TimedRuns, Protocol):
    """A session's own: it also tells what its timing costs."""

    def harness(self, seconds: float, *, max_runs: int) -> NDArray[np.float64]:
        """Time a run that does nothing, in the same way: seconds, shape [n]."""
        ...


@runtime_checkable
class OutOfProcess(Protocol):
    """What a Session offers beyond the rest whose engine runs in other processes of this machine: a browser's, say.

    A clock here would time the way to the engine and back, so it times runs itself, beside the engine.
    """

    def sampler(self, feeds: Sequence[Feeds]) -> OwnTimedRuns:
        """Times runs over ``feeds``, in rotation."""
        ...

    def processes(self) -> Sequence[int]:
        """The system's numbers of the engine's processes, the one that holds the model first; empty: not known."""
        ...


def typical(times_s: Sequence[float]) -> float:
    """The mean of the middle half of some times: as robust as a median, and finer than the timer's tick.

    Source: the interquartile mean, a 25 % trimmed mean; Tukey, "A survey of sampling from contaminated distributions"
    (1960).
    """
    ordered = np.sort(np.asarray(times_s, np.float64))
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


class Runtime(Protocol):
    """Adapter to one engine. A plug-in module names its class ``PLUGIN``; importing it must not import the engine."""

    name: str
    formats: tuple[str, ...]  # the artifact formats it opens, best first
    install: str  # the line that installs the engine: "pip install onnxruntime"
    # A frozen dataclass of session options; the field ``threads: int`` (0: the engine's choice). Where the engine
    # itself refuses to run nodes elsewhere, ``fallback: tuple[str, ...]`` holds the operators that may (``*``: any).
    Options: type[Any]
    # What else it may state, as attributes of its class: `edgekit.facts`. Or do: `Emulated`, `Embeddable`.

    def version(self) -> str:
        """The engine's version.

        Raises:
            EngineError: it is not installed, or not usable here; says why and how to install it.
        """
        ...

    def open(self, artifact: Artifact, options: Any) -> Session:
        """Load ``artifact`` with ``options``, an instance of ``Options``.

        Raises:
            EngineError: the engine is missing, or refuses the model; its own words are in the message.
        """
        ...


@dataclass(frozen=True, slots=True)
class AppGlue:
    """What a bundle holds for an app beside its Python runner."""

    files: Mapping[str, Path]  # path in the bundle, "web/edgekit.mjs" → the file to copy there
    readme: str  # sections of the bundle's README.md, in Markdown: how to use it
    install: str | None = None  # what its Python runner needs, where that is less than the runtime's ``install``


@runtime_checkable
class Embeddable(Protocol):
    """What a Runtime may offer beyond the rest: glue for apps in other languages than Python."""

    def app_glue(self, artifact: Artifact, options: Any) -> AppGlue:
        """The glue for ``artifact`` with the session options that were measured, an instance of ``Options``.

        Raises:
            EngineError: files of the engine are missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an engine may be from the reference. What is None is not required; each stated bound must hold."""

    max_abs: float | None = None  # in the output's unit
    rel_l2: float | None = None  # ‖y − y_ref‖₂ / ‖y_ref‖₂
    sqnr_db: float | None = None  # 10·log10(Σ y_ref² / Σ (y − y_ref)²), at least this
    part_db: float | None = None  # the same of the worst part of an output, against what varies there, at least this
    atol: float | None = None  # |y − y_ref| ≤ atol + rtol·|y_ref|, element by element, as numpy.allclose has it
    rtol: float | None = None  # needs atol

    def __post_init__(self) -> None:
        if self.rtol is not None and self.atol is None:
            raise ValueError("'rtol' needs 'atol'")

    def to_json(self) -> dict[str, float]:
        """The bounds that are stated."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass did to a graph, for the user and for the manifest."""

    name: str
    modified: bool
    detail: str  # "folded 20 of 20 BatchNormalization", or why nothing changed
    options: Mapping[str, Any] = field(default_factory=dict)
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0


@runtime_checkable
class Progress(Protocol):
    """Where long work says how far it is. Implementations decide whether and where to print."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a named stage; its wall time is kept."""
        ...

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        """``done`` of ``total`` units of the current stage are finished."""
        ...


class Quiet:
    """A Progress that says nothing."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Do nothing around the stage."""
        from contextlib import nullcontext

        return nullcontext()

    def step(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say nothing."""


T = TypeVar("T")


def options_from(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the options dataclass ``cls`` from a table a person wrote, refusing what it does not know.

    A list becomes a tuple. ``where`` names the place for the message: ``"[runtime.options] of target 'cpu'"``.

    Raises:
        UsageError: an unknown key (with the nearest known one), a value of the wrong type, or a rejected value.
    """
    fields: Sequence[dataclasses.Field[Any]] = dataclasses.fields(cls)  # type: ignore[arg-type]
    known = {item.name for item in fields if item.init}
    for key in values:
        if key not in known:
            raise UsageError(f"{where} has no option '{key}'", fix=suggestion(key, known))
    ready = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for item in fields:
        if item.name in ready and not _is_of_type(ready[item.name], str(item.type)):
            raise UsageError(f"{where}: '{item.name}' must be {item.type}, got {ready[item.name]!r}")
    try:
        return cls(**ready)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


_PLAIN: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}


def _is_of_type(value: object, annotation: str) -> bool:
    """Whether ``value`` fits a plain annotation such as ``int`` or ``str | None``; others are left to the class."""
    choices = [part.strip() for part in annotation.split("|")]
    if any(part not in _PLAIN and part != "None" for part in choices):
        return True
    if value is None:
        return "None" in choices
    if isinstance(value, bool):
        return "bool" in choices
    return any(isinstance(value, _PLAIN[part]) for part in choices if part != "None")


def describe(array: Array) -> str:
    """``float32 1x3x224x224`` for messages."""
    return f"{np.asarray(array).dtype.name} {'x'.join(map(str, np.shape(array))) or 'scalar'}"

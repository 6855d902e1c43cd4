"""LiteRT (TensorFlow Lite) on the CPU: XNNPACK's kernels, and its own for the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Artifact, Feeds, NodePlacement, Outputs, Placement, Session, TensorSpec
from ..errors import EngineError
from ._engine_path import engine_path
from ._values import engine_errors, import_engine, prepare


class LiteRt:
    """Opens ``tflite`` artifacts: a model's first subgraph."""

    name = "litert"
    formats = ("tflite",)
    install = "pip install ai-edge-litert"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options."""

        threads: int = 0  # 0: LiteRT's choice, which is one
        xnnpack: bool = True  # False: its own kernels alone

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")

    def version(self) -> str:
        """LiteRT's version."""
        return str(import_engine("ai_edge_litert", self.install).__version__)

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open."""
        engine = import_engine("ai_edge_litert.interpreter", self.install)
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        kinds = engine.OpResolverType
        with engine_errors(f"LiteRT refuses {artifact.path.name}"):
            native = engine.Interpreter(
                engine_path(artifact.path),
                num_threads=options.threads or None,
                experimental_op_resolver_type=kinds.AUTO
                if options.xnnpack
                else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            native.allocate_tensors()
            return LiteRtSession(native, artifact, options)


class LiteRtSession:
    """An interpreter with its tensors allocated.

    Args:
        native: the interpreter.
        artifact: names its inputs and outputs, which the file may call ``args_0`` and ``output_0``.
        options: what it was opened with.
    """

    def __init__(self, native: Any, artifact: Artifact, options: LiteRt.Options) -> None:
        self._native = native
        self._options = options
        self._inputs, self._input_places = _match(artifact.inputs, native.get_input_details(), "inputs")
        self._outputs, self._output_places = _match(artifact.outputs, native.get_output_details(), "outputs")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, named as the artifact names them, with the file's dtypes and shapes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, named as the artifact names them, with the file's dtypes and shapes."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        self._feed(feeds)
        native = self._open()
        with engine_errors("LiteRT"):
            native.invoke()
            return {
                spec.name: np.array(native.get_tensor(place))
                for spec, place in zip(self._outputs, self._output_places, strict=True)
            }

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind.

        Inputs lie in the interpreter's own memory, of which there is one: the call feeds it anew, as a camera would.
        """
        native = self._open()
        ready = self._ready(feeds)
        pairs = [(place, ready[spec.name]) for place, spec in zip(self._input_places, self._inputs, strict=True)]
        set_tensor, invoke = native.set_tensor, native.invoke

        def hot() -> None:
            for place, array in pairs:
                set_tensor(place, array)
            invoke()

        with engine_errors("LiteRT"):
            hot()
        return hot

    def placement(self) -> Placement:
        """The file's operators, all on the CPU. Which of them XNNPACK took LiteRT does not tell."""
        native = self._open()
        if not hasattr(native, "_get_ops_details"):
            return Placement(unknown="this version of LiteRT does not list its operators")
        operators = [item for item in native._get_ops_details() if item["op_name"] != "DELEGATE"]
        return Placement(tuple(NodePlacement(str(item["index"]), item["op_name"], "CPU") for item in operators))

    def in_force(self) -> dict[str, Any]:
        """The options as given: LiteRT reports none of them."""
        self._open()
        return {
            "threads": self._options.threads or 1,
            "precision": "as the file says",
            "xnnpack": self._options.xnnpack,
        }

    def close(self) -> None:
        """Free the interpreter; what `bind` returned keeps its own hold until it is dropped."""
        self._native = None

    def _open(self) -> Any:
        if self._native is None:
            raise EngineError("this session is closed")
        return self._native

    def _ready(self, feeds: Feeds) -> dict[str, Any]:
        ready = prepare(feeds, self._inputs)
        for spec in self._inputs:
            refused = spec.refuses(ready[spec.name])
            if refused:  # LiteRT's own message names no input
                raise EngineError(f"input {refused}")
        return ready

    def _feed(self, feeds: Feeds) -> None:
        native = self._open()
        ready = self._ready(feeds)
        with engine_errors("LiteRT"):
            for place, spec in zip(self._input_places, self._inputs, strict=True):
                native.set_tensor(place, ready[spec.name])


_NUMBER = {"inputs": r"args_(\d+)", "outputs": r"output_(\d+)"}


def _match(
    wanted: tuple[TensorSpec, ...], details: list[dict[str, Any]], kind: str
) -> tuple[tuple[TensorSpec, ...], tuple[int, ...]]:
    """The file's tensors under the artifact's names, and their places in the interpreter.

    A file that was made from a PyTorch program calls them ``…args_0…`` and ``…output_0…``; another one as the artifact
    does, or else in the artifact's order. (Not by its signature: after ai-edge-quantizer that names other tensors.)
    """
    if len(details) != len(wanted):
        raise EngineError(f"the model has {len(details)} {kind}, the bundle names {len(wanted)}")
    numbered = {int(found[1]): item for item in details if (found := re.search(_NUMBER[kind], item["name"]))}
    by_name = {item["name"]: item for item in details}
    if numbered and max(numbered) < len(details):
        # An output that is an input has that one's name: it stands where no other does.
        others = iter([item for item in details if not re.search(_NUMBER[kind], item["name"])])
        details = [numbered[place] if place in numbered else next(others) for place in range(len(details))]
    elif all(spec.name in by_name for spec in wanted):
        details = [by_name[spec.name] for spec in wanted]
    specs = tuple(
        TensorSpec(spec.name, np.dtype(item["dtype"]).name, tuple(int(size) for size in item["shape"]))
        for spec, item in zip(wanted, details, strict=True)
    )
    return specs, tuple(int(item["index"]) for item in details)


PLUGIN = LiteRt

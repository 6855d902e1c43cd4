"""ExecuTorch on the CPU: XNNPACK's kernels, and its own portable ones for the rest."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, Artifact, Feeds, NodePlacement, Outputs, Placement, Session, TensorSpec
from ..errors import EngineError
from ._engine_path import engine_path
from ._values import engine_errors, import_engine, is_plain, prepare


class ExecuTorch:
    """Opens ``executorch-pte`` artifacts. Its Python package needs torch, for the tensors alone."""

    name = "executorch"
    formats = ("executorch-pte",)
    install = "pip install executorch"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options. ExecuTorch has one thread pool a process: the session opened last sets its size."""

        threads: int = 0  # 0: ExecuTorch's choice, which `in_force` tells

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")

    def version(self) -> str:
        """ExecuTorch's version, without its build."""
        import_engine("executorch.extension.pybindings.portable_lib", self.install)
        return str(import_engine("executorch.version", self.install).__version__).split("+")[0]

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open."""
        torch = import_engine("torch", "pip install torch")
        engine = import_engine("executorch.extension.pybindings.portable_lib", self.install)
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        with _turn(engine), engine_errors(f"ExecuTorch refuses {artifact.path.name}"):
            if options.threads:
                engine._unsafe_reset_threadpool(options.threads)
            return ExecuTorchSession(torch, engine, engine._load_for_executorch(engine_path(artifact.path)), artifact)


class ExecuTorchSession:
    """A loaded program's method ``forward``.

    Args:
        torch: the package.
        engine: ExecuTorch's own.
        module: the loaded program.
        artifact: names its inputs and outputs, which a program knows by their place alone.
    """

    def __init__(self, torch: ModuleType, engine: ModuleType, module: Any, artifact: Artifact) -> None:
        self._torch = torch
        self._engine = engine
        self._module = module
        self._artifact = artifact
        meta = module.method_meta("forward")
        inputs = [meta.input_tensor_meta(index) for index in range(meta.num_inputs())]
        outputs = [meta.output_tensor_meta(index) for index in range(meta.num_outputs())]
        self._inputs = _specs(artifact.inputs, inputs, "inputs")
        self._outputs = _specs(artifact.outputs, outputs, "outputs")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, named as the artifact names them, in the shapes the program was lowered for."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, named as the artifact names them."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        call = self._call(feeds)
        with engine_errors("ExecuTorch"):
            # What it returns lies in memory that the next run writes to.
            return {spec.name: np.array(item.numpy()) for spec, item in zip(self._outputs, call(), strict=True)}

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind: inputs are handed over where they lie, outputs lie in memory planned ahead."""
        call = self._call(feeds)
        with engine_errors("ExecuTorch"):
            call()
        return call

    def placement(self) -> Placement:
        """Node by node, as settled when the program was lowered: all on the CPU, by XNNPACK or by a portable kernel."""
        self._open()
        path = self._artifact.path.with_name("nodes.json")
        if not path.is_file():
            return Placement(
                unknown="ExecuTorch does not say what runs where, and there is no nodes.json beside the program"
            )
        return Placement(
            tuple(
                NodePlacement(
                    node["name"],
                    node["op_type"],
                    "CPU",
                    reason=None
                    if node["kernel"] == "XNNPACK"
                    else "not taken by XNNPACK: a portable kernel computes it",
                )
                for node in json.loads(path.read_text(encoding="utf-8"))
            )
        )

    def in_force(self) -> dict[str, Any]:
        """What ExecuTorch reports."""
        self._open()
        return {"threads": self._engine._threadpool_get_thread_count(), "precision": "as the program says"}

    def close(self) -> None:
        """Free the program; what `bind` returned keeps its own hold until it is dropped."""
        self._module = None

    def _open(self) -> Any:
        if self._module is None:
            raise EngineError("this session is closed")
        return self._module

    def _call(self, feeds: Feeds) -> Callable[[], Any]:
        module = self._open()
        ready = prepare(feeds, self._inputs)
        for spec in self._inputs:
            refused = spec.refuses(ready[spec.name])
            if refused:  # ExecuTorch's own message names no input
                raise EngineError(f"input {refused}")
        tensors = [self._torch.from_numpy(_writable(ready[spec.name])) for spec in self._inputs]
        turn = _turn(self._engine)

        def forward() -> Any:
            with turn:
                return module.run_method("forward", tensors)

        return forward


def _turn(engine: ModuleType) -> AbstractContextManager[Any]:
    """Whoever opens or runs a program in this process holds it, whatever bundle it is of.

    `_unsafe_reset_threadpool` lets other threads go on meanwhile: a second one inside it, or a program that runs on the
    pool that it frees, ends the process or hangs it. Waiting costs nothing: a run holds Python's own lock throughout.
    """
    turn: AbstractContextManager[Any] = vars(engine).setdefault("_edgekit_turn", threading.Lock())
    return turn


def _writable(array: Array) -> Array:
    """Torch takes no read-only memory."""
    return array if array.flags.writeable else array.copy()


def _specs(named: tuple[TensorSpec, ...], found: list[Any], kind: str) -> tuple[TensorSpec, ...]:
    """The engine's own shapes under the artifact's names."""
    if len(named) != len(found):
        raise EngineError(f"the program has {len(found)} {kind}, the bundle names {len(named)}")
    specs = tuple(
        TensorSpec(spec.name, spec.dtype, tuple(int(size) for size in item.sizes()))
        for spec, item in zip(named, found, strict=True)
    )
    for spec in specs:
        if not is_plain(spec.dtype):
            raise EngineError(f"'{spec.name}' is {spec.dtype}, which this adapter does not feed")
    return specs


PLUGIN = ExecuTorch

"""The adapter to the Acme engine, which is onnx's own reference evaluator under another name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import edgekit.errors
from edgekit.contracts import Artifact, Feeds, NodePlacement, Outputs, Placement, Session, TensorSpec

from ._threads import checked

EngineError = edgekit.errors.EngineError


class Acme:
    """Opens ``onnx`` artifacts."""

    name = "acme"
    formats = ("onnx",)
    install = "pip install onnx"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options."""

        threads: int = 0

        def __post_init__(self) -> None:
            checked(self.threads)

    def version(self) -> str:
        """The engine's version."""
        try:
            import onnx
        except ImportError as error:
            raise EngineError("onnx is not installed", fix=f"Install it: {self.install}") from error
        return str(onnx.__version__)

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See edgekit.contracts.Runtime.open."""
        self.version()
        from onnx.reference import ReferenceEvaluator

        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        try:
            evaluator = ReferenceEvaluator(str(artifact.path))
        except Exception as error:
            raise EngineError(f"the Acme engine refuses {artifact.path.name}: {type(error).__name__}") from error
        return AcmeSession(evaluator, artifact)


class AcmeSession:
    """An open model."""

    def __init__(self, evaluator: Any, artifact: Artifact) -> None:
        self._evaluator = evaluator
        self._artifact = artifact

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the artifact says."""
        return self._artifact.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """As the artifact says."""
        return self._artifact.outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See edgekit.contracts.Session.run."""
        evaluator, ready = self._open(), self._ready(feeds)
        found = evaluator.run([spec.name for spec in self.outputs], ready)
        return {spec.name: np.array(value) for spec, value in zip(self.outputs, found, strict=True)}

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See edgekit.contracts.Session.bind."""
        evaluator, ready = self._open(), self._ready(feeds)
        return lambda: evaluator.run(None, ready)

    def placement(self) -> Placement:
        """Every node runs on the CPU."""
        nodes = self._open().rt_nodes_
        return Placement(tuple(NodePlacement(node.onnx_node.name, node.op_type, "CPU") for node in nodes))

    def in_force(self) -> dict[str, Any]:
        """One thread, always."""
        self._open()
        return {"threads": 1, "precision": "as the graph says"}

    def close(self) -> None:
        """Drop the model."""
        self._evaluator = None

    def _open(self) -> Any:
        if self._evaluator is None:
            raise EngineError("this session is closed")
        return self._evaluator

    def _ready(self, feeds: Feeds) -> dict[str, Any]:
        names = [spec.name for spec in self.inputs]
        for name in feeds:
            if name not in names:
                raise EngineError(f"the model has no input '{name}'")
        for spec in self.inputs:
            if spec.name not in feeds:
                raise EngineError(f"input '{spec.name}' ({spec}) was not fed")
            refused = spec.refuses(feeds[spec.name])
            if refused:
                raise EngineError(f"input {refused}")
        return dict(feeds)

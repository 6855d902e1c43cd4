"""What can say what an ONNX file means: three programs that share no code of operators.

``onnx.reference`` is numpy, written for clarity; ONNX Runtime runs with every graph optimization off; OpenVINO computes
in float32. Each has been wrong alone, so `agreement` asks more than one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import Artifact, Feeds, Outputs
from ..errors import EngineError
from ..graph import all_graphs
from ..runtimes.onnxruntime import OnnxRuntime
from ..runtimes.openvino import OpenVino

NAMES = ("onnx.reference", "onnxruntime", "openvino")
"""By the names that ``--reference`` takes."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """One of them with the file open."""

    name: str  # of `NAMES`
    title: str  # with its version: "ONNX Runtime 1.32.0 unoptimised"
    run: Callable[[Feeds], Outputs]  # feeds → fresh arrays; raises whatever the program raises


def open_evaluator(name: str, path: Path, *, deadline: float | None = None) -> Evaluator:
    """Open ``path`` in one of `NAMES`.

    Args:
        name: which.
        path: the ``.onnx`` file; external data lies in its folder.
        deadline: of `time.perf_counter`, after which ``onnx.reference`` starts no further node but raises
            `TooSlowError`; the others are not slow.

    Raises:
        EngineError: the program is not installed, or refuses the file; in its own words.
    """
    if name == "onnx.reference":
        return _reference_evaluator(path, deadline)
    if name == "onnxruntime":
        engine = OnnxRuntime()
        session = engine.open(_artifact(path), OnnxRuntime.Options(optimization="none"))
        return Evaluator(name, f"ONNX Runtime {engine.version()} unoptimised", session.run)
    _refuse_lengths(path)
    other = OpenVino()
    opened = other.open(_artifact(path), OpenVino.Options(precision="f32"))
    return Evaluator(name, f"OpenVINO {other.version()} fp32", opened.run)


def _refuse_lengths(path: Path) -> None:
    """OpenVINO 2026.4 ignores ``sequence_lens`` without a word: of such a graph it has no say.

    Raises:
        EngineError: the graph holds a recurrent operator with it.
    """
    import onnx_ir as ir

    for graph in all_graphs(ir.load(path)):
        for node in graph:
            if node.op_type in ("LSTM", "GRU", "RNN") and len(node.inputs) > 4 and node.inputs[4] is not None:
                raise EngineError(f"it ignores sequence_lens of {node.op_type} '{node.name or node.outputs[0].name}'")


def _artifact(path: Path) -> Artifact:
    return Artifact(path, "onnx", "fp32", (), ())


class TooSlowError(EngineError):
    """The deadline passed."""


def _reference_evaluator(path: Path, deadline: float | None) -> Evaluator:
    import onnx
    from onnx.reference import ReferenceEvaluator

    from .mended import MENDED

    try:
        evaluator: Any = ReferenceEvaluator(str(path), new_ops=list(MENDED))
    except Exception as error:
        raise EngineError(_words(error)) from error
    if deadline is not None:
        evaluator.rt_nodes_ = [_Timed(node, deadline) for node in evaluator.rt_nodes_]

    def run(feeds: Feeds) -> Outputs:
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():  # an overflow is an answer like any other
                warnings.simplefilter("ignore")
                found = evaluator.run(None, dict(feeds))
        except EngineError:
            raise
        except Exception as error:  # numpy code of a hundred operators
            raise EngineError(_words(error)) from error
        return {name: _array(value) for name, value in zip(evaluator.output_names, found, strict=True)}

    return Evaluator("onnx.reference", f"onnx.reference {onnx.__version__}", run)


def _words(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


def _array(value: Any) -> Any:
    """The evaluator answers a scalar as a Python or numpy scalar; a sequence stays a list, an empty optional None."""
    return value if isinstance(value, list) or value is None else np.array(value)


class _Timed:
    """A node of the evaluator that does not start after the deadline."""

    def __init__(self, node: Any, deadline: float) -> None:
        self._node = node
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if time.perf_counter() > self._deadline:
            raise TooSlowError("it is too slow")
        return self._node.run(*args, **kwargs)

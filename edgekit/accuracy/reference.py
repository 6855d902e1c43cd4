"""What an engine is compared with: PyTorch in float32, or for an ONNX source the ONNX reference evaluator.

Where that evaluator, which is written for clarity, lacks an operator or is too slow, ONNX Runtime with every graph
optimization off takes its place, and the name says so. It is never the session under test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contracts import Artifact, Feeds, Outputs
from ..errors import EngineError, SourceError
from ..runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    from ..sources.source import Source

SAMPLE_LIMIT_S = 1.0
"""The evaluator is given up where one sample takes longer: hundreds of samples are to come."""


SMALL_S = 0.05
"""A model that takes longer on one thread keeps PyTorch's own number of threads."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that is right by definition.

    Args:
        name: who computes, with its version, for the manifest: "PyTorch 2.13.0 fp32".
        run: feeds → outputs, fresh arrays.
    """

    name: str
    run: Callable[[Feeds], Outputs]


def reference_for(source: Source) -> Reference:
    """The reference of a source.

    Raises:
        SourceError: it is an ONNX file that neither the evaluator nor ONNX Runtime can run.
    """
    if source.kind != "onnx":
        import torch

        name = f"PyTorch {torch.__version__.split('+')[0]} fp32"
        return Reference(name, _on_fitting_threads(source.forward, source.example))
    if source.path is None:
        raise SourceError(f"{source.spec} is an ONNX source without a file")
    return onnx_reference(source.path, source.example)


def _on_fitting_threads(forward: Callable[[Feeds], Outputs], example: Feeds) -> Callable[[Feeds], Outputs]:
    """``forward`` on one thread where that is faster for this model on this machine now, else as PyTorch is set.

    PyTorch's threads wait for each other without sleeping: beside another busy process a small model is up to forty
    times slower on two threads than on one. The setting is the process', so it is put back after every run.
    """
    import torch

    many = torch.get_num_threads()

    def run_on(threads: int, feeds: Feeds) -> Outputs:
        torch.set_num_threads(threads)
        try:
            return forward(feeds)
        finally:
            torch.set_num_threads(many)

    def seconds_on(threads: int) -> float:
        start = time.perf_counter()
        run_on(threads, example)
        return time.perf_counter() - start

    if seconds_on(1) > SMALL_S:  # this first run also warms up; a large model gains by threads
        return forward
    alone, together = (min(seconds_on(threads) for _ in range(3)) for threads in (1, many))
    return (lambda feeds: run_on(1, feeds)) if alone <= 1.2 * together else forward


def onnx_reference(path: Path, example: Feeds, *, limit_s: float = SAMPLE_LIMIT_S) -> Reference:
    """The reference for an ONNX file, tried on ``example``.

    Args:
        path: the file; external data lies in its folder.
        example: one sample, to find out whether the evaluator has every operator, and how long it takes.
        limit_s: what one sample may take. It is looked at between nodes, so one slow node may exceed it.

    Raises:
        SourceError: neither the evaluator nor ONNX Runtime can run it.
    """
    import onnx

    try:
        run = _evaluator(path, time.perf_counter() + limit_s)
        run(example)
    except _TooSlowError:
        reason = f"onnx.reference needs over {limit_s:g} s a sample"
    except Exception as error:  # noqa: BLE001 (numpy code of a hundred operators: whatever it raises, it cannot run this)
        reason = f"onnx.reference cannot run it: {type(error).__name__}"
    else:
        return Reference(f"onnx.reference {onnx.__version__}", _evaluator(path, None))
    return _unoptimised(path, example, reason)


def _evaluator(path: Path, deadline: float | None) -> Callable[[Feeds], Outputs]:
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(str(path))
    if deadline is not None:
        evaluator.rt_nodes_ = [_Timed(node, deadline) for node in evaluator.rt_nodes_]

    def run(feeds: Feeds) -> Outputs:
        with np.errstate(all="ignore"):  # an overflow is an answer like any other
            found = evaluator.run(None, dict(feeds))
        return {name: _array(value) for name, value in zip(evaluator.output_names, found, strict=True)}

    return run


def _array(value: Any) -> Any:
    """The evaluator answers a scalar as a Python or numpy scalar; a sequence stays a list, an empty optional None."""
    return value if isinstance(value, list) or value is None else np.array(value)


class _TooSlowError(Exception):
    """The deadline passed."""


class _Timed:
    """A node of the evaluator that does not start after the deadline."""

    def __init__(self, node: Any, deadline: float) -> None:
        self._node = node
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if time.perf_counter() > self._deadline:
            raise _TooSlowError
        return self._node.run(*args, **kwargs)


def _unoptimised(path: Path, example: Feeds, reason: str) -> Reference:
    runtime = OnnxRuntime()
    try:
        session = runtime.open(Artifact(path, "onnx", "fp32", (), ()), OnnxRuntime.Options(optimization="none"))
        session.run(example)
    except EngineError as error:
        raise SourceError(
            f"{path.name} has no reference to compare with", details=[reason, str(error)], fix="Check the file."
        ) from error
    return Reference(f"ONNX Runtime {runtime.version()} unoptimised ({reason})", session.run)
